"""Mail between two projects: where it lives, how it is addressed, who reads it (SPEC 2, 3.3 rules 4 and 7)."""

import re
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from agent_mail_core.errors import AgentNotYours, MessageNotFound, RecipientsUnknown, ThreadNotFound
from agent_mail_core.inbox_items import InboxMessage
from agent_mail_core.jobs import LEASE
from agent_mail_core.summarizing import ThreadSummaries
from agent_mail_core.summary_jobs import summarize
from agent_mail_summaries.extractive import ExtractiveSummarizer
from tests.contract.contact_book import Book
from tests.contract.databases import Database
from tests.contract.office import Office, pages


@pytest.fixture
async def depot(office: Office) -> Office:
    """Another project, with an Ann too and Zoe; all of both take mail from anybody."""
    await office.ensure("depot")
    other = Office(office.app, office.caller, "depot")
    for name in ("Ann", "Zoe"):
        await other.register(name, contact_policy="open")
    for name in ("Ann", "Bob", "Cid"):
        await Book(office).policy(name, "open")
    return other


async def test_each_reads_names_as_it_would_write_them(office: Office, depot: Office) -> None:
    sent = await office.send("Ann", ["Bob", "Ann@depot"], cc=["Zoe@depot"], thread_id="Feat-1")
    assert [recipient.name for recipient in sent.deliveries] == ["Bob", "Ann@depot", "Zoe@depot"]
    assert sent.thread_id == "Feat-1"
    (item,) = (await depot.inbox("Zoe")).messages
    assert (item.sender_name, item.thread_id) == ("Ann@office", "Feat-1@office")
    (here,) = (await office.inbox("Bob")).messages
    assert (here.sender_name, here.thread_id) == ("Ann", "Feat-1")
    shown = await depot.get(sent.message_id, "Zoe", project_slug="depot")
    assert [recipient.name for recipient in shown.recipients] == ["Bob@office", "Ann", "Zoe"]
    assert (shown.sender_name, shown.thread_id, shown.project_slug) == ("Ann@office", "Feat-1@office", "office")


async def test_what_is_shown_can_be_written_back(office: Office, depot: Office) -> None:
    await office.send("Ann", ["Zoe@depot"], thread_id="Feat-1")
    (item,) = (await depot.inbox("Zoe")).messages
    answer = await depot.send("Zoe", [item.sender_name], thread_id=item.thread_id)
    assert answer.thread_id == "Feat-1@office"
    thread = await office.thread("Feat-1")
    assert [message.sender_name for message in thread.messages] == ["Ann", "Zoe@depot"]
    assert thread.thread.participants == ["Ann", "Zoe@depot"]
    assert (await depot.threads()).threads == []
    assert (await depot.thread("Feat-1@office", agent_name="Zoe")).thread.thread_id == "Feat-1@office"
    assert (await depot.inbox("Zoe", thread_id="feat-1@office")).messages == [item]
    with pytest.raises(ThreadNotFound):
        await depot.inbox("Zoe", thread_id="Feat-1")


async def test_a_reply_stays_in_the_thread_and_its_project(office: Office, depot: Office, database: Database) -> None:
    sent = await office.send("Ann", ["Zoe@depot", "Bob"])
    reply = await depot.reply("Zoe", sent.message_id, reply_all=True)
    assert [recipient.name for recipient in reply.deliveries] == ["Ann@office", "Bob@office"]
    assert reply.thread_id == f"{sent.thread_id}@office"
    assert (await office.project()).message_count == 2
    assert (await depot.project()).message_count == 0
    events = [event for event in await database.events() if event.kind == "message.sent"]
    assert events[0].project_id == events[1].project_id
    assert events[1].data["sender"] == "Zoe@depot"


async def test_one_name_in_two_projects_is_two_recipients(office: Office, depot: Office) -> None:
    sent = await office.send("Bob", ["Ann", "Ann@depot"])
    assert len(sent.deliveries) == 2
    with pytest.raises(RecipientsUnknown):
        await office.send("Bob", ["Dot@depot"])


async def test_an_unknown_project_and_an_unknown_agent_answer_alike(office: Office, depot: Office) -> None:
    problems = []
    for address in ("Nobody@depot", "Nobody@nowhere", "Zoe@nowhere"):
        with pytest.raises(RecipientsUnknown) as unknown:
            await office.send("Ann", [address])
        problems.append({**unknown.value.data["recipients"][0], "name": ""})
    assert problems == [{"name": "", "code": "agent_not_found"}] * 3


