"""REDIS_URL: what it may look like, and the connections that it stands for.

redis://[user:password@]host[:port][/db]                    rediss://… with TLS (`?ssl_ca_certs=FILE`)
redis+sentinel://[user:password@]host[:port],…/service[?db=0&sentinel_user=…&sentinel_password=…]
rediss+sentinel://…                                         with TLS to the servers and the sentinels
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool

MakeConnection = Callable[[], AbstractConnection]

SENTINEL_PORT = 26379
SENTINEL_TIMEOUT = 0.5

OURS: dict[str, Any] = {"decode_responses": False, "protocol": 2, "socket_timeout": None, "health_check_interval": 0}
"""What a URL may not say otherwise: replies are read as they come, and links keep their own time."""


@dataclass(frozen=True, slots=True)
class Server:
    """What a URL names. Its connections are made one by one, not yet connected; the pool only knows how."""

    pool: ConnectionPool
    sentinel: Sentinel | None = None

    def make_connection(self) -> AbstractConnection:
        """A connection to the server, or to whichever the sentinels say."""
        connection: AbstractConnection = self.pool.make_connection()  # type: ignore[no-untyped-call]
        return connection

    async def close(self) -> None:
        """Let go of the connections to the sentinels."""
        for client in self.sentinel.sentinels if self.sentinel else ():
            await client.aclose()


def server(url: str, client_name: str) -> Server:
    """What a URL names. Raises ValueError that says what is wrong."""
    scheme = urlsplit(url).scheme
    if scheme in ("redis", "rediss", "unix"):
        pool = ConnectionPool.from_url(url, client_name=client_name)
        pool.connection_kwargs.update(OURS)
        if scheme == "rediss":
            pool.connection_kwargs.setdefault("ssl_check_hostname", True)  # the library's default is not to
        return Server(pool)
    if scheme in ("redis+sentinel", "rediss+sentinel"):
        return _sentinel(url, client_name)
    raise ValueError("must begin with redis://, rediss://, redis+sentinel:// or rediss+sentinel://")


def _sentinel(url: str, client_name: str) -> Server:
    parts = urlsplit(url)
    credentials, _, hosts = parts.netloc.rpartition("@")
    user, _, password = credentials.partition(":")
    options: dict[str, str] = dict(parse_qsl(parts.query))
    service = unquote(parts.path.strip("/"))
    if not service or not hosts:
        raise ValueError("must name sentinels and a service: redis+sentinel://host:26379,host:26379/service")
    tls: dict[str, Any] = {name: value for name, value in options.items() if name.startswith("ssl_")}
    tls = {"ssl": True, "ssl_check_hostname": True, **tls} if parts.scheme.startswith("rediss") else tls
    sentinel = Sentinel(  # type: ignore[no-untyped-call]
        [_host(host) for host in hosts.split(",")],
        sentinel_kwargs={
            "username": options.get("sentinel_user"),
            "password": options.get("sentinel_password"),
            "socket_timeout": SENTINEL_TIMEOUT,
            "socket_connect_timeout": SENTINEL_TIMEOUT,
            **tls,
        },
    )
    pool = SentinelConnectionPool(  # type: ignore[no-untyped-call]
        service,
        sentinel,
        username=unquote(user) or None,
        password=unquote(password) or None,
        db=int(options.get("db", "0")),
        client_name=client_name,
        **OURS,
        **tls,
    )
    return Server(pool, sentinel)


def _host(text: str) -> tuple[str, int]:
    """`host`, `host:port` or `[address]:port`."""
    parts = urlsplit(f"//{text}")
    if not parts.hostname:
        raise ValueError(f"{text!r} is not a sentinel's host:port")
    return parts.hostname, parts.port or SENTINEL_PORT
