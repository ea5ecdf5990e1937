"""What a DATABASE_URL says."""

from pathlib import Path

import pytest

from agent_mail_core import database_urls
from agent_mail_core.database_urls import engine, sqlite_path
from agent_mail_core.settings_errors import SettingsError


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


@pytest.mark.parametrize(
    "url",
    ["postgresql://u:sek#ret@h/db", "postgresql://u:se/kret@h/db", "postgresql://u@h:abc/db", "postgresql://[::1/db"],
)
def test_a_malformed_url_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(SettingsError) as refused:
        database_urls.check(url)
    assert "sek" not in str(refused.value)
    assert "ret" not in str(refused.value)


@pytest.mark.parametrize(
    "url",
    ["postgresql://postgres@/db?host=/tmp/x&port=5432", "postgresql://u:p%23@h:5432/db", "sqlite:///x.db", "x.db"],
)
def test_a_url_that_can_be_right_is_let_through(url: str) -> None:
    database_urls.check(url)
