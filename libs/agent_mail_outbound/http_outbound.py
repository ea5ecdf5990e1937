"""Posting to an address outside with httpx: resolved once, every address checked, connected to exactly those.

httpx is given the IP address in the place of the name, which stays in Host, in TLS' server name and in what the
certificate must say. So nobody resolves it a second time, and a name that changes its mind in between gains nothing.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import Any

import httpx

from agent_mail_core.outbound import NotAnswered, Outbound, OutboundAnswer
from agent_mail_core.webhook_addresses import may_reach

TOTAL_SECONDS = 15.0
"""Standard Webhooks recommends 15 to 30 s; each of them is a job's place that others wait for."""

CONNECT_SECONDS = 5.0
LAST_WORDS_SECONDS = 1.0
"""For the body of an answer whose status is known: whoever is still writing it should not see the connection break."""

MOST_BODY_BYTES = 4096
MOST_ADDRESSES = 4
RESOLVING_AT_ONCE = 4
LONGEST_RETRY_AFTER = 10**6


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds."""

    total: float = TOTAL_SECONDS
    connect: float = CONNECT_SECONDS
    last_words: float = LAST_WORDS_SECONDS


class HttpOutbound(Outbound):
    """Calls public addresses over TLS, and those of the allowed networks anyhow. Close it at the end."""

    def __init__(
        self, allowed_networks: Sequence[str], trusted: ssl.SSLContext | None = None, timeouts: Timeouts | None = None
    ) -> None:
        self._allowed = allowed_networks
        self._trusted = trusted
        self._timeouts = timeouts or Timeouts()
        self._resolving = ThreadPoolExecutor(RESOLVING_AT_ONCE, "resolving")  # no thread before there is a name

    def close(self) -> None:
        """Begin no more look-ups of names."""
        self._resolving.shutdown(wait=False, cancel_futures=True)

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> OutboundAnswer:
        try:
            async with asyncio.timeout(self._timeouts.total):
                return await self._posted(url, headers, body)
        except (TimeoutError, httpx.TimeoutException):
            raise NotAnswered("no answer in time") from None
        except httpx.TransportError as error:
            raise NotAnswered(_told(error)) from None
        except httpx.InvalidURL:
            raise NotAnswered("not a URL that can be called") from None

    async def _posted(self, url: str, headers: Mapping[str, str], body: bytes) -> OutboundAnswer:
        named = httpx.URL(url)
        addresses = await self._addresses(named)
        async with self._client() as client:
            for address in addresses[:-1]:
                with suppress(httpx.ConnectError, httpx.ConnectTimeout):
                    return await self._once(client, named, address, headers, body)
            return await self._once(client, named, addresses[-1], headers, body)

    async def _addresses(self, named: httpx.URL) -> list[str]:
        """Where the name leads. Raises NotAnswered when that is nowhere, or when one of the addresses is refused."""
        is_encrypted = named.scheme == "https"
        try:
            host = named.raw_host.decode("ascii")
            found = await asyncio.get_running_loop().run_in_executor(self._resolving, _resolved, host)
        except (OSError, UnicodeError):
            raise NotAnswered("the name was not found") from None
        if not found:
            raise NotAnswered("the name has no address")
        if not all(may_reach(address, is_encrypted, self._allowed) for address in found):
            raise NotAnswered("the address is refused: it is private or reserved")
        return found[:MOST_ADDRESSES]

    def _client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            verify=self._context,
            timeout=httpx.Timeout(self._timeouts.total, connect=self._timeouts.connect),
            follow_redirects=False,
            trust_env=False,
            limits=httpx.Limits(max_connections=1, max_keepalive_connections=0),
        )

    @cached_property
    def _context(self) -> ssl.SSLContext:
        """Made once: reading the authorities takes some ten milliseconds."""
        return self._trusted or httpx.create_ssl_context(trust_env=False)

    async def _once(
        self, client: httpx.AsyncClient, named: httpx.URL, address: str, headers: Mapping[str, str], body: bytes
    ) -> OutboundAnswer:
        request = client.build_request(
            "POST",
            named.copy_with(host=address),
            headers={
                **headers,
                "host": named.netloc.decode("ascii"),
                "accept-encoding": "identity",
                "connection": "close",
            },
            content=body,
            extensions={"sni_hostname": named.raw_host.decode("ascii")},
        )
        response = await client.send(request, stream=True)
        try:
            await self._let_it_finish(response)
        finally:
            await response.aclose()
        return OutboundAnswer(response.status_code, _retry_after(response))

    async def _let_it_finish(self, response: httpx.Response) -> None:
        """Read a little of a body that nobody wants; the status is known, so nothing that goes wrong here counts."""
        size = 0
        with suppress(TimeoutError, httpx.TransportError):
            async with asyncio.timeout(self._timeouts.last_words):
                async for chunk in response.aiter_raw():
                    size += len(chunk)
                    if size > MOST_BODY_BYTES:
                        return


def _resolved(host: str) -> list[str]:
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def _retry_after(response: httpx.Response) -> timedelta | None:
    said = response.headers.get("retry-after", "")
    if not (said.isascii() and said.isdigit() and len(said) < 10):  # a date is not understood
        return None
    return timedelta(seconds=min(int(said), LONGEST_RETRY_AFTER))


def _told(error: httpx.TransportError) -> str:
    """Why, in words that name no address."""
    cause: Any = error.__cause__
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its certificate is refused: {cause.verify_message}"
        if isinstance(cause, ssl.SSLError):
            return "no TLS connection"
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, httpx.ConnectError):
        return "no connection"
    return "the connection broke" if isinstance(error, httpx.NetworkError) else "not an HTTP answer"
