"""Attachments of messages: linked with the send or not at all, and shown wherever the message is read whole."""

from typing import Any

import pytest
from pydantic import ValidationError

from agent_mail_core import attachments
from agent_mail_core.attachment_errors import AttachmentNotFound, AttachmentsTooLarge
from agent_mail_core.errors import AgentMailError, RecipientsUnknown
from tests.contract.contact_book import Book
from tests.contract.databases import Database
from tests.contract.office import Office
from tests.contract.test_attachments import add, get


def names(message: Any) -> list[str]:
    return [file.file_name for file in message.attachments or ()]


async def test_whoever_reads_the_message_whole_sees_them_in_order(office: Office) -> None:
    files = [await add(office, file_name=name, content=name.encode()) for name in ("b.md", "a.md")]
    wanted = ["b.md", "a.md"]
    sent = await office.send("Ann", ["Bob"], thread_id="T-1", attachment_ids=[file.attachment_id for file in files])
    shown = await office.get(sent.message_id)
    assert names(shown) == wanted
    assert shown.attachments is not None
    assert shown.attachments[0].model_dump() == files[0].model_dump(include={*shown.attachments[0].model_dump()})
    assert [names(message) for message in (await office.thread("T-1")).messages] == [wanted]
    assert [names(item) for item in (await office.inbox("Bob", include_bodies=True)).messages] == [wanted]
    assert b'"file_name":"b.md"' in (await office.inbox("Bob", include_bodies=True)).to_json()
    assert [names(item) for item in (await office.wait("Bob", include_bodies=True)).messages] == [wanted]
    start = (await office.inbox("Cid")).cursor
    await office.send("Ann", ["Cid"], attachment_ids=[files[1].attachment_id])
    later = await office.inbox("Cid", cursor=start, include_bodies=True)
    assert [names(item) for item in later.messages] == ["a.md".split()]
    assert (await get(office.of("token:2"), files[0].attachment_id)).size == 4


async def test_lists_without_bodies_do_not_show_them(office: Office) -> None:
    file = await add(office)
    await office.send("Ann", ["Bob"], thread_id="T-1", attachment_ids=[file.attachment_id])
    assert [item.attachments for item in (await office.inbox("Bob")).messages] == [None]
    assert [item.attachments for item in (await office.thread("T-1", include_bodies=False)).messages] == [None]


async def test_a_reply_has_its_own_and_may_pass_on_what_it_got(office: Office) -> None:
    got, own = await add(office), await add(office, "Bob", file_name="own.md", content=b"own")
    sent = await office.send("Ann", ["Bob"], attachment_ids=[got.attachment_id])
    reply = await office.reply("Bob", sent.message_id, attachment_ids=[own.attachment_id, got.attachment_id])
    assert names(await office.get(reply.message_id)) == ["own.md", "plan.md"]


async def test_a_message_in_another_project_carries_them_there(office: Office) -> None:
    await office.ensure("depot")
    depot = Office(office.app, office.caller, "depot")
    await depot.register("Zoe", contact_policy="open")
    file = await add(office)
    sent = await office.send("Ann", ["Zoe@depot"], attachment_ids=[file.attachment_id])
    assert names(await depot.get(sent.message_id, "Zoe", project_slug="depot")) == ["plan.md"]
    await Book(office).policy("Ann", "open")
    reply = await depot.reply("Zoe", sent.message_id, attachment_ids=[file.attachment_id])
    assert names(await office.get(reply.message_id)) == ["plan.md"]


@pytest.mark.parametrize("kind", ["unknown", "another's", "too large", "with an unknown recipient"])
async def test_a_send_that_may_not_link_them_leaves_nothing(
    office: Office, database: Database, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    own, other = await add(office), await add(office, "Bob")
    to, ids, error = {
        "unknown": ("Bob", [own.attachment_id, "0" * 32], AttachmentNotFound),
        "another's": ("Bob", [own.attachment_id, other.attachment_id], AttachmentNotFound),
        "too large": ("Bob", [own.attachment_id], AttachmentsTooLarge),
        "with an unknown recipient": ("Nobody", [own.attachment_id], RecipientsUnknown),
    }[kind]
    if kind == "too large":
        monkeypatch.setattr(attachments, "LARGEST_A_MESSAGE", own.size - 1)
    before = await database.dump()
    with pytest.raises(AgentMailError) as refused:
        await office.send("Ann", [to], thread_id="NEW-1", idempotency_key="k", attachment_ids=ids)
    assert type(refused.value) is error
    if error is AttachmentNotFound:
        assert refused.value.data["attachment_id"] == ids[1]
    assert await database.dump() == before


async def test_a_replay_links_nothing_again_and_other_attachments_are_other_content(
    office: Office, database: Database
) -> None:
    file = await add(office)
    arguments: dict[str, Any] = {"idempotency_key": "k", "attachment_ids": [file.attachment_id]}
    first = await office.send("Ann", ["Bob"], **arguments)
    before = await database.dump()
    again = await office.send("Ann", ["Bob"], **arguments)
    assert (again.message_id, again.replayed) == (first.message_id, True)
    assert await database.dump() == before
    with pytest.raises(AgentMailError) as refused:
        await office.send("Ann", ["Bob"], idempotency_key="k")
    assert refused.value.code == "idempotency_conflict"


async def test_at_most_20_each_named_once(office: Office) -> None:
    for ids in (["a"] * 2, [str(number) for number in range(21)]):
        with pytest.raises(ValidationError):
            await office.send("Ann", ["Bob"], attachment_ids=ids)
