"""broadcast_message: to all that are active, none of whom learns of another (SPEC 3.1)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from agent_mail_core import broadcasting
from agent_mail_core.errors import AgentRetired, IdempotencyConflict, NoRecipients, TooManyRecipients
from agent_mail_core.ports import App
from tests.contract.databases import Database
from tests.contract.office import Office, subjects
from tests.contract.test_races import row_counts


async def broadcast(office: Office, sender: str = "Ann", **more: Any) -> Any:
    fields = {"subject": "All hands", "body_md": "The build is red.", **more}
    return await office.call("broadcast_message", project_slug=office.slug, sender_name=sender, **fields)


async def test_all_other_agents_get_it_and_see_only_themselves(office: Office) -> None:
    await office.retire("Dot")
    answer = await broadcast(office, priority="high")
    assert (answer.delivered, answer.skipped, answer.replayed) == (["Bob", "Cid"], [], False)
    for name in ("Bob", "Cid"):
        [message] = (await office.inbox(name, include_bodies=True)).messages
        assert (message.sender_name, message.subject, message.priority) == ("Ann", "All hands", "high")
        assert message.body_md == "The build is red."
        seen = await office.get(message.message_id, name)
        assert [(one.name, one.kind) for one in seen.recipients] == [(name, "bcc")]
    assert (await office.get(answer.message_id)).recipients == []
    assert (await office.inbox("Ann")).messages == []
    assert (await office.thread(answer.thread_id)).thread.participants == ["Ann"]


async def test_an_answer_to_it_goes_to_the_sender_alone(office: Office) -> None:
    answer = await broadcast(office)
    await office.reply("Bob", answer.message_id)
    assert subjects((await office.inbox("Ann")).messages) == ["Re: All hands"]
    assert subjects((await office.inbox("Cid")).messages) == ["All hands"]


async def test_only_those_get_it_that_were_active_within_the_time(office: Office, database: Database) -> None:
    await database.age("agents", timedelta(hours=2), "last_active_at")
    await office.register("Eve")
    assert (await broadcast(office)).delivered == ["Eve"]
    assert (await broadcast(office, active_within_seconds=3 * 3600)).delivered == ["Bob", "Cid", "Dot", "Eve"]
    with pytest.raises(NoRecipients):
        await broadcast(office, "Eve")


async def test_more_than_500_are_too_many(office: Office, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    assert broadcasting.MAX_RECIPIENTS == 500
    monkeypatch.setattr(broadcasting, "MAX_RECIPIENTS", 3)
    assert (await broadcast(office)).delivered == ["Bob", "Cid", "Dot"]
    await office.register("Eve")
    before = await database.dump()
    with pytest.raises(TooManyRecipients) as refused:
        await broadcast(office)
    assert refused.value.data["limit"] == 3
    assert await database.dump() == before


async def test_the_same_key_sends_once_whoever_is_active_then(
    office: Office, workers: Sequence[App], database: Database
) -> None:
    calls = [broadcast(office.at(workers[n % len(workers)]), idempotency_key="k") for n in range(10)]
    answers = await asyncio.gather(*calls)
    assert sum(not answer.replayed for answer in answers) == 1
    assert len({answer.message_id for answer in answers}) == 1
    assert (await row_counts(database))["messages"] == 1
    await office.register("Eve")
    again = await broadcast(office, idempotency_key="k")
    assert (again.replayed, again.delivered) == (True, ["Bob", "Cid", "Dot"])
    with pytest.raises(IdempotencyConflict):
        await broadcast(office, idempotency_key="k", priority="low")
    other = await broadcast(office, "Bob", idempotency_key="k")
    assert not other.replayed


async def test_no_event_says_who_got_it(office: Office, database: Database) -> None:
    await broadcast(office)
    [sent] = [event for event in await database.events() if event.kind == "message.sent"]
    assert not {"Bob", "Cid", "Dot"} & set(str(sent.data).replace("'", " ").split())


async def test_a_retired_agent_broadcasts_nothing(office: Office) -> None:
    await office.retire("Ann")
    with pytest.raises(AgentRetired):
        await broadcast(office)


async def test_who_takes_no_mail_from_the_sender_is_skipped(office: Office) -> None:
    await office.update("Bob", contact_policy="block_all")
    await office.update("Cid", contact_policy="contacts_only")
    answer = await broadcast(office)
    assert answer.delivered == ["Dot"]
    assert {one.name: one.code for one in answer.skipped} == {"Bob": "contact_refused", "Cid": "contact_required"}
    assert (await office.call("list_contacts", project_slug="office", agent_name="Ann")).contacts == []
