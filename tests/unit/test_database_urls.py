"""What a DATABASE_URL says."""

from pathlib import Path

import pytest

from agent_mail_core.database_urls import engine, sqlite_path
from agent_mail_core.settings import SettingsError


@pytest.mark.parametrize(
    "url, path",
    [
        ("sqlite:///data/mail.db", "data/mail.db"),
        ("sqlite:////srv/mail.db", "/srv/mail.db"),
        ("data/mail.db", "data/mail.db"),
        ("/srv/my mail.db", "/srv/my mail.db"),
        ("sqlite:///a%20b?c#d.db", "a%20b?c#d.db"),
    ],
)
def test_a_sqlite_url_or_a_bare_path_names_a_file(url: str, path: str) -> None:
    assert engine(url) == "sqlite"
    assert sqlite_path(url) == Path(path)


@pytest.mark.parametrize("url", ["postgresql://user:secret@host/mail", "postgres:///mail?host=/run"])
def test_a_postgres_url_names_a_server(url: str) -> None:
    assert engine(url) == "postgres"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "sqlite://",
        "sqlite:///",
        "sqlite://data/mail.db",
        ":memory:",
        "sqlite:///:memory:",
        "mysql://host/db",
        "file:x",
    ],
)
def test_all_else_is_refused(url: str) -> None:
    with pytest.raises(SettingsError, match="DATABASE_URL"):
        engine(url)
