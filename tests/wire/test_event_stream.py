"""GET /api/events/stream on one worker and on two: ids to come back with, and what ends a stream."""

import asyncio
from typing import Any

import httpx
import pytest

from agent_mail_server import event_stream
from tests.wire.server import Place, client_of, error_of, fleet, furnish, post, until
from tests.wire.streaming import streamed

PATH = "/api/events/stream"


async def send(client: httpx.AsyncClient, **more: Any) -> int:
    fields = {"sender_name": "Ann", "recipient_names": ["Bob"], "subject": "S", "body_md": "secret text", **more}
    sent = await post(client, "message/send", project_slug="shop", **fields)
    return int(sent["message_id"])


async def test_what_happens_is_told_as_events(place: Place) -> None:
    async with fleet(place) as server, client_of(server) as client:
        await furnish(client, "Ann", "Bob")
        async with streamed(server, PATH, project_slug="shop") as stream:
            assert (stream.status, stream.headers["content-type"]) == (200, "text/event-stream")
            assert stream.headers["cache-control"] == "no-store, no-transform"
            assert "content-length" not in stream.headers
            beginning = await stream.next()
            assert beginning.id is not None
            assert (beginning.retry, beginning.data) == (1000, None)
            message_id = await send(client)
            event = await stream.event()
            assert event.kind == event.data["kind"] == "message.sent"
            assert event.id not in (None, beginning.id)
            assert (event.data["message_id"], event.data["agent_name"], event.data["project_slug"]) == (
                message_id,
                "Ann",
                "shop",
            )
            assert event.data["data"]["to"] == ["Bob"]
            assert "secret text" not in str(event)


async def test_who_comes_back_gets_what_it_missed_from_any_worker(place: Place) -> None:
    async with fleet(place) as server, client_of(server) as client:
        await furnish(client, "Ann", "Bob")
        async with streamed(server, PATH, project_slug="shop") as stream:
            first = await send(client)
            event = await stream.event()
            assert event.data["message_id"] == first
        sent = [await send(client) for _ in range(5)]
        for given in ({"headers": {"last-event-id": event.id}}, {"last_event_id": event.id}):
            async with streamed(server, PATH, project_slug="shop", **given) as stream:
                assert [(await stream.event()).data["message_id"] for _ in sent] == sent


async def test_an_unknown_id_is_a_reset_with_an_id_to_go_on(place: Place) -> None:
    async with fleet(place) as server, client_of(server) as client:
        await furnish(client, "Ann", "Bob")
        async with streamed(server, PATH, {"last-event-id": "other-epoch-1-1"}, project_slug="shop") as stream:
            reset = await stream.next()
            assert (reset.kind, reset.data) == ("reset", {"reason": "epoch"})
            assert reset.id is not None
            message_id = await send(client)
            assert (await stream.event()).data["message_id"] == message_id


async def test_an_agents_stream_is_its_own(place: Place) -> None:
    async with fleet(place) as server, client_of(server) as client:
        await furnish(client, "Ann", "Bob", "Cid")
        async with streamed(server, PATH, project_slug="shop", agent_name="Bob") as stream:
            await send(client, recipient_names=["Cid"])
            message_id = await send(client)
            assert (await stream.event()).data["message_id"] == message_id


async def test_a_bcc_is_in_no_frame_of_a_project(place: Place) -> None:
    async with fleet(place) as server, client_of(server) as client:
        await furnish(client, "Ann", "Bob", "Dot")
        async with streamed(server, PATH, project_slug="shop") as stream:
            message_id = await send(client, bcc_names=["Dot"])
            await post(client, "message/acknowledge", project_slug="shop", agent_name="Dot", message_id=message_id)
            last = await send(client)
            events = [await stream.event(), await stream.event()]
            assert [event.data["message_id"] for event in events] == [message_id, last]
            assert "Dot" not in str(events)


async def test_a_quiet_stream_stays_alive_and_leaves_with_its_client(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_stream, "ROUND_SECONDS", 0.01)
    async with fleet(place) as server, client_of(server) as client:
        await furnish(client, "Ann")
        async with streamed(server, PATH, project_slug="shop") as stream:
            await stream.next()
            for _ in range(2):
                alive = await stream.next()
                assert alive.comments == ["alive"]
                assert alive.id is not None
            assert sum(running.metrics.streams for running in server.servers) == 1
            assert sum(running.metrics.at_work for running in server.servers) == 0
        await until(lambda: not any(running.metrics.streams for running in server.servers))


async def test_a_drain_ends_it_with_a_hint_to_come_back(place: Place) -> None:
    async with fleet(place) as server, client_of(server) as client:
        await furnish(client, "Ann")
        async with streamed(server, PATH, project_slug="shop") as stream:
            await stream.next()
            draining = asyncio.create_task(server.drain(5))
            assert [event.retry for event in await stream.rest() if event.retry] == [1000]
            await draining


async def test_it_ends_with_its_project(place: Place) -> None:
    async with fleet(place) as server, client_of(server) as client:
        await furnish(client, "Ann")
        async with streamed(server, PATH, project_slug="shop") as stream:
            await stream.next()
            assert (await client.delete("/api/project/shop")).status_code == 200
            assert [event.kind for event in await stream.rest() if event.data is not None] == ["project.deleted"]
        response = await client.get(PATH, params={"project_slug": "shop"})
        assert (response.status_code, error_of(response)["code"]) == (404, "project_not_found")


async def test_a_revoked_credential_ends_it(fresh_sqlite: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_stream, "ROUND_SECONDS", 0.01)
    place = Place(fresh_sqlite)
    secret = {"authorization": "Bearer a-token-of-some-length"}
    async with fleet(place, auth_mode="bearer", http_bearer_token="a-token-of-some-length") as server:
        async with client_of(server, **secret) as client:
            await furnish(client, "Ann")
        async with client_of(server) as nobody:
            assert (await nobody.get(PATH, params={"project_slug": "shop"})).status_code == 401
        async with streamed(server, PATH, secret, project_slug="shop") as stream:
            await stream.next()
            monkeypatch.setattr(server.servers[0].asgi._callers, "_token", b"another-token-by-now")
            assert (await stream.rest())[-1].data is None
            assert stream.has_ended


async def test_a_principal_holds_so_many_at_once(fresh_sqlite: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_stream, "STREAMS_A_PRINCIPAL", 1)
    async with fleet(Place(fresh_sqlite)) as server, client_of(server) as client:
        await furnish(client, "Ann")
        async with streamed(server, PATH, project_slug="shop") as stream:
            await stream.next()
            response = await client.get(PATH, params={"project_slug": "shop"})
            assert (response.status_code, error_of(response)["code"]) == (429, "too_many_streams")
            assert "retry-after" in response.headers
        async with streamed(server, PATH, project_slug="shop") as stream:
            assert stream.status == 200


@pytest.mark.parametrize(
    "query, status",
    [
        ({}, 422),
        ({"project_slug": "nowhere"}, 404),
        ({"project_slug": "shop", "agent_name": "Nobody"}, 404),
        ({"project_slug": "shop", "x": "1"}, 422),
    ],
)
async def test_what_cannot_be_followed_is_an_error(place: Place, query: dict[str, str], status: int) -> None:
    async with fleet(place) as server, client_of(server) as client:
        await furnish(client, "Ann")
        response = await client.get(PATH, params=query)
        assert response.status_code == status
        error_of(response)
