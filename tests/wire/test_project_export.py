"""export_project, delete_project and list_activity over the wire."""

import json

import httpx
import pytest

from agent_mail_core import project_export
from agent_mail_core.errors import DatabaseUnavailable
from agent_mail_server import downloads
from tests.wire.server import Place, client_of, error_of, fleet, furnish, post
from tests.wire.streaming import streamed
from tests.wire.tools import call_tool, tool_names

EXPORT = "/api/project/shop/export"


async def talk(client: httpx.AsyncClient) -> None:
    await furnish(client, "Ann", "Bob", "Dot")
    await post(
        client,
        "message/send",
        project_slug="shop",
        sender_name="Ann",
        recipient_names=["Bob"],
        bcc_names=["Dot"],
        subject="Plan",
        body_md="ask ann@example.org",
    )


@pytest.mark.parametrize(
    "format_name, media_type, extension",
    [
        ("json", "application/json", "json"),
        ("markdown", "text/markdown; charset=utf-8", "md"),
        ("html", "text/html; charset=utf-8", "html"),
        ("csv", "text/csv; charset=utf-8", "csv"),
    ],
)
async def test_an_export_is_a_download(place: Place, format_name: str, media_type: str, extension: str) -> None:
    async with fleet(place) as server, client_of(server) as client:
        await talk(client)
        response = await client.get(EXPORT, params={"format": format_name})
        assert (response.status_code, response.headers["content-type"]) == (200, media_type)
        assert response.headers["content-disposition"] == f'attachment; filename="shop.{extension}"'
        assert response.headers["x-content-type-options"] == "nosniff"
        assert "ask ann" in response.text
        assert "content-length" not in response.headers
        scrubbed = await client.get(EXPORT, params={"format": format_name, "scrub": "standard"})
        assert "example.org" not in scrubbed.text


async def test_it_comes_in_pieces(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "PIECE_BYTES", 100)
    monkeypatch.setattr(project_export, "BATCH_ROWS", 1)
    async with fleet(place) as server, client_of(server) as client:
        await talk(client)
        whole = await client.get(EXPORT, params={"include_bcc": "true"})
        async with streamed(server, EXPORT, include_bcc="true") as stream:
            pieces = [piece async for piece in stream.pieces()]
        assert len(pieces) > 5
        document = json.loads(b"".join(pieces))
        assert {**document, "about": None} == {**whole.json(), "about": None}
        assert "bcc" in whole.text


async def test_a_client_may_leave_in_the_middle(fresh_sqlite: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "PIECE_BYTES", 1)
    monkeypatch.setattr(project_export, "BATCH_ROWS", 1)
    monkeypatch.setattr(downloads, "EXPORTS_AT_ONCE", 1)
    async with fleet(Place(fresh_sqlite)) as server, client_of(server) as client:
        await talk(client)
        for _ in range(3):
            async with streamed(server, EXPORT) as stream:
                assert stream.status == 200
        assert (await client.get(EXPORT)).json()["project"]["slug"] == "shop"


async def test_head_says_what_get_would(place: Place) -> None:
    async with fleet(place) as server, client_of(server) as client:
        await talk(client)
        whole, head = await client.get(EXPORT), await client.head(EXPORT)
        assert (head.status_code, head.content) == (200, b"")
        assert {**head.headers, "x-request-id": ""} == {**whole.headers, "x-request-id": ""}


async def test_only_so_many_are_written_at_once(fresh_sqlite: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "EXPORTS_AT_ONCE", 0)
    async with fleet(Place(fresh_sqlite)) as server, client_of(server) as client:
        await talk(client)
        response = await client.get(EXPORT)
        assert (response.status_code, error_of(response)["code"]) == (503, "overloaded")


async def test_what_fails_in_the_middle_does_not_look_whole(fresh_sqlite: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "PIECE_BYTES", 1)
    monkeypatch.setattr(project_export, "BATCH_ROWS", 1)
    async with fleet(Place(fresh_sqlite)) as server, client_of(server) as client:
        await talk(client)

        async def read() -> None:
            async with streamed(server, EXPORT) as stream:
                pieces = stream.pieces()
                await anext(pieces)
                await server.servers[0].app.store.close()
                with pytest.raises(TimeoutError):  # no end comes
                    assert [piece async for piece in pieces]

        with pytest.raises(DatabaseUnavailable):  # which the server process answers by breaking the connection
            await read()


@pytest.mark.parametrize(
    "path, status",
    [
        ("/api/project/nowhere/export", 404),
        (f"{EXPORT}?format=pdf", 422),
        (f"{EXPORT}?scrub=all", 422),
        (f"{EXPORT}?x=1", 422),
    ],
)
async def test_what_cannot_be_exported_is_an_error(place: Place, path: str, status: int) -> None:
    async with fleet(place) as server, client_of(server) as client:
        await talk(client)
        response = await client.get(path)
        assert response.status_code == status
        error_of(response)


async def test_deleting_a_project_over_rest(place: Place) -> None:
    async with fleet(place) as server, client_of(server) as client:
        await talk(client)
        response = await client.delete("/api/project/shop")
        assert (response.status_code, response.json()["human_key"]) == (200, "/code/shop")
        for answer in (await client.delete("/api/project/shop"), await client.get("/api/project/shop")):
            assert (answer.status_code, error_of(answer)["code"]) == (404, "project_not_found")
        await talk(client)


async def test_activity_is_the_same_over_rest_and_mcp(place: Place) -> None:
    async with fleet(place) as server, client_of(server) as client:
        await talk(client)
        arguments = {"project_slug": "shop", "agent_name": "Ann"}
        by_rest = (await client.get("/api/activity/list", params=arguments)).json()
        assert by_rest == await call_tool(client, "list_activity", arguments)
        assert [entry["kind"] for entry in by_rest["activity"]] == ["message.sent", "agent.registered"]
        assert "Dot" not in json.dumps(by_rest)


async def test_deleting_and_exporting_are_no_tools(fresh_sqlite: str) -> None:
    async with fleet(Place(fresh_sqlite)) as server, client_of(server) as client:
        names = await tool_names(client)
    assert {"list_activity", "add_attachment", "get_attachment"} <= names
    assert not {"delete_project", "export_project"} & names