async def test_from_another_project_only_the_parties_read(office: Office, depot: Office) -> None:
    sent = await office.send("Ann", ["Bob"], bcc=["Zoe@depot"], thread_id="Feat-1")
    assert (await depot.get(sent.message_id, "Zoe", project_slug="depot")).message_id == sent.message_id
    for call in (
        depot.get(sent.message_id, "Ann", project_slug="depot"),
        depot.get(sent.message_id, project_slug="depot"),
        depot.reply("Ann", sent.message_id),
        depot.send("Ann", ["Zoe"], parent_id=sent.message_id),
    ):
        with pytest.raises(MessageNotFound):
            await call
    with pytest.raises(ThreadNotFound):
        await depot.send("Ann", ["Zoe"], thread_id="Feat-1@office")
    assert [message.code for message in (await depot.mark_read("Ann", sent.message_id)).messages] == [
        "message_not_found"
    ]


async def test_from_another_project_a_thread_shows_the_partys_messages(office: Office, depot: Office) -> None:
    first = await office.send("Ann", ["Bob", "Zoe@depot"], thread_id="Feat-1")
    await office.send("Ann", ["Bob"], thread_id="Feat-1", body="Not for Zoe")
    answer = await depot.reply("Zoe", first.message_id)
    hidden = await office.send("Ann", ["Bob"], bcc=["Zoe@depot"], thread_id="Feat-1")
    mine = [first.message_id, answer.message_id, hidden.message_id]
    read = [
        message.message_id
        async for page in pages(lambda **more: depot.thread("feat-1@office", agent_name="Zoe", **more), limit=1)
        for message in page.messages
    ]
    assert read == mine
    prepared = await depot.call("prepare_thread", project_slug="depot", agent_name="Zoe", thread_id="Feat-1@office")
    assert [message.message_id for message in prepared.last_messages] == mine
    assert [message.message_id for message in prepared.unread] == [first.message_id, hidden.message_id]
    assert {message.thread_id for message in prepared.last_messages} == {"Feat-1@office"}
    assert prepared.summary is None
    assert "Not for Zoe" not in prepared.model_dump_json()
    (refused,) = (await summed_up(depot, ["Feat-1@office"], agent_name="Zoe")).errors
    assert (refused.code, "get_thread" in refused.message) == ("thread_not_found", True)
    assert len((await office.thread("Feat-1")).messages) == 4


async def test_who_has_no_part_in_a_thread_of_another_project_finds_none(office: Office, depot: Office) -> None:
    await office.send("Ann", ["Bob", "Zoe@depot"], thread_id="Feat-1")
    answers = set()
    for key in ("Feat-1@office", "Feat-2@office", "Feat-1@nowhere"):
        for name in (None, "Ann"):
            own = {} if name is None else {"agent_name": name}
            with pytest.raises(ThreadNotFound) as missed:
                await depot.thread(key, **own)
            answers.add(f"{missed.value.message} {missed.value.data}".replace(key, "KEY"))
            (refused,) = (await summed_up(depot, [key], **own)).errors
            assert (refused.code, refused.near) == ("thread_not_found", None)
        with pytest.raises(ThreadNotFound):
            await depot.inbox("Ann", thread_id=key)
        with pytest.raises(ThreadNotFound):
            await depot.call("prepare_thread", project_slug="depot", agent_name="Ann", thread_id=key)
    assert len(answers) == 1
    with pytest.raises(AgentNotYours):
        await depot.of("token:2").thread("Feat-1@office", agent_name="Zoe")


async def test_a_thread_that_is_all_ones_own_is_summed_up_from_the_other_project(office: Office, depot: Office) -> None:
    sent = await office.send("Ann", ["Zoe@depot"], thread_id="Feat-1", body="Can you look at it?")
    await depot.reply("Zoe", sent.message_id, body_md="We decided to use Postgres.")
    asked = await summed_up(depot, ["Feat-1@office"], agent_name="Zoe")
    assert (asked.errors, [each.status for each in asked.summaries]) == ([], ["pending"])
    async with office.app.store.write() as db:
        job = await db.jobs.claim(["summary"], LEASE)
    assert job is not None
    await summarize(replace(office.app, summarizer=ExtractiveSummarizer()), job)
    (there,) = (await summed_up(depot, ["Feat-1@office"], agent_name="Zoe")).summaries
    assert (there.thread_id, there.status, there.participants) == ("Feat-1@office", "ready", ["Ann@office", "Zoe"])
    assert [each.sender_name for each in there.decisions] == ["Zoe"]
    (here,) = (await summed_up(office, ["Feat-1"])).summaries
    assert [each.sender_name for each in here.decisions] == ["Zoe@depot"]
    prepared = await depot.call("prepare_thread", project_slug="depot", agent_name="Zoe", thread_id="Feat-1@office")
    assert prepared.summary == there


