"""send_overseer_message: a person writes to agents, past every policy and block (SPEC 3.1, 3.3 rule 4)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from agent_mail_core import broadcasting
from agent_mail_core.delivery import SentMessage
from agent_mail_core.errors import (
    IdempotencyConflict,
    NoRecipients,
    RecipientsRefused,
    RecipientsUnknown,
    TooManyRecipients,
)
from agent_mail_core.ports import App, Role
from tests.contract.databases import Database
from tests.contract.office import Office, subjects
from tests.contract.test_races import row_counts


@pytest.fixture
def person(office: Office) -> Office:
    return office.of("person", Role.overseer)


async def order(person: Office, *names: str, **more: Any) -> SentMessage:
    fields = {"subject": "Stop", "body_md": "Stop the release.", **more}
    sent: SentMessage = await person.call(
        "send_overseer_message", project_slug=person.slug, recipient_names=list(names), **fields
    )
    return sent


async def test_it_is_urgent_and_comes_from_overseer(office: Office, person: Office) -> None:
    sent = await order(person, "Ann", "bob")
    assert [(one.name, one.kind) for one in sent.deliveries] == [("Ann", "to"), ("Bob", "to")]
    [message] = (await office.inbox("Ann", include_bodies=True)).messages
    assert (message.sender_name, message.priority, message.body_md) == ("Overseer", "urgent", "Stop the release.")
    assert (await office.inbox("Cid")).messages == []


async def test_no_policy_and_no_block_stops_it(office: Office, person: Office) -> None:
    await office.update("Ann", contact_policy="block_all")
    await office.update("Bob", contact_policy="contacts_only")
    with pytest.raises(RecipientsRefused):
        await office.send("Cid", ["Ann"])
    assert (await order(person, "Ann", "Bob")).skipped == []
    assert subjects((await office.inbox("Ann")).messages) == ["Stop"]


async def test_an_agent_may_answer(office: Office, person: Office) -> None:
    sent = await order(person, "Ann")
    await office.reply("Ann", sent.message_id, body_md="I have.")
    assert subjects((await person.inbox("Overseer")).messages) == ["Re: Stop"]


async def test_naming_nobody_writes_to_all_that_are_active(office: Office, person: Office, database: Database) -> None:
    await database.age("agents", timedelta(hours=2), "last_active_at")
    with pytest.raises(NoRecipients):
        await order(person)
    await office.register("Eve")
    await office.register("Fay")
    await office.retire("Fay")
    assert [one.name for one in (await order(person)).deliveries] == ["Eve"]


async def test_at_most_500_are_written_to(office: Office, person: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broadcasting, "MAX_RECIPIENTS", 3)
    with pytest.raises(TooManyRecipients):
        await order(person)
    await office.retire("Dot")
    assert len((await order(person)).deliveries) == 3


async def test_unknown_and_retired_agents_are_named_and_nobody_is_written_to(office: Office, person: Office) -> None:
    await office.retire("Dot")
    with pytest.raises(RecipientsUnknown) as unknown:
        await order(person, "Ann", "Nobody")
    assert [problem["name"] for problem in unknown.value.data["recipients"]] == ["Nobody"]
    with pytest.raises(RecipientsRefused):
        await order(person, "Ann", "Dot")
    assert (await office.inbox("Ann")).messages == []


async def test_the_same_key_sends_once(person: Office, workers: Sequence[App], database: Database) -> None:
    calls = [order(person.at(workers[n % len(workers)]), idempotency_key="k") for n in range(10)]
    answers = await asyncio.gather(*calls)
    assert sum(not answer.replayed for answer in answers) == 1
    assert (await row_counts(database))["messages"] == 1
    with pytest.raises(IdempotencyConflict):
        await order(person, "Ann", idempotency_key="k")
