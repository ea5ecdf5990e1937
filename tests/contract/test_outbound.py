"""Calls to the outside, on real sockets: what misbehaves costs a few seconds, and what is inside is never called."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from agent_mail_core.outbound import NotAnswered
from agent_mail_outbound import http_outbound
from agent_mail_outbound.http_outbound import HttpOutbound, Timeouts
from tests.contract.stand_in import CLOSED, FAULTS, HANG, http
from tests.contract.webhook_receiver import TAKEN, Receiver, receiver
from tests.deploy.certificates import Authority

LOOPBACK = ("127.0.0.0/8",)
HASTY = Timeouts(total=1.0, connect=0.5, last_words=0.2)


@asynccontextmanager
async def calling(
    allowed: tuple[str, ...] = LOOPBACK, trusted: ssl.SSLContext | None = None
) -> AsyncIterator[HttpOutbound]:
    outbound = HttpOutbound(allowed, trusted, HASTY)
    try:
        yield outbound
    finally:
        outbound.close()


async def refusal(outbound: HttpOutbound, url: str) -> str:
    with pytest.raises(NotAnswered) as caught:
        await outbound.post(url, {}, b"{}")
    return str(caught.value)


# --- answers ----------------------------------------------------------------------------------------------------------


async def test_it_posts_what_it_is_given_and_says_the_status(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1/")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1/")
    async with receiver() as there, calling() as outbound:
        answer = await outbound.post(f"{there.url}?a=b", {"x-one": "two"}, b'{"a": 1}')
        (call,) = there.received
    assert (answer.status_code, answer.retry_after) == (204, None)
    assert (call.path, call.body) == ("/hook?a=b", b'{"a": 1}')
    assert call.headers["x-one"] == "two"
    assert call.headers["host"] == f"127.0.0.1:{there.port}"
    assert call.headers["accept-encoding"] == "identity"


@pytest.mark.parametrize("said, understood", [("120", 120), ("soon", None), ("-1", None), ("9" * 400, None)])
async def test_it_says_when_to_come_back(said: str, understood: int | None) -> None:
    async with receiver() as there, calling() as outbound:
        there.answers(http(b"", "429 Later", f"Retry-After: {said}"))
        answer = await outbound.post(there.url, {}, b"{}")
    expected = timedelta(seconds=understood) if understood is not None else None
    assert (answer.status_code, answer.retry_after) == (429, expected)


BODIES = {**FAULTS, "too large": http(b" " * 300_000)}
STATUSES = {"500": 500, "redirect": 307, "too large": 200, "endless": 200, "half a body": 200, "compressed": 200}


@pytest.mark.parametrize("fault", STATUSES)
async def test_the_status_counts_whatever_the_body(fault: str) -> None:
    async with receiver() as there, calling() as outbound:
        there.answers(BODIES[fault])
        answer = await outbound.post(there.url, {}, b"{}")
        assert answer.status_code == STATUSES[fault]
        assert there.connections == 1, "a redirect is not followed, and nothing is sent twice"


SLOW_HEAD = b"HTTP/1.1 200 OK\r\nX-Slow: "
FLOODS = {
    "hangs": (HANG, "no answer in time"),
    "slow head": (SLOW_HEAD, "not an HTTP answer"),
    "closes": (CLOSED, "not an HTTP answer"),
    "no HTTP": (b"220 mail ready\r\n\r\n", "not an HTTP answer"),
    "endless head": (SLOW_HEAD + b"x" * 1_000_000, "not an HTTP answer"),
    "interim answers": (b"HTTP/1.1 102 Processing\r\n\r\n" * 500_000, "no answer in time"),
}


@pytest.mark.parametrize("fault", FLOODS)
async def test_what_is_no_answer_is_told_in_words(fault: str) -> None:
    says, expected = FLOODS[fault]
    async with receiver() as there, calling() as outbound:
        there.answers(says)
        began = asyncio.get_running_loop().time()
        assert await refusal(outbound, there.url) == expected
        assert asyncio.get_running_loop().time() - began < 3


async def test_a_reset_and_a_closed_port_are_told_in_words() -> None:
    def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        linger = b"\x01\x00\x00\x00\x00\x00\x00\x00"
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.transport.abort()

    server = await asyncio.start_server(reset, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with calling() as outbound:
        assert await refusal(outbound, f"http://127.0.0.1:{port}/") in ("the connection broke", "not an HTTP answer")
        server.close()
        await server.wait_closed()
        assert await refusal(outbound, f"http://127.0.0.1:{port}/") == "no connection"


# --- addresses --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]"])
async def test_what_is_inside_is_not_even_connected_to(scheme: str, host: str) -> None:
    async with receiver() as there, calling(allowed=()) as outbound:
        assert await refusal(outbound, f"{scheme}://{host}:{there.port}/") == REFUSED
        assert there.connections == 0


REFUSED = "the address is refused: it is private or reserved"
Resolve = Callable[..., list[str]]


def resolving(monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> list[str]:
    """In the place of DNS: each question gets the next answer; what was asked."""
    asked: list[str] = []

    def answer(host: str) -> list[str]:
        asked.append(host)
        return answers[min(len(asked), len(answers)) - 1]

    monkeypatch.setattr(http_outbound, "_resolved", answer)
    return asked


async def test_a_name_is_resolved_once_so_that_it_cannot_change_its_mind(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = resolving(monkeypatch, ["127.0.0.1"], ["127.0.0.2"])
    async with receiver() as there, calling(allowed=("127.0.0.1",)) as outbound:
        url = f"http://hooks.example:{there.port}/hook"
        assert (await outbound.post(url, {}, b"{}")).status_code == 204
        assert asked == ["hooks.example"]
        assert there.received[0].headers["host"] == f"hooks.example:{there.port}"
        assert await refusal(outbound, url) == REFUSED, "by the next call it leads elsewhere"
        assert there.connections == 1


async def test_one_refused_address_among_several_refuses_all(monkeypatch: pytest.MonkeyPatch) -> None:
    resolving(monkeypatch, ["127.0.0.1", "10.0.0.1"])
    async with receiver() as there, calling() as outbound:
        assert await refusal(outbound, f"http://hooks.example:{there.port}/") == REFUSED
        assert there.connections == 0


async def test_of_several_addresses_the_next_is_tried_when_one_does_not_listen(monkeypatch: pytest.MonkeyPatch) -> None:
    resolving(monkeypatch, ["127.0.0.9", "127.0.0.1"])
    async with receiver() as there, calling() as outbound:
        assert (await outbound.post(f"http://hooks.example:{there.port}/", {}, b"{}")).status_code == 204


async def test_a_name_without_an_address_is_told_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(host: str) -> list[str]:
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    async with calling() as outbound:
        monkeypatch.setattr(http_outbound, "_resolved", nothing)
        assert await refusal(outbound, "https://hooks.example/") == "the name was not found"
        resolving(monkeypatch, [])
        assert await refusal(outbound, "https://hooks.example/") == "the name has no address"


# --- TLS --------------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def secure_receiver(folder: Path, address: str) -> AsyncIterator[tuple[Receiver, ssl.SSLContext]]:
    """A receiver with a certificate for an address, and what trusts its authority."""
    authority = Authority(folder, "authority")
    certificate, key = authority.issue("receiver", address)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    async with receiver(context) as there:
        yield there, ssl.create_default_context(cafile=str(authority.file))


@pytest.mark.parametrize("host", ["127.0.0.1", "hooks.example"])
async def test_a_certificate_for_what_is_called_is_taken(
    host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolving(monkeypatch, ["127.0.0.1"])
    async with secure_receiver(tmp_path, host) as (there, trusted), calling(trusted=trusted) as outbound:
        there.answers(TAKEN)
        answer = await outbound.post(f"https://{host}:{there.port}/hook", {}, b"{}")
        assert answer.status_code == 204
        assert there.received[0].headers["host"] == f"{host}:{there.port}"


async def test_a_certificate_must_be_for_the_name_that_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolving(monkeypatch, ["127.0.0.1"])
    async with secure_receiver(tmp_path, "127.0.0.1") as (there, trusted), calling(trusted=trusted) as outbound:
        told = await refusal(outbound, f"https://hooks.example:{there.port}/hook")
        assert told.startswith("its certificate is refused: Hostname mismatch")
        assert there.received == []


async def test_a_certificate_of_an_unknown_authority_is_refused(tmp_path: Path) -> None:
    async with secure_receiver(tmp_path, "127.0.0.1") as (there, _), calling() as outbound:
        told = await refusal(outbound, f"https://127.0.0.1:{there.port}/hook")
        assert told.startswith("its certificate is refused")
        assert there.received == []


async def test_what_speaks_no_tls_is_told_in_words() -> None:
    async with receiver() as there, calling() as outbound:
        assert await refusal(outbound, f"https://127.0.0.1:{there.port}/hook") in (
            "no TLS connection",
            "no answer in time",
        )
