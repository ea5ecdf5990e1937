"""Tables of the docs say what the code says."""

import pytest

from tests.repo.sources import ROOT
from tools.write_docs import PAGES


@pytest.mark.parametrize("name", PAGES)
def test_a_generated_page_is_current(name: str) -> None:
    written = (ROOT / "docs" / name).read_text(encoding="utf-8")
    assert written == PAGES[name](), "run `python tools/write_docs.py`"
