"""Relative links of the documents lead somewhere."""

import re
from pathlib import Path

from tests.repo.sources import ROOT

DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
LINK = re.compile(
    r"\]\(\s*<?([^)>\s]+)>?(?:\s+\"[^\"]*\")?\s*\)|^\[[^\]]+\]:\s*(\S+)|\b(?:src|href)=\"([^\"]+)\"", re.MULTILINE
)
CODE = re.compile(r"^( *)(```+|~~~+).*?^\1\2|`[^`\n]*`", re.MULTILINE | re.DOTALL)


def broken_links(document: Path) -> list[str]:
    """The relative links of a document, outside code, whose file is missing."""
    found = [next(filter(None, groups)) for groups in LINK.findall(CODE.sub("", document.read_text(encoding="utf-8")))]
    relative = [link.split("#")[0] for link in found if not re.match(r"[a-z][a-z+.-]*:|#|//", link)]
    return [link for link in relative if not (document.parent / link).exists()]


def test_relative_links_of_the_documents_lead_somewhere() -> None:
    assert DOCUMENTS
    assert {str(path.relative_to(ROOT)): broken for path in DOCUMENTS if (broken := broken_links(path))} == {}