async def summed_up(office: Office, keys: list[str], **more: Any) -> ThreadSummaries:
    answer: ThreadSummaries = await office.call(
        "summarize_thread", project_slug=office.slug, thread_ids=keys, wait_seconds=0, **more
    )
    return answer


async def test_reading_and_acknowledging_work_from_the_other_project(office: Office, depot: Office) -> None:
    sent = await office.send("Ann", ["Zoe@depot"], ack_required=True)
    owed = await office.pending("Ann", direction="owed_to_me")
    assert [row.agent_name for row in owed.pending] == ["Zoe@depot"]
    await depot.acknowledge("Zoe", sent.message_id)
    assert (await office.pending("Ann", direction="owed_to_me")).pending == []
    (shown,) = (await office.outbox("Ann")).messages
    assert (shown.recipients[0].name, shown.recipients[0].acknowledged_at is not None) == ("Zoe@depot", True)


async def test_a_bcc_into_another_project_stays_secret(office: Office, depot: Office) -> None:
    sent = await office.send("Ann", ["Bob"], bcc=["Zoe@depot"], thread_id="Feat-1")
    assert "Zoe" not in (await office.get(sent.message_id, "Bob")).model_dump_json()
    assert "Zoe" not in (await office.thread("Feat-1")).model_dump_json()
    assert (await depot.threads()).threads == []


async def test_an_agents_own_list_of_threads_has_those_of_other_projects(office: Office, depot: Office) -> None:
    await depot.send("Zoe", ["Ann"], thread_id="D-1", subject="Home")
    await office.send("Ann", ["Zoe@depot"], thread_id="Feat-1", subject="First")
    await depot.send("Zoe", ["Ann"], thread_id="D-2", subject="Home again")
    await office.send("Ann", ["Bob"], bcc=["Zoe@depot"], thread_id="Feat-2", subject="Second")
    own = [page.threads[0] async for page in pages(depot.threads, agent_name="Zoe", limit=1)]
    assert [thread.thread_id for thread in own] == ["Feat-2@office", "D-2", "Feat-1@office", "D-1"]
    assert [thread.project_slug for thread in own] == ["office", "depot", "office", "depot"]
    assert [thread.participants for thread in own[::2]] == [["Ann@office", "Bob@office"]] * 1 + [["Ann@office", "Zoe"]]
    assert [thread.thread_id for thread in (await depot.threads(agent_name="Zoe", query="EAT-1")).threads] == [
        "Feat-1@office"
    ]
    seen_by_others = await depot.of("token:2").threads(agent_name="Zoe")
    assert [thread.thread_id for thread in seen_by_others.threads] == ["D-2", "D-1"]
    await office.call("delete_project", project_slug="office")
    assert [thread.thread_id for thread in (await depot.threads(agent_name="Zoe")).threads] == ["D-2", "D-1"]


async def test_everything_that_a_party_reads_is_the_same_with_and_without_a_bcc(office: Office, depot: Office) -> None:
    """What the other project's recipient is shown of two messages that differ in a bcc alone, ids and times aside."""
    shown: list[list[str]] = []
    for number, bcc in enumerate(((), ("Bob", "Ann@depot"))):
        key = f"Feat-{number}"
        sent = await office.send("Ann", ["Zoe@depot"], cc=["Cid"], bcc=bcc, thread_id=key, ack_required=True)
        answers = [
            await depot.get(sent.message_id, "Zoe", project_slug="depot"),
            await depot.thread(f"{key}@office", agent_name="Zoe"),
            *_as_models((await depot.inbox("Zoe", thread_id=f"{key}@office")).messages),
            *(row for row in (await depot.pending("Zoe")).pending if row.message_id == sent.message_id),
            *(row for row in (await depot.threads(agent_name="Zoe")).threads if row.thread_id == f"{key}@office"),
            *(hit for hit in (await depot.search("hello", agent_name="Zoe")).hits if hit.message_id == sent.message_id),
        ]
        assert len(answers) == 6
        texts = [answer.model_dump_json(exclude={"rank"}).replace(key, "KEY") for answer in answers]
        shown.append([re.sub(r'"(\w+_id|\w+_at)":("[^"]*Z"|\d+)', "", text) for text in texts])
    assert shown[0] == shown[1]
    assert "Zoe" in shown[0][0]


def _as_models(items: Iterable[object]) -> list[InboxMessage]:
    return [InboxMessage.model_validate(item, from_attributes=True) for item in items]
