"""What a browser may do with this server: Host and Origin checks, CORS for named origins, and the security headers.

The Host check stops DNS rebinding, the Origin check stops pages of other sites; together they are why AUTH_MODE=none is
safe on a developer's machine.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from agent_mail_core.errors import ForbiddenOrigin, MalformedRequest, UnknownHost
from agent_mail_core.settings import Settings
from agent_mail_server.http_request import Answer, Headers

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")
DECIDING = (b"host", b"origin", b"authorization", b"content-type", b"content-length", b"idempotency-key")
REMEMBERED = 256
"""How many accepted Host values are kept, so that each is judged once."""

COMMON_HEADERS: Headers = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
]
API_HEADERS: Headers = [
    *COMMON_HEADERS,
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cache-control", b"no-store"),
]
"""On every answer that is data."""

API_HEADER_NAMES = frozenset(name for name, _ in API_HEADERS)

PAGE_HEADERS: Headers = [
    *COMMON_HEADERS,
    (
        b"content-security-policy",
        b"default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; base-uri 'none'; form-action 'self';"
        b" frame-ancestors 'none'",
    ),
    (b"cache-control", b"no-cache"),
]
"""On pages and their assets: all from this server, nothing inline."""

CORS_METHODS = b"GET, HEAD, POST, DELETE"
CORS_HEADERS = (
    b"Authorization, Content-Type, Idempotency-Key, Last-Event-ID, Mcp-Method, Mcp-Name, Mcp-Protocol-Version,"
    b" Mcp-Session-Id, X-Request-Id"
)
CORS_EXPOSED = b"Mcp-Session-Id, RateLimit, RateLimit-Policy, Retry-After, X-Request-Id"


class Guard:
    """Refuses requests that a foreign page, or a name that is not ours, could have made."""

    def __init__(self, settings: Settings) -> None:
        own = (_bracketed(settings.host),)
        self._hosts = frozenset(name.lower() for name in settings.allowed_hosts or (*LOOPBACK_NAMES, *own))
        self._origins = frozenset(origin.lower().rstrip("/").encode() for origin in settings.allowed_origins)
        self._accepted: set[bytes] = set()

    def check_once(self, headers: Headers) -> None:
        """Raise MalformedRequest when a header that decides something comes twice: a proxy might read the other one."""
        names = [name for name, _ in headers]
        for name in DECIDING:
            if names.count(name) > 1:
                raise MalformedRequest(f"The header {name.decode()} is sent more than once.")

    def check(self, headers: dict[bytes, bytes]) -> None:
        """Raise UnknownHost or ForbiddenOrigin. A request without Origin is no browser's cross-site request."""
        host = headers.get(b"host", b"")
        if host not in self._accepted:
            self._check_host(host)
        origin = headers.get(b"origin")
        if origin is not None and origin.lower() not in self._origins and not _is_same_host(origin, host):
            raise ForbiddenOrigin(origin=origin[:200].decode("latin-1"))

    def _check_host(self, host: bytes) -> None:
        try:
            name = host.decode("ascii").lower()
        except UnicodeDecodeError:
            name = ""
        bare, colon, port = name.rpartition(":")
        without_port = bare if colon and port.isdigit() else name
        if not name or (name not in self._hosts and without_port not in self._hosts):
            raise UnknownHost(host=host[:200].decode("latin-1"))
        if len(self._accepted) < REMEMBERED:
            self._accepted.add(host)

    def cors_headers(self, headers: dict[bytes, bytes]) -> Headers:
        """What lets a page of a named origin read the answer; nothing for other requests."""
        if not self._origins:
            return []
        origin = headers.get(b"origin")
        if origin is None or origin.lower() not in self._origins:
            return [(b"vary", b"Origin")]
        return [
            (b"access-control-allow-origin", origin),
            (b"access-control-expose-headers", CORS_EXPOSED),
            (b"vary", b"Origin"),
        ]

    def preflight(self, method: str, headers: dict[bytes, bytes]) -> Answer | None:
        """The answer to a browser that asks before it calls from a named origin; None for other requests."""
        if method != "OPTIONS" or b"access-control-request-method" not in headers:
            return None
        if headers.get(b"origin", b"").lower() not in self._origins:
            return None
        allowed: Headers = [
            (b"access-control-allow-methods", CORS_METHODS),
            (b"access-control-allow-headers", CORS_HEADERS),
            (b"access-control-max-age", b"600"),
        ]
        return Answer(204, b"", headers=allowed)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def _is_same_host(origin: bytes, host: bytes) -> bool:
    try:
        parts = urlsplit(origin.decode("ascii"))
    except (UnicodeDecodeError, ValueError):
        return False
    return parts.scheme in ("http", "https") and bool(parts.netloc) and parts.netloc.lower() == host.decode().lower()
