"""Webhooks on both engines: what is told to whom, in which order, under which id, and what an administrator sees."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import pytest

from agent_mail_core import webhook_jobs, webhook_messages
from agent_mail_core.ids import WebhookId
from agent_mail_core.jobs import LEASE, LeaseLost
from agent_mail_core.ports import App, Role
from agent_mail_core.webhook_errors import (
    WebhookNotFound,
)
from agent_mail_core.webhook_jobs import deliver_webhook, want_webhooks
from tests.contract.databases import Database
from tests.contract.hooked_office import HookedOffice, hooked
from tests.contract.office import Office
from tests.contract.stand_in import CLOSED, http
from tests.contract.test_sweeps import Wakes
from tests.contract.webhook_receiver import TAKEN, call_id

OOPS = http(b"", "500 Oops")


@pytest.fixture
async def place(office: Office, database: Database) -> AsyncIterator[HookedOffice]:
    async with hooked(office, database) as place:
        yield place


# --- what is told -----------------------------------------------------------------------------------------------------


async def test_an_event_is_told_signed_as_activity_shows_it(place: HookedOffice) -> None:
    webhook_id = await place.add()
    sent = await place.office.send("Ann", ["Bob"], thread_id="Feat-1")
    await place.work()
    (payload,) = place.payloads(webhook_id)
    (shown,) = (await place.ask("list_activity", project_slug="office", limit=1)).activity
    assert payload["data"] == shown.model_dump(mode="json", exclude_none=True)
    assert (payload["type"], payload["timestamp"]) == ("message.sent", payload["data"]["created_at"])
    assert payload["data"]["message_id"] == sent.message_id
    assert set(payload) == {"type", "timestamp", "team", "data"}
    (call,) = place.receiver.received
    assert call.path == "/hook"
    assert call.headers["content-type"] == "application/json"


async def test_what_came_before_is_not_told_and_what_comes_is_in_order(place: HookedOffice) -> None:
    await place.office.send("Ann", ["Bob"])
    webhook_id = await place.add()
    sent = [(await place.office.send("Ann", ["Bob"])).message_id for _ in range(5)]
    await place.office.mark_read("Bob", sent[0])
    await place.work()
    told = [(payload["type"], payload["data"].get("message_id")) for payload in place.payloads(webhook_id)]
    assert told == [*(("message.sent", message_id) for message_id in sent), ("message.read", sent[0])]
    assert place.receiver.most_at_once == 1


async def test_only_the_kinds_that_are_wanted_are_told(place: HookedOffice, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook_jobs, "EVENTS_AT_ONCE", 3)
    webhook_id = await place.add("message.read", "message.read")
    assert (await place.webhook(webhook_id)).events == ["message.read"]
    sent = [(await place.office.send("Ann", ["Bob"])).message_id for _ in range(7)]
    await place.work()
    assert place.receiver.received == []
    async with place.app.store.read() as db:
        assert await db.webhooks.behind(WebhookId(0), 10) == [], "it has looked at what it did not want"
    await place.office.mark_read("Bob", sent[0])
    await place.work()
    assert place.receiver.kinds() == ["message.read"]


async def test_a_project_is_told_of_itself_and_a_team_of_all(place: HookedOffice) -> None:
    of_project, of_team = await place.add("message.sent"), await place.add("message.sent", project_slug=None)
    assert (await place.webhook(of_project)).project_slug == "office"
    assert (await place.webhook(of_team)).project_slug is None
    await place.office.ensure("lake")
    lake = replace(place.office, slug="lake")
    for name in ("Ann", "Bob"):
        await lake.register(name)
    await lake.send("Ann", ["Bob"])
    await place.office.send("Ann", ["Bob"])
    await place.work()
    told = sorted((call.path, call_id(call)) for call in place.receiver.received)
    assert len(told) == 3
    assert len({call_id for _, call_id in told}) == 2, "one event has one id, whoever is told"


async def test_other_teams_events_are_not_told(place: HookedOffice, database: Database) -> None:
    await place.add(project_slug=None)
    other = place.office.of("local", team_id=await database.add_team("other"))
    await other.ensure("office")
    await other.register("Eve")
    await place.work()
    assert place.receiver.received == []


async def test_nothing_of_a_bcc_and_no_body_is_told(place: HookedOffice) -> None:
    for name in ("Zebulon", "Eve"):
        await place.office.register(name)
    of_project, of_team = await place.add(), await place.add(project_slug=None)
    sent = await place.office.send("Ann", ["Bob"], bcc=["Zebulon"], body="Swordfish", ack_required=True)
    await place.office.send("Ann", [], bcc=["Zebulon"], body="Swordfish")
    await place.office.mark_read("Zebulon", sent.message_id)
    await place.office.acknowledge("Zebulon", sent.message_id)
    await place.office.reply("Zebulon", sent.message_id, body_md="Swordfish")
    await place.office.mark_read("Bob", sent.message_id)
    await place.work()
    assert "message.read" in place.receiver.kinds()
    told = [
        call.body.decode() for call in place.receiver.received if '"agent_name":"Zebulon"' not in call.body.decode()
    ]
    assert len(told) >= 6
    assert not any("Zebulon" in body for body in told)
    for call in place.receiver.received:  # what Zebulon wrote itself is no secret
        assert "Swordfish" not in call.body.decode()
    for webhook_id in (of_project, of_team):
        kinds = [delivery.event for delivery in await place.deliveries(webhook_id)]
        assert (kinds.count("message.read"), kinds.count("message.acknowledged")) == (1, 0)


async def test_an_event_that_is_too_long_is_told_without_its_details(
    place: HookedOffice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook_messages, "MOST_BYTES", 300)
    webhook_id = await place.add("message.sent")
    sent = await place.office.send("Ann", ["Bob", "Cid", "Dot"], thread_id="T" * 128)
    await place.work()
    (payload,) = place.payloads(webhook_id)
    assert (payload["is_cut"], payload["data"]["data"]) == (True, {})
    assert payload["data"]["message_id"] == sent.message_id


# --- failing ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [OOPS, CLOSED, http(b"", "302 Found", "Location: /elsewhere"), b"220 mail\r\n\r\n"])
async def test_what_fails_is_sent_again_under_its_id_before_the_next(place: HookedOffice, fault: bytes) -> None:
    webhook_id = await place.add("message.sent")
    first, second = [(await place.office.send("Ann", ["Bob"])).message_id for _ in range(2)]
    place.receiver.answers(fault, TAKEN)
    await place.work()
    (tried,) = place.receiver.received
    failing = await place.webhook(webhook_id)
    assert failing.failed_attempts == 1
    assert failing.failing_since is not None
    assert failing.next_attempt_at - failing.failing_since < timedelta(seconds=6)
    (delivery,) = await place.deliveries(webhook_id)
    assert (delivery.state, delivery.attempts) == ("waiting", 1)
    assert delivery.error
    await place.work()
    assert len(place.receiver.received) == 1, "it waits"
    await place.pass_time(timedelta(seconds=6))
    await place.work()
    assert [payload["data"]["message_id"] for payload in place.payloads(webhook_id)] == [first, first, second]
    assert call_id(place.receiver.received[1]) == call_id(tried)
    well = await place.webhook(webhook_id)
    assert (well.failed_attempts, well.failing_since, well.next_attempt_at) == (0, None, None)
    assert [(item.state, item.attempts) for item in await place.deliveries(webhook_id)] == [
        ("delivered", 1),
        ("delivered", 2),
    ]


async def test_new_events_do_not_bring_a_retry_forward(place: HookedOffice) -> None:
    await place.add()
    place.receiver.answers(OOPS)
    await place.office.send("Ann", ["Bob"])
    await place.work()
    wakes = Wakes()
    for _ in range(3):
        await place.office.send("Ann", ["Bob"])
    await want_webhooks(replace(place.app, jobs=wakes))
    assert wakes.told == {}
    async with place.app.store.write() as db:
        await db.jobs.want("webhook", 1, place.office.caller.team_id)
    await place.work()
    assert len(place.receiver.received) == 1


async def test_after_a_day_of_failures_it_is_switched_off_and_the_overseer_is_told(place: HookedOffice) -> None:
    webhook_id = await place.add(project_slug=None)
    place.receiver.answers(OOPS)
    await place.office.send("Ann", ["Bob"])
    waited = timedelta(0)
    for attempt in range(1, len(webhook_jobs.RETRIES) + 2):
        await place.work()
        assert len(place.receiver.received) == attempt
        now = await place.webhook(webhook_id)
        if now.is_enabled:
            pause = now.next_attempt_at - place.app.clock.now()
            waited += pause
            await place.pass_time(pause + timedelta(seconds=1))
    assert timedelta(hours=24) <= waited <= timedelta(hours=27)
    assert not now.is_enabled
    assert "status 500" in now.disabled_reason
    assert len({call_id(call) for call in place.receiver.received}) == 1
    (delivery,) = await place.deliveries(webhook_id)
    assert (delivery.state, delivery.attempts, delivery.status_code) == ("failed", 8, 500)
    (mail,) = (await place.office.of("boss", Role.overseer).inbox("Overseer", include_bodies=True)).messages
    assert (mail.sender_name, mail.subject) == ("System", f"Webhook {webhook_id} is switched off")
    assert "/hook" not in (mail.body_md or "")
    await place.pass_time(timedelta(days=2))
    await place.work()
    assert len(place.receiver.received) == 8, "it is left alone"


async def test_who_says_gone_is_switched_off_at_once(place: HookedOffice) -> None:
    webhook_id = await place.add()
    place.receiver.answers(http(b"", "410 Gone"))
    await place.office.send("Ann", ["Bob"])
    await place.work()
    assert not (await place.webhook(webhook_id)).is_enabled
    assert len((await place.office.of("boss", Role.overseer).inbox("Overseer")).messages) == 1


async def test_a_receiver_that_asks_for_time_gets_it_up_to_an_hour(place: HookedOffice) -> None:
    webhook_id = await place.add()
    await place.office.send("Ann", ["Bob"])
    for asked, given in ((600, 600), (86400, 3600)):
        place.receiver.answers(http(b"", "429 Later", f"Retry-After: {asked}"))
        await place.pass_time(timedelta(hours=2))
        await place.work()
        pause = (await place.webhook(webhook_id)).next_attempt_at - place.app.clock.now()
        assert timedelta(seconds=given - 60) < pause <= timedelta(seconds=given)


# --- workers ----------------------------------------------------------------------------------------------------------


async def test_a_worker_that_lost_its_lease_stores_nothing(place: HookedOffice) -> None:
    webhook_id = await place.add()
    await place.office.send("Ann", ["Bob"])
    job = await place.due()
    await place.database.age("jobs", LEASE * 2, "run_at", "leased_until")
    with pytest.raises(LeaseLost):
        await deliver_webhook(place.app, job)
    assert await place.deliveries(webhook_id) == []
    await place.work()
    first, *others = place.receiver.received
    assert {call_id(call) for call in others} == {call_id(first)}, "the next worker sends it again, under its id"


async def test_of_many_workers_one_sends_each_event_once(place: HookedOffice, workers: list[App]) -> None:
    webhook_id = await place.add("message.sent")
    sent = [(await place.office.send("Ann", ["Bob"])).message_id for _ in range(6)]
    apps = [replace(app, outbound=place.app.outbound) for app in workers * 3]
    places = [replace(place, office=place.office.at(app)) for app in apps]
    await want_webhooks(place.app)
    await asyncio.gather(*(each.do_jobs() for each in places))
    await place.work()
    assert [payload["data"]["message_id"] for payload in place.payloads(webhook_id)] == sent
    assert place.receiver.most_at_once == 1


async def test_switching_on_while_it_is_delivered_hinders_nobody(place: HookedOffice, workers: list[App]) -> None:
    webhook_id = await place.add("message.sent")
    sent = [(await place.office.send("Ann", ["Bob"])).message_id for _ in range(5)]
    place.receiver.answers(OOPS, TAKEN)
    apps = [replace(app, outbound=place.app.outbound) for app in workers * 4]
    places = [replace(place, office=place.office.at(app)) for app in apps]
    await want_webhooks(place.app)
    await asyncio.gather(
        *(each.ask("redeliver_webhook", webhook_id=webhook_id) for each in places),
        *(each.do_jobs() for each in places),
    )
    await place.work()
    await place.pass_time(timedelta(seconds=6))
    await place.work()
    told = [payload["data"]["message_id"] for payload in place.payloads(webhook_id)]
    assert told == [sent[0], *sent]


async def test_a_long_backlog_lets_others_have_their_turn(place: HookedOffice, monkeypatch: pytest.MonkeyPatch) -> None:
    webhook_id = await place.add("message.sent")
    for _ in range(3):
        await place.office.send("Ann", ["Bob"])
    monkeypatch.setattr(webhook_jobs, "RUN_SECONDS", 0.0)
    job = await place.due()
    assert await deliver_webhook(place.app, job) == timedelta(0)
    assert await place.deliveries(webhook_id) == []


async def test_all_that_are_behind_are_wanted_page_by_page(
    place: HookedOffice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook_jobs, "WEBHOOKS_A_PAGE", 2)
    added = [await place.add() for _ in range(5)]
    await place.office.send("Ann", ["Bob"])
    wakes = Wakes()
    await want_webhooks(replace(place.app, jobs=wakes))
    assert set(wakes.told) == {("webhook", webhook_id) for webhook_id in added}


# --- ending -----------------------------------------------------------------------------------------------------------


async def test_a_removed_webhook_is_told_nothing_more(place: HookedOffice) -> None:
    webhook_id = await place.add()
    place.receiver.answers(OOPS)
    await place.office.send("Ann", ["Bob"])
    await place.work()
    await place.ask("remove_webhook", webhook_id=webhook_id)
    place.receiver.answers(TAKEN)
    await place.pass_time(timedelta(hours=1))
    await place.work()
    assert len(place.receiver.received) == 1
    tables = await place.database.dump()
    assert (tables["webhooks"], tables["webhook_deliveries"], tables["jobs"]) == ([], [], [])
    with pytest.raises(WebhookNotFound):
        await place.ask("remove_webhook", webhook_id=webhook_id)


async def test_a_deleted_project_is_told_of_no_more_but_for_its_end(place: HookedOffice) -> None:
    own, of_team = await place.add(), await place.add(project_slug=None)
    await place.office.send("Ann", ["Bob"])
    await place.ask("delete_project", project_slug="office")
    await place.work()
    assert [payload["type"] for payload in place.payloads(of_team)] == ["project.deleted"]
    listed = (await place.ask("list_webhooks")).webhooks
    assert [webhook.webhook_id for webhook in listed] == [of_team]
    with pytest.raises(WebhookNotFound):
        await place.ask("test_webhook", webhook_id=own)
