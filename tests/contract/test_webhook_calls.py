"""What an administrator does with webhooks, on both engines: adding, listing, trying, sending again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from agent_mail_core import webhooks
from agent_mail_core.errors import Invalid, ProjectNotFound
from agent_mail_core.ports import App, Role
from agent_mail_core.webhook_adding import MAX_WEBHOOKS
from agent_mail_core.webhook_errors import (
    TooManyWebhooks,
    WebhookDeliveryNotFound,
    WebhookEventGone,
    WebhookNotFound,
)
from tests.contract.databases import Database
from tests.contract.hooked_office import HookedOffice, hooked
from tests.contract.office import Office
from tests.contract.stand_in import CLOSED, http
from tests.contract.webhook_receiver import TAKEN, call_id

OOPS = http(b"", "500 Oops")
SECRET = "whsec_" + "QUJD" * 10


@pytest.fixture
async def place(office: Office, database: Database) -> AsyncIterator[HookedOffice]:
    async with hooked(office, database) as place:
        yield place


async def test_a_secret_is_shown_once_and_nowhere_else(place: HookedOffice, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    made = await place.add()
    given = await place.add(secret=SECRET)
    assert place.secrets[given] == SECRET
    assert place.secrets[made] != place.secrets[given]
    await place.office.send("Ann", ["Bob"])
    await place.work()
    answers = [
        await place.ask("list_webhooks"),
        await place.ask("list_webhook_deliveries", webhook_id=given),
        await place.ask("test_webhook", webhook_id=given),
        await place.ask("redeliver_webhook", webhook_id=given),
    ]
    for answer in answers:
        assert not any(secret in answer.model_dump_json() for secret in place.secrets.values())
    assert not any(secret in caplog.text for secret in place.secrets.values())


@pytest.mark.parametrize(
    "url",
    [
        "ftp://a.example/",
        "https://",
        "https://user:pass@a.example/",
        "https://a.example/#x",
        "https://a.example:0/",
        "https://10.0.0.1/",
        "https://[::1]/",
        "https://[::ffff:10.0.0.1]/",
        "https://a.example/ b",
        "https://é.example/",
    ],
)
async def test_an_url_that_cannot_be_is_refused(place: HookedOffice, url: str) -> None:
    with pytest.raises(Invalid):
        await place.add(url=url)


async def test_without_a_setting_there_is_neither_http_nor_a_private_address(place: HookedOffice) -> None:
    settings = place.app.settings.model_copy(update={"webhook_allowed_networks": ()})
    place.office = place.office.at(replace(place.app, settings=settings))
    for url in ("http://a.example/", "https://127.0.0.1/"):
        with pytest.raises(Invalid):
            await place.add(url=url)


async def test_a_team_has_so_many_webhooks_and_no_more(place: HookedOffice, workers: list[App]) -> None:
    for _ in range(MAX_WEBHOOKS - 2):
        await place.add()
    apps = [replace(app, settings=place.app.settings) for app in workers * 4]
    places = [replace(place, office=place.office.at(app)) for app in apps]
    outcomes = await asyncio.gather(*(each.add() for each in places), return_exceptions=True)
    assert sum(isinstance(outcome, int) for outcome in outcomes) == 2
    assert {type(outcome) for outcome in outcomes} == {int, TooManyWebhooks}


async def test_webhooks_and_deliveries_are_listed_page_by_page(place: HookedOffice) -> None:
    added = [await place.add(), await place.add(project_slug=None), await place.add()]
    for _ in range(3):
        await place.office.send("Ann", ["Bob"])
    await place.work()
    first = await place.ask("list_webhooks", limit=2)
    rest = await place.ask("list_webhooks", limit=2, cursor=first.next_cursor)
    assert [webhook.webhook_id for webhook in first.webhooks + rest.webhooks] == added
    own = await place.ask("list_webhooks", project_slug="office")
    assert [webhook.webhook_id for webhook in own.webhooks] == [added[0], added[2]]
    first = await place.ask("list_webhook_deliveries", webhook_id=added[0], limit=2)
    rest = await place.ask("list_webhook_deliveries", webhook_id=added[0], limit=2, cursor=first.next_cursor)
    events = [delivery.event_id for delivery in first.deliveries + rest.deliveries]
    assert events == sorted(events, reverse=True)
    assert len(events) == 3
    assert rest.next_cursor is None
    assert call_id(place.receiver.received[0]).endswith(f"_{events[-1]}")


async def test_only_the_newest_deliveries_are_kept(place: HookedOffice) -> None:
    webhook_id = await place.add("message.sent")
    for _ in range(webhooks.KEPT_DELIVERIES + 5):
        await place.office.send("Ann", ["Bob"])
    await place.work()
    assert len((await place.database.dump())["webhook_deliveries"]) == webhooks.KEPT_DELIVERIES
    assert (await place.deliveries(webhook_id))[0].state == "delivered"


async def test_a_trial_says_what_the_receiver_answers_and_changes_nothing(place: HookedOffice) -> None:
    webhook_id = await place.add()
    before = await place.database.dump()
    assert (await place.ask("test_webhook", webhook_id=webhook_id)).model_dump() == {
        "is_delivered": True,
        "status_code": 204,
        "error": None,
    }
    (payload,) = place.payloads(webhook_id)
    assert (payload["type"], payload["data"]) == ("webhook.test", {"webhook_id": webhook_id})
    place.receiver.answers(OOPS)
    tried = await place.ask("test_webhook", webhook_id=webhook_id)
    assert (tried.is_delivered, tried.status_code, tried.error) == (False, 500, "status 500")
    place.receiver.answers(CLOSED)
    tried = await place.ask("test_webhook", webhook_id=webhook_id)
    assert (tried.is_delivered, tried.status_code) == (False, None)
    assert await place.database.dump() == before


async def test_a_delivery_is_sent_again_under_its_id(place: HookedOffice) -> None:
    webhook_id = await place.add("message.sent")
    for _ in range(2):
        await place.office.send("Ann", ["Bob"])
    await place.work()
    (_, oldest) = await place.deliveries(webhook_id)
    again = await place.ask("redeliver_webhook", webhook_id=webhook_id, delivery_id=oldest.delivery_id)
    assert (again.delivery.state, again.delivery.attempts, again.delivery.status_code) == ("delivered", 2, 204)
    first, _, third = place.receiver.received
    assert (call_id(third), third.body) == (call_id(first), first.body)
    place.receiver.answers(OOPS)
    again = await place.ask("redeliver_webhook", webhook_id=webhook_id, delivery_id=oldest.delivery_id)
    assert (again.delivery.state, again.delivery.attempts, again.delivery.status_code) == ("delivered", 3, 500)
    assert again.webhook.failing_since is None
    await place.work()
    assert len(place.receiver.received) == 4


async def switched_off(place: HookedOffice) -> int:
    """A webhook that missed two events."""
    webhook_id = await place.add("message.sent")
    place.receiver.answers(http(b"", "410 Gone"))
    for _ in range(2):
        await place.office.send("Ann", ["Bob"])
    await place.work()
    place.receiver.answers(TAKEN)
    place.receiver.received.clear()
    return webhook_id


async def test_one_that_was_switched_off_goes_on_where_it_stopped(place: HookedOffice) -> None:
    webhook_id = await switched_off(place)
    on = await place.ask("redeliver_webhook", webhook_id=webhook_id)
    assert on.webhook.is_enabled
    assert on.delivery is None
    await place.work()
    told = [payload["data"]["agent_name"] for payload in place.payloads(webhook_id)]
    assert told == ["Ann", "Ann", "System"]


async def test_a_success_out_of_turn_switches_it_on_behind_that_event(place: HookedOffice) -> None:
    webhook_id = await switched_off(place)
    (failed,) = await place.deliveries(webhook_id)
    place.receiver.answers(OOPS)
    still = await place.ask("redeliver_webhook", webhook_id=webhook_id, delivery_id=failed.delivery_id)
    assert (still.webhook.is_enabled, still.delivery.state) == (False, "failed")
    place.receiver.answers(TAKEN)
    on = await place.ask("redeliver_webhook", webhook_id=webhook_id, delivery_id=failed.delivery_id)
    assert (on.webhook.is_enabled, on.delivery.state) == (True, "delivered")
    await place.work()
    events = [call_id(call) for call in place.receiver.received]
    assert len(events) == 4
    assert len(set(events)) == 3, "the failed one was not sent a third time"


async def test_what_is_not_kept_cannot_be_sent_again(place: HookedOffice) -> None:
    webhook_id, other = await place.add(project_slug=None), await place.add(project_slug=None)
    await place.office.send("Ann", ["Bob"])
    await place.work()
    (delivery,) = await place.deliveries(webhook_id)
    with pytest.raises(WebhookDeliveryNotFound):
        await place.ask("redeliver_webhook", webhook_id=other, delivery_id=delivery.delivery_id)
    await place.ask("delete_project", project_slug="office")
    with pytest.raises(WebhookEventGone):
        await place.ask("redeliver_webhook", webhook_id=webhook_id, delivery_id=delivery.delivery_id)


async def test_another_teams_webhooks_are_unknown(place: HookedOffice, database: Database) -> None:
    webhook_id = await place.add()
    stranger = place.office.of("local", Role.admin, await database.add_team("other"))
    calls: list[tuple[str, dict[str, Any]]] = [
        ("remove_webhook", {}),
        ("test_webhook", {}),
        ("redeliver_webhook", {}),
        ("redeliver_webhook", {"delivery_id": 1}),
        ("list_webhook_deliveries", {}),
    ]
    for operation, more in calls:
        with pytest.raises(WebhookNotFound):
            await stranger.call(operation, webhook_id=webhook_id, **more)
    assert (await stranger.call("list_webhooks")).webhooks == []
    with pytest.raises(ProjectNotFound):
        await stranger.call("add_webhook", url="https://a.example/", project_slug="office")
    assert (await place.webhook(webhook_id)).is_enabled
