"""Attachments over REST and MCP: as JSON, as a form, as a download that no browser runs."""

import asyncio
import base64
import hashlib
import os
from typing import Any

import httpx
import pytest
from starlette.types import Message

from agent_mail_server import downloads, streaming, uploads
from agent_mail_server.mcp_tools import LARGEST_FILE
from tests.wire.server import Place, Served, client_of, error_of, fleet, furnish, post
from tests.wire.streaming import streamed
from tests.wire.tools import call_tool

PLAN = b"# Plan\n"
ABOUT = {"project_slug": "shop", "agent_name": "Ann"}


def encoded(content: bytes = PLAN) -> str:
    return base64.b64encode(content).decode()


async def form(client: httpx.AsyncClient, content: bytes = PLAN, name: str = "plan.md", **more: Any) -> httpx.Response:
    fields = {**ABOUT, **more}
    return await client.post("/api/attachment/add", data=fields, files={"file": (name, content, "text/markdown")})


async def test_the_same_bytes_come_back_over_every_way(place: Place) -> None:
    content = os.urandom(200_000) + b"\r\n--boundary\r\n" + PLAN
    async with fleet(place) as server, client_of(server) as client:
        await furnish(client, "Ann")
        as_json = await post(client, "attachment/add", **ABOUT, file_name="plan.md", content_base64=encoded(content))
        as_form = await form(client, content)
        assert as_form.status_code == 201
        over_mcp = await call_tool(
            client, "add_attachment", {**ABOUT, "file_name": "plan.md", "content_base64": encoded(content)}
        )
        for added in (as_json, as_form.json(), over_mcp):
            assert (added["size"], added["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
            response = await client.get(f"/api/attachment/{added['attachment_id']}")
            assert (response.status_code, response.content) == (200, content)
            found = await call_tool(client, "get_attachment", {"attachment_id": added["attachment_id"]})
            assert base64.b64decode(found["content_base64"]) == content
            assert found["file_name"] == "plan.md"


async def test_the_largest_file_fits_both_ways(fresh_sqlite: str) -> None:
    content = os.urandom(10 * 1024 * 1024)
    async with fleet(Place(fresh_sqlite)) as server, client_of(server) as client:
        await furnish(client, "Ann")
        added = await post(client, "attachment/add", **ABOUT, file_name="a", content_base64=encoded(content))
        assert (await form(client, content)).status_code == 201
        assert (await client.get(f"/api/attachment/{added['attachment_id']}")).content == content
        response = await form(client, content + b"x")
        assert (response.status_code, error_of(response)["code"]) == (413, "attachment_too_large")
        response = await form(client, content * 2)
        assert (response.status_code, error_of(response)["code"]) == (413, "too_large")


async def test_a_download_is_only_ever_a_download(place: Place) -> None:
    async with fleet(place) as server, client_of(server) as client:
        await furnish(client, "Ann")
        for name, media_type, served in (
            ("x.html", "text/html", "application/octet-stream"),
            ("x.svg", "image/svg+xml", "application/octet-stream"),
            ("x.png", "image/png", "image/png"),
        ):
            added = await post(
                client, "attachment/add", **ABOUT, file_name=name, media_type=media_type, content_base64=encoded()
            )
            assert added["media_type"] == media_type
            headers = (await client.get(f"/api/attachment/{added['attachment_id']}")).headers
            assert headers["content-type"] == served
            assert headers["content-disposition"] == f'attachment; filename="{name}"'
            assert headers["x-content-type-options"] == "nosniff"
            assert "sandbox" in headers["content-security-policy"]
            assert headers["etag"] == f'"{added["sha256"]}"'
            assert headers["cache-control"] == "private, no-cache"


@pytest.mark.parametrize(
    "name, disposition",
    [
        ('a"b\\c.txt', 'attachment; filename="c.txt"'),
        ("東京 %41.txt", "attachment; filename=\"__ _41.txt\"; filename*=UTF-8''%E6%9D%B1%E4%BA%AC%20%2541.txt"),
        ("a;b='c'.txt", "attachment; filename=\"a;b='c'.txt\""),
    ],
)
async def test_no_name_breaks_out_of_its_header(fresh_sqlite: str, name: str, disposition: str) -> None:
    async with fleet(Place(fresh_sqlite)) as server, client_of(server) as client:
        await furnish(client, "Ann")
        added = await post(client, "attachment/add", **ABOUT, file_name=name, content_base64=encoded())
        headers = (await client.get(f"/api/attachment/{added['attachment_id']}")).headers
        assert headers["content-disposition"] == disposition


async def test_a_form_may_name_everything_and_takes_a_key(place: Place) -> None:
    async with fleet(place) as server, client_of(server) as client:
        await furnish(client, "Ann")
        first = await form(client, name="x", file_name="y.txt", media_type="text/x-y", idempotency_key="k")
        assert (first.json()["file_name"], first.json()["media_type"]) == ("y.txt", "text/x-y")
        again = await form(client, name="x", file_name="y.txt", media_type="text/x-y", idempotency_key="k")
        assert (again.status_code, again.json()) == (201, {**first.json(), "replayed": True})
        by_header = await client.post(
            "/api/attachment/add",
            data={**ABOUT, "file_name": "y.txt", "media_type": "text/x-y"},
            files={"file": ("x", PLAN, "text/markdown")},
            headers={"idempotency-key": "k"},
        )
        assert by_header.json() == again.json()
        other = await form(client, b"other", file_name="y.txt", media_type="text/x-y", idempotency_key="k")
        assert (other.status_code, error_of(other)["code"]) == (409, "idempotency_conflict")


FORM = "multipart/form-data; boundary=b"


@pytest.mark.parametrize(
    "content_type, body, status",
    [
        (FORM, b"", 400),
        (FORM, b"--b\r\nnonsense", 400),
        (FORM, b'--b\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\nhalf of', 400),
        (FORM, b"--b--\r\n", 422),
        ("multipart/form-data", b"--b--\r\n", 400),
        (FORM, b"--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b--\r\n", 400),
        (FORM, b'--b\r\nContent-Disposition: form-data; name="x"\r\n\r\n1\r\n' * 20 + b"--b--\r\n", 400),
        (FORM, b'--b\r\nContent-Disposition: form-data; name="agent_name"\r\n\r\n\xff\r\n--b--\r\n', 400),
        (FORM, b'--b\r\nContent-Disposition: form-data; name="unknown"\r\n\r\nx\r\n--b--\r\n', 422),
        ("text/plain", b"x", 400),
        ("application/json", b"{", 400),
        ("application/json", b'{"content_base64": "%%%"}', 422),
        ("application/json", b"[]", 422),
    ],
)
async def test_what_is_no_upload_is_refused(fresh_sqlite: str, content_type: str, body: bytes, status: int) -> None:
    async with fleet(Place(fresh_sqlite)) as server, client_of(server) as client:
        response = await client.post("/api/attachment/add", content=body, headers={"content-type": content_type})
        assert response.status_code == status, response.text
        error_of(response)


async def test_a_file_in_two_parts_of_a_form_is_refused(fresh_sqlite: str) -> None:
    async with fleet(Place(fresh_sqlite)) as server, client_of(server) as client:
        await furnish(client, "Ann")
        response = await form(client, content_base64=encoded(b"another"))
        assert (response.status_code, error_of(response)["code"]) == (400, "malformed_request")


async def test_json_that_is_not_flat_is_not_even_parsed(fresh_sqlite: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(uploads, "parse_json")
    async with fleet(Place(fresh_sqlite)) as server, client_of(server) as client:
        for marks in (b"[],", b"{},", b"1,"):
            body = b'{"x": [' + marks * uploads.MOST_MARKS + b"1]}"
            headers = {"content-type": "application/json"}
            response = await client.post("/api/attachment/add", content=body, headers=headers)
            assert (response.status_code, error_of(response)["code"]) == (400, "malformed_request")


async def test_over_mcp_a_large_file_is_refused_and_its_download_named(place: Place) -> None:
    async with fleet(place) as server, client_of(server) as client:
        await furnish(client, "Ann")
        for size, fits in ((LARGEST_FILE, True), (LARGEST_FILE + 1, False)):
            content = os.urandom(size)
            attachment_id = (await form(client, content)).json()["attachment_id"]
            found = await call_tool(client, "get_attachment", {"attachment_id": attachment_id})
            if fits:
                assert base64.b64decode(found["content_base64"]) == content
            else:
                assert found["error"]["code"] == "attachment_too_large"
                method, path = found["error"]["data"]["suggestion"].split()
                assert (await client.request(method, path)).content == content


async def test_a_large_file_goes_out_as_fast_as_it_is_read(fresh_sqlite: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "DOWNLOADS_OF_ONE", 1)
    content = os.urandom(3 * downloads.FILE_PIECE_BYTES + 1)
    async with fleet(Place(fresh_sqlite)) as server, client_of(server) as client:
        await furnish(client, "Ann")
        path = f"/api/attachment/{(await form(client, content)).json()['attachment_id']}"
        async with streamed(server, path) as stream:
            assert int(stream.headers["content-length"]) == len(content)
            pieces = stream.pieces()
            read = await anext(pieces)
            other = await client.get(path)  # the place is held until all is sent
            assert (other.status_code, error_of(other)["code"]) == (503, "overloaded")
            read += b"".join([piece async for piece in pieces])
            assert read == content
        async with streamed(server, path) as stream:  # and given back by a client that leaves
            await anext(stream.pieces())
        whole, head = await client.get(path), await client.head(path)
        assert whole.content == content
        assert head.content == b""
        assert {**head.headers, "x-request-id": ""} == {**whole.headers, "x-request-id": ""}


async def test_a_client_that_does_not_read_is_let_go(fresh_sqlite: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "DOWNLOADS_OF_ONE", 1)
    monkeypatch.setattr(streaming, "PIECE_TIMEOUT", 0.05)
    content = os.urandom(8 * downloads.FILE_PIECE_BYTES)
    async with fleet(Place(fresh_sqlite)) as server, client_of(server) as client:
        await furnish(client, "Ann")
        path = f"/api/attachment/{(await form(client, content)).json()['attachment_id']}"
        async with streamed(server, path):
            async with asyncio.timeout(5):
                while (await client.get(path)).status_code == 503:  # noqa: ASYNC110 - its place tells nobody
                    await asyncio.sleep(0.01)
            assert (await client.get(path)).content == content


async def stall(server: Served, address: str) -> asyncio.Task[int]:
    """An upload whose body stops after a byte; the task's result is the status that it is answered with."""
    begun = asyncio.Event()
    statuses: list[int] = []

    async def receive() -> Message:
        if not begun.is_set():
            begun.set()
            return {"type": "http.request", "body": b"{", "more_body": True}
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    async def send(message: Message) -> None:
        statuses.extend([message["status"]] if "status" in message else [])

    async def run() -> int:
        await server.asgi(scope, receive, send)
        return statuses[0]

    headers = [(b"host", b"127.0.0.1:8765"), (b"content-type", b"application/json"), (b"content-length", b"100")]
    path = "/api/attachment/add"
    scope = {"type": "http", "http_version": "1.1", "method": "POST", "path": path, "raw_path": path.encode()}
    scope |= {"query_string": b"", "headers": headers, "scheme": "http", "client": (address, 5)}
    scope |= {"server": ("127.0.0.1", 8765)}
    task = asyncio.create_task(run())
    await asyncio.wait([task, waiting := asyncio.ensure_future(begun.wait())], return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    return task


async def test_uploads_that_stand_still_take_the_places_of_one_caller_alone(
    fresh_sqlite: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "UPLOADS_OF_ONE", 2)
    async with fleet(Place(fresh_sqlite)) as server, client_of(server) as client:
        await furnish(client, "Ann")
        stalled = [await stall(server, "10.0.0.9") for _ in range(2)]
        assert await (await stall(server, "10.0.0.9")) == 503
        assert (await form(client)).status_code == 201
        for task in stalled:
            task.cancel()
        await asyncio.wait(stalled)


async def test_an_upload_that_stands_still_is_given_up(fresh_sqlite: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "UPLOAD_PATIENCE", 0.02)
    monkeypatch.setattr(uploads, "UPLOADS_OF_ONE", 1)
    async with fleet(Place(fresh_sqlite)) as server:
        for _ in range(2):
            assert await (await stall(server, "10.0.0.9")) == 400


async def test_an_upload_counts_before_its_body_is_read(fresh_sqlite: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "UPLOAD_PATIENCE", 0.02)
    async with fleet(Place(fresh_sqlite), rate_limit_writes="3/minute") as server:
        assert [await (await stall(server, "10.0.0.9")) for _ in range(4)] == [400, 400, 400, 429]
        assert [await (await stall(server, "10.0.0.10")) for _ in range(1)] == [400]


async def test_only_so_many_uploads_are_read_at_once(fresh_sqlite: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "UPLOADS_AT_ONCE", 0)
    async with fleet(Place(fresh_sqlite)) as server, client_of(server) as client:
        response = await form(client)
        assert (response.status_code, error_of(response)["code"]) == (503, "overloaded")


async def test_another_attachment_is_unknown(place: Place) -> None:
    async with fleet(place) as server, client_of(server) as client:
        for attachment_id in ("0" * 32, "x", "%2e%2e"):
            response = await client.get(f"/api/attachment/{attachment_id}")
            assert (response.status_code, error_of(response)["code"]) == (404, "attachment_not_found")
