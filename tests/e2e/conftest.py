"""Servers for end-to-end tests: one `agent-mail serve` process per test, on a database of its own."""

from collections.abc import Iterator

import pytest

from tests.e2e.serving import Serving, serving

ENGINES = ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)]


@pytest.fixture(params=ENGINES)
def database_url(request: pytest.FixtureRequest) -> str:
    """A migrated, empty database of each engine."""
    url: str = request.getfixturevalue(f"fresh_{request.param}")
    return url


@pytest.fixture
def server(database_url: str) -> Iterator[Serving]:
    """A server with default settings."""
    with serving(database_url) as running:
        yield running
