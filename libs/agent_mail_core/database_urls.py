"""What a DATABASE_URL says: which engine, and for SQLite which file. The one place that reads it.

Four forms: `sqlite:///relative/path`, `sqlite:////absolute/path`, a bare path, and `postgresql://…` (or `postgres://…`),
which is handed to the driver as it is. A SQLite path is taken literally: nothing in it is decoded or expanded.
"""

import re
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from agent_mail_core.settings_errors import SettingsError

Engine = Literal["sqlite", "postgres"]

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_POSTGRES = ("postgresql://", "postgres://")
_SQLITE = "sqlite:///"


def engine(database_url: str) -> Engine:
    """The engine that a URL names; SettingsError when it names neither."""
    if database_url.startswith(_POSTGRES):
        return "postgres"
    sqlite_path(database_url)
    return "sqlite"


def check(database_url: str) -> None:
    """Raise SettingsError for a URL that cannot be right; the message holds nothing of it."""
    if engine(database_url) == "sqlite":
        return
    try:
        parts = urlsplit(database_url)
        is_split = "@" in database_url and "@" not in parts.netloc and "host=" not in parts.query
        _ = parts.port
    except ValueError:
        raise SettingsError("DATABASE_URL: its host or port is malformed") from None
    if is_split:
        raise SettingsError("DATABASE_URL: write / # ? @ : in a password as %2F %23 %3F %40 %3A")


def sqlite_path(database_url: str) -> Path:
    """The file of a SQLite URL or bare path, below the working directory unless absolute; SettingsError for others."""
    path = database_url.removeprefix(_SQLITE)
    if path == database_url and _SCHEME.match(database_url):
        raise SettingsError("DATABASE_URL: must be sqlite:///relative, sqlite:////absolute, a path, or postgresql://…")
    if path in ("", ":memory:") or "\0" in path:
        raise SettingsError("DATABASE_URL: SQLite needs the path of a file, as in sqlite:///data/mail.db")
    return Path(path)
