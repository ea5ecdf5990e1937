"""Settings as people may see them: secrets masked, the password inside a URL too."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from pydantic import SecretStr

from agent_mail_core.settings import Settings, names

MASK = "********"
URLS = ("database_url", "redis_url")
_SECRET_PARAMETERS = ("password", "sslpassword", "passfile", "sentinel_password")


def shown(settings: Settings) -> dict[str, Any]:
    """Environment name → value."""
    values: dict[str, Any] = {}
    for name, field in names().items():
        value = getattr(settings, field)
        if field in URLS and value is not None:
            value = without_password(value.get_secret_value())
        elif isinstance(value, SecretStr):
            value = MASK
        values[name] = list(value) if isinstance(value, tuple) else value
    return values


def without_password(url: str) -> str:
    """A URL with its password masked, wherever it stands."""
    if "://" not in url or url.startswith("sqlite:"):
        return url
    try:
        parts = urlsplit(url)
    except ValueError:
        return MASK
    place = parts.netloc
    if "@" in url and "@" not in place:  # a password with a / or # ends the host early
        return f"{parts.scheme}://{MASK}"
    if "@" in place:
        user, _, host = place.rpartition("@")
        place = f"{user.partition(':')[0]}:{MASK}@{host}" if ":" in user else place
    query = parts.query
    if query:
        pairs = parse_qsl(query, keep_blank_values=True)
        query = urlencode([(name, MASK if name in _SECRET_PARAMETERS else value) for name, value in pairs], safe="*/")
    return parts._replace(netloc=place, query=query).geturl()


def as_json(settings: Settings) -> str:
    """As one JSON object."""
    return json.dumps(shown(settings), indent=2, ensure_ascii=False)


def as_table(settings: Settings) -> str:
    """One setting a line."""
    values = shown(settings)
    width = max(len(name) for name in values)
    return "\n".join(f"{name:<{width}}  {_text(value)}" for name, value in values.items())


def _text(value: Any) -> str:
    if value is None or value == []:
        return "–"
    if isinstance(value, list):
        return ", ".join(str(item) for item in value)
    return str(value).lower() if isinstance(value, bool) else str(value)
