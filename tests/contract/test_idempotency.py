"""Idempotency keys: a retry answers what the first call answered, and stores nothing (SPEC 3.3 rule 2)."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from agent_mail_core.errors import AgentNotYours, IdempotencyConflict, RecipientsUnknown
from agent_mail_core.idempotency import IdempotencyScope, StoredAnswer
from agent_mail_core.ids import AgentId, Principal
from agent_mail_core.ports import Role, Store
from tests.contract.databases import Database
from tests.contract.office import TEAM, Office

A_DAY = timedelta(hours=24, minutes=1)
KEY = "a key ✓"


async def test_a_repeated_send_answers_the_same_and_stores_nothing(office: Office, database: Database) -> None:
    arguments: dict[str, Any] = {"cc": ["Cid"], "bcc": ["Dot"], "priority": "high", "idempotency_key": KEY}
    first = await office.send("Ann", ["Bob", "Nobody"], allow_partial=True, **arguments)
    before = await database.dump()
    again = await office.send("Ann", ["Bob", "Nobody"], allow_partial=True, **arguments)
    assert not first.replayed
    assert again == first.model_copy(update={"replayed": True})
    assert await database.dump() == before


async def test_a_repeated_reply_answers_the_same_and_stores_nothing(office: Office, database: Database) -> None:
    parent = await office.send("Ann", ["Bob"])
    first = await office.reply("Bob", parent.message_id, idempotency_key=KEY)
    before = await database.dump()
    again = await office.reply("Bob", parent.message_id, idempotency_key=KEY)
    assert again == first.model_copy(update={"replayed": True})
    assert await database.dump() == before


async def test_a_repeated_registration_without_a_name_gives_the_same_agent(office: Office, database: Database) -> None:
    first = await office.register(idempotency_key=KEY)
    before = await database.dump()
    again = await office.register(idempotency_key=KEY)
    assert again == first.model_copy(update={"replayed": True})
    assert await database.dump() == before
    assert (await office.register()).agent.name != first.agent.name


@pytest.mark.parametrize(
    "other",
    [
        {"subject": "Another"},
        {"body": "Another"},
        {"to": ["Cid"]},
        {"cc": ["Cid"]},
        {"bcc": ["Cid"]},
        {"priority": "low"},
        {"ack_required": True},
        {"allow_partial": True},
        {"thread_id": "Feat-1"},
    ],
)
async def test_the_same_key_with_other_content_is_a_conflict(
    office: Office, database: Database, other: dict[str, Any]
) -> None:
    await office.send("Ann", ["Bob"], idempotency_key=KEY)
    before = await database.dump()
    with pytest.raises(IdempotencyConflict) as refused:
        await office.send(**{"sender": "Ann", "to": ["Bob"], "idempotency_key": KEY, **other})
    assert "idempotency_key" in refused.value.data["suggestion"]
    assert await database.dump() == before


async def test_a_registration_with_other_content_is_a_conflict(office: Office, database: Database) -> None:
    await office.register(idempotency_key=KEY)
    before = await database.dump()
    with pytest.raises(IdempotencyConflict):
        await office.register(idempotency_key=KEY, model="m-2")
    assert await database.dump() == before


async def test_defaults_that_are_spelled_out_are_the_same_content(office: Office) -> None:
    first = await office.send("Ann", ["Bob"], idempotency_key=KEY)
    again = await office.send(
        "Ann", ["Bob"], idempotency_key=KEY, priority="normal", ack_required=False, thread_id=None
    )
    assert (again.replayed, again.message_id) == (True, first.message_id)


@pytest.mark.parametrize(
    "operation, acting, arguments",
    [
        ("send_message", "sender_name", {"recipient_names": ["Bob"], "subject": "s", "body_md": "b"}),
        ("reply_message", "sender_name", {"message_id": 1, "body_md": "b"}),
        ("broadcast_message", "sender_name", {"subject": "s", "body_md": "b"}),
        ("send_overseer_message", None, {"subject": "s", "body_md": "b"}),
        ("hand_off", "from_agent", {"to_agent": "Bob", "task": "t"}),
        ("request_review", "requester_name", {"message_id": 1, "reviewer_names": ["Bob"]}),
        ("add_attachment", "agent_name", {"file_name": "f", "content_base64": "aGk="}),
        ("register_agent", "name", {"program": "p", "model": "m"}),
        ("register_agent", None, {"program": "p", "model": "m"}),
    ],
)
async def test_another_spelling_of_project_and_agent_is_the_same_content(
    office: Office, database: Database, operation: str, acting: str | None, arguments: dict[str, Any]
) -> None:
    await office.ensure("/code/spelt", slug="spelt")
    spelt = Office(office.app, replace(office.caller, role=Role.admin), "spelt")
    for name in ("Ann", "Bob"):
        await spelt.register(name)
    if "message_id" in arguments:
        arguments = {**arguments, "message_id": (await spelt.send("Bob", ["Ann"])).message_id}

    async def ask(project: str, name: str) -> Any:
        own = {} if acting is None else {acting: name}
        return await spelt.call(operation, project_slug=project, idempotency_key=KEY, **own, **arguments)

    first = await ask("spelt", "Ann")
    before = await database.dump()
    again = await ask("/code/spelt/", "aNN")
    assert again == first.model_copy(update={"replayed": True})
    assert await database.dump() == before


async def test_the_same_key_is_free_for_another_agent_operation_or_principal(office: Office) -> None:
    first = await office.send("Ann", ["Bob"], idempotency_key=KEY)
    by_bob = await office.send("Bob", ["Bob"], idempotency_key=KEY)
    reply = await office.reply("Ann", first.message_id, idempotency_key=KEY)
    by_admin = await office.of("boss", Role.admin).send("Ann", ["Bob"], idempotency_key=KEY)
    registered = await office.register(idempotency_key=KEY)
    by_other = await office.of("other").register(idempotency_key=KEY)
    assert len({first.message_id, by_bob.message_id, reply.message_id, by_admin.message_id}) == 4
    assert registered.agent.name != by_other.agent.name
    assert not any(answer.replayed for answer in (by_bob, reply, by_admin, registered, by_other))


async def test_keys_differ_by_case_and_spaces(office: Office) -> None:
    ids = {(await office.send("Ann", ["Bob"], idempotency_key=key)).message_id for key in ("k", "K", "k ", " k")}
    assert len(ids) == 4


async def test_a_key_is_free_again_after_a_day(office: Office, database: Database) -> None:
    first = await office.send("Ann", ["Bob"], idempotency_key=KEY)
    registered = await office.register(idempotency_key=KEY)
    await database.age("idempotency_keys", timedelta(hours=23, minutes=59))
    assert (await office.send("Ann", ["Bob"], idempotency_key=KEY)).replayed
    await database.age("idempotency_keys", timedelta(minutes=2))
    second = await office.send("Ann", ["Bob"], subject="Other content", idempotency_key=KEY)
    assert (second.replayed, second.message_id != first.message_id) == (False, True)
    again = await office.send("Ann", ["Bob"], subject="Other content", idempotency_key=KEY)
    assert (again.replayed, again.message_id) == (True, second.message_id)
    assert (await office.register(idempotency_key=KEY)).agent.name != registered.agent.name


async def test_only_successes_are_kept(office: Office) -> None:
    with pytest.raises(RecipientsUnknown):
        await office.send("Ann", ["Eve"], idempotency_key=KEY)
    await office.register("Eve")
    sent = await office.send("Ann", ["Eve"], idempotency_key=KEY)
    assert not sent.replayed
    assert (await office.inbox("Eve")).unread_count == 1


async def test_a_replay_answers_even_when_it_could_not_be_sent_today(office: Office) -> None:
    first = await office.send("Ann", ["Bob"], idempotency_key=KEY)
    await office.retire("Bob")
    await office.retire("Ann")
    again = await office.send("Ann", ["Bob"], idempotency_key=KEY)
    assert (again.replayed, again.message_id) == (True, first.message_id)


async def test_a_replay_is_for_who_may_act_as_the_sender(office: Office) -> None:
    await office.send("Ann", ["Bob"], idempotency_key=KEY)
    with pytest.raises(AgentNotYours):
        await office.of("somebody").send("Ann", ["Bob"], idempotency_key=KEY)


async def test_a_key_that_was_taken_and_given_up_is_free(store: Store) -> None:
    scope = IdempotencyScope(TEAM, Principal("local"), AgentId(0), "register_agent", KEY)

    async def give_up() -> None:
        async with store.write() as db:
            assert await db.idempotency.take(scope, b"one") is None
            await db.idempotency.keep(scope, '{"answer": 1}')
            raise KeyError

    with pytest.raises(KeyError):
        await give_up()
    async with store.write() as db:
        assert await db.idempotency.take(scope, b"two") is None
        await db.idempotency.keep(scope, '{"answer": "é"}')
    async with store.write() as db:
        assert await db.idempotency.take(scope, b"three") == StoredAnswer(b"two", '{"answer": "é"}')


async def test_a_key_of_a_day_ago_is_taken_anew_and_keeps_the_new_answer(store: Store, database: Database) -> None:
    scope = IdempotencyScope(TEAM, Principal("local"), AgentId(0), "register_agent", KEY)
    async with store.write() as db:
        await db.idempotency.take(scope, b"one")
        await db.idempotency.keep(scope, "1")
    await database.age("idempotency_keys", A_DAY)
    async with store.write() as db:
        assert await db.idempotency.take(scope, b"two") is None
        await db.idempotency.keep(scope, "2")
    async with store.write() as db:
        assert await db.idempotency.take(scope, b"three") == StoredAnswer(b"two", "2")


async def test_registrations_under_other_names_or_in_other_projects_are_other_requests(office: Office) -> None:
    for name in ("Eve", "Fay"):
        begun = await office.register(name, idempotency_key=KEY)
        assert (begun.agent.name, begun.created, begun.replayed) == (name, True, False)
    nameless = await office.register(idempotency_key=KEY)
    assert (nameless.created, nameless.replayed) == (True, False)
    assert (await office.register("Eve", idempotency_key=KEY)).replayed
    await office.ensure("depot")
    elsewhere = replace(office, slug="depot")
    assert (await elsewhere.register("Eve", idempotency_key=KEY)).created
