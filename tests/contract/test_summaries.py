"""Summaries of threads, on both engines: asking, waiting, going on from the last one, and who is never named."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest

from agent_mail_core import summarizing
from agent_mail_core.errors import ThreadNotFound, TooManyWaiters
from agent_mail_core.ids import MessageId, TeamId
from agent_mail_core.job_queue import JobKind, JobQueue
from agent_mail_core.jobs import Job, LeaseLost, perform
from agent_mail_core.ports import App
from agent_mail_core.summaries import BODY_CHARACTERS, MessageNotes, NewSummary, SourceMessage
from agent_mail_core.summarizing import SummarizeThread, ThreadSummaries, ThreadSummary, summarize_thread
from agent_mail_core.summary_jobs import summarize
from agent_mail_core.thread_preparation import (
    LAST_BODY_CHARACTERS,
    LAST_MESSAGES,
    PreparedThread,
    PrepareThread,
    prepare_thread,
)
from agent_mail_summaries.extractive import ExtractiveSummarizer
from tests.contract.databases import Database
from tests.contract.office import Office

KINDS: list[JobKind] = ["summary"]
LEASE = timedelta(seconds=30)


class CountingSummarizer(ExtractiveSummarizer):
    """The real one, which tells what it has read."""

    def __init__(self) -> None:
        super().__init__()
        self.read: list[int] = []

    async def note(self, messages: Sequence[SourceMessage]) -> list[MessageNotes]:
        self.read += [message.id for message in messages]
        return await super().note(messages)


@pytest.fixture
def summarizer() -> CountingSummarizer:
    return CountingSummarizer()


class Bell(JobQueue):
    """Rings when somebody says that there is a summary to be made."""

    def __init__(self) -> None:
        self.rung = asyncio.Event()

    def wake(self, kind: JobKind, subject_id: int) -> None:
        assert kind == "summary"
        self.rung.set()


@pytest.fixture
def bell() -> Bell:
    return Bell()


@pytest.fixture
def app(app: App, summarizer: CountingSummarizer, bell: Bell) -> App:
    """With a summarizer; a test does the jobs itself."""
    return replace(app, summarizer=summarizer, jobs=bell)


async def ask(office: Office, *keys: str, wait: float = 0, refresh: bool = False) -> ThreadSummaries:
    request = SummarizeThread(project_slug=office.slug, thread_ids=list(keys), wait_seconds=wait, refresh=refresh)
    return await summarize_thread(office.app, office.caller, request)


async def summary(office: Office, key: str = "T-1", **more: bool) -> ThreadSummary:
    """The thread's summary, made if it has to be."""
    await ask(office, key, **more)
    await work(office.app)
    (made,) = (await ask(office, key)).summaries
    return made


async def claim(app: App) -> Job | None:
    async with app.store.write() as db:
        return await db.jobs.claim(KINDS, LEASE)


async def work(app: App) -> int:
    """Do all summary jobs that there are; how many."""
    done = 0
    while (job := await claim(app)) is not None:
        assert (await perform(app, {"summary": summarize}, job)).outcome == "done"
        done += 1
    return done


async def talk(office: Office) -> list[int]:
    """A thread of three messages; their ids."""
    first = await office.send(
        "Ann", ["Bob"], thread_id="T-1", subject="Cache", body="Which cache do we take?\n\nPlease measure both."
    )
    second = await office.reply("Bob", first.message_id, body_md="> Which cache do we take?\n\nLet's go with Redis.")
    third = await office.reply("Ann", second.message_id, body_md="Fine. Who pays for it?")
    return [first.message_id, second.message_id, third.message_id]


async def test_a_thread_is_summarized(office: Office) -> None:
    ids = await talk(office)
    made = await summary(office)
    assert (made.thread_id, made.status, made.engine) == ("T-1", "ready", "extractive")
    assert (made.up_to_message_id, made.message_count, made.messages_read, made.cut_bodies) == (ids[2], 3, 3, 0)
    assert made.participants == ["Ann", "Bob"]
    assert [(remark.text, remark.message_id) for remark in made.decisions] == [("Let's go with Redis.", ids[1])]
    assert [(remark.text, remark.sender_name) for remark in made.open_questions] == [("Who pays for it?", "Ann")]
    (item,) = made.action_items
    assert (item.text, item.owner, item.done) == ("Please measure both.", "Bob", False)
    assert [message.message_id for message in made.key_messages] == ids
    assert made.text.startswith("3 messages on ")
    assert made.made_at is not None


async def test_without_waiting_the_last_one_is_answered(office: Office) -> None:
    ids = await talk(office)
    (first,) = (await ask(office, "T-1")).summaries
    assert (first.status, first.engine, first.text) == ("pending", None, "")
    await work(office.app)
    await office.reply("Bob", ids[2], body_md="I do.")
    (last,) = (await ask(office, "T-1")).summaries
    assert (last.status, last.up_to_message_id, len(last.open_questions)) == ("pending", ids[2], 1)
    assert (await summary(office)).open_questions == []


async def test_a_call_waits_for_the_job_on_any_worker(workers: list[App], office: Office, bell: Bell) -> None:
    await talk(office)
    asked = asyncio.ensure_future(ask(office.at(workers[-1]), "T-1", wait=20))
    await bell.rung.wait()
    assert await work(office.app) == 1
    assert [made.status for made in (await asked).summaries] == ["ready"]


async def test_the_job_wakes_who_asks_from_another_project(
    office: Office, bell: Bell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And is not only found by looking again."""
    monkeypatch.setattr(summarizing, "LOOK_AGAIN_SECONDS", 600.0)
    await office.ensure("depot")
    depot = Office(office.app, office.caller, "depot")
    await depot.register("Zoe", contact_policy="open")
    await office.send("Ann", ["Zoe@depot"], thread_id="T-1")
    for project, key in ((office, "T-1"), (depot, "T-1@office")):
        request = SummarizeThread(
            project_slug=project.slug,
            thread_ids=[key],
            agent_name="Zoe" if project is depot else None,
            refresh=True,
            wait_seconds=40,
        )
        bell.rung.clear()
        asked = asyncio.ensure_future(summarize_thread(office.app, office.caller, request))
        await bell.rung.wait()
        async with asyncio.timeout(20):
            assert await work(office.app) == 1
            assert [made.status for made in (await asked).summaries] == ["ready"]


async def test_a_wait_ends_at_its_time_and_on_a_draining_server(office: Office) -> None:
    await talk(office)
    assert [made.status for made in (await ask(office, "T-1", wait=0.05)).summaries] == ["pending"]
    draining = office.at(replace(office.app, is_draining=lambda: True))
    assert [made.status for made in (await ask(draining, "T-1", wait=50)).summaries] == ["pending"]


async def test_waits_are_bounded(office: Office) -> None:
    await talk(office)
    full = replace(office.app, waiters=type(office.app.waiters)(0))  # type: ignore[call-arg]
    with pytest.raises(TooManyWaiters):
        await ask(office.at(full), "T-1", wait=1)


async def test_a_ready_one_asks_for_no_job(office: Office) -> None:
    await talk(office)
    await summary(office)
    (made,) = (await ask(office, "T-1", wait=50)).summaries
    assert made.status == "ready"
    assert await claim(office.app) is None


async def test_what_comes_while_it_is_made_makes_it_stale(
    office: Office, summarizer: CountingSummarizer, bell: Bell
) -> None:
    """A summary for the messages that there were when it was asked for is answered, and said to be behind."""
    ids = await talk(office)
    asked = asyncio.ensure_future(ask(office, "T-1", wait=20))
    await bell.rung.wait()
    job = await claim(office.app)
    assert job is not None

    async def note(messages: Sequence[SourceMessage]) -> list[MessageNotes]:
        await office.reply("Bob", ids[2], body_md="I do.")
        return await ExtractiveSummarizer.note(summarizer, messages)

    summarizer.note = note  # type: ignore[method-assign]
    await perform(office.app, {"summary": summarize}, job)
    (made,) = (await asked).summaries
    assert (made.status, made.up_to_message_id, made.message_count) == ("stale", ids[2], 3)


# --- going on from the last one ---------------------------------------------------------------------------------------


async def test_newer_messages_are_added_and_the_others_not_read_again(
    office: Office, summarizer: CountingSummarizer
) -> None:
    ids = await talk(office)
    await summary(office)
    newer = await office.reply("Bob", ids[2], body_md="I do. TODO: order it")
    gone_on = await summary(office)
    assert summarizer.read == [*ids, newer.message_id]
    anew = await summary(office, refresh=True)
    assert summarizer.read == [*ids, newer.message_id, *ids, newer.message_id]
    assert anew.made_at is not None
    assert gone_on.made_at is not None
    assert anew.made_at > gone_on.made_at
    assert anew.model_copy(update={"made_at": None}) == gone_on.model_copy(update={"made_at": None})


async def test_after_retention_a_summary_begins_anew(
    office: Office, database: Database, summarizer: CountingSummarizer
) -> None:
    """What no longer is in the thread must not go on in its summary."""
    ids = await talk(office)
    assert len((await summary(office)).decisions) == 1
    await database.execute(
        f"UPDATE messages SET parent_id = NULL WHERE parent_id = {ids[1]}",
        f"DELETE FROM deliveries WHERE message_id = {ids[1]}",
        f"DELETE FROM messages WHERE id = {ids[1]}",
    )
    newest = await office.reply("Bob", ids[2], body_md="I do.")
    made = await summary(office)
    assert (made.decisions, made.message_count) == ([], 3)
    assert summarizer.read[3:] == [ids[0], ids[2], newest.message_id]


async def test_a_refresh_keeps_the_last_one_until_there_is_another(office: Office) -> None:
    await talk(office)
    await summary(office)
    (asked,) = (await ask(office, "T-1", refresh=True)).summaries
    assert (asked.status, len(asked.decisions)) == ("pending", 1)
    assert (await summary(office)).status == "ready"


async def test_a_job_that_finds_nothing_new_changes_nothing(office: Office, database: Database) -> None:
    await talk(office)
    made = await summary(office)
    async with office.app.store.write() as db:
        thread = await db.threads.find((await db.agents.find(TeamId(1), office.slug, "Ann"))[0].id, "T-1")  # type: ignore[union-attr]
        assert thread is not None
        await db.jobs.want("summary", thread.id, TeamId(1))
    assert await work(office.app) == 1
    (same,) = (await ask(office, "T-1")).summaries
    assert same == made
    assert [event.kind for event in await database.events()].count("thread.summarized") == 1


async def test_a_worker_that_lost_its_lease_stores_nothing(office: Office, database: Database) -> None:
    await talk(office)
    await ask(office, "T-1")
    late = await claim(office.app)
    assert late is not None
    await database.age("jobs", LEASE, "run_at", "leased_until")
    assert await claim(office.app) is not None
    with pytest.raises(LeaseLost):
        await summarize(office.app, late)
    assert (await ask(office, "T-1")).summaries[0].engine is None


async def test_an_older_summary_never_replaces_a_newer_one(workers: list[App], office: Office) -> None:
    """Ten workers at once, each as far as it got: the one that covers most stays."""
    ids = await talk(office)
    made = await summary(office)
    await office.reply("Bob", ids[2], body_md="I do.")
    newest = await summary(office)
    async with office.app.store.read() as db:
        project, _ = await db.agents.find(TeamId(1), office.slug, "Ann")
        assert project is not None
        thread = await db.threads.find(project.id, "T-1")
        assert thread is not None
        records = await db.summaries.get([thread.id])
        notes = await db.summaries.notes(thread.id)
    record = records[thread.id]
    assert notes is not None
    assert made.up_to_message_id is not None
    older = NewSummary(thread.id, "old", MessageId(made.up_to_message_id), 3, record.content, notes, is_anew=False)

    async def keep(app: App) -> bool:
        async with app.store.write() as db:
            return await db.summaries.keep(older)

    assert await asyncio.gather(*(keep(workers[number % len(workers)]) for number in range(10))) == [False] * 10
    assert (await ask(office, "T-1")).summaries == [newest]


async def test_the_event_is_written_with_the_summary(office: Office, database: Database) -> None:
    ids = await talk(office)
    await summary(office)
    (event,) = [event for event in await database.events() if event.kind == "thread.summarized"]
    assert event.data == {
        "thread_id": "T-1",
        "engine": "extractive",
        "up_to_message_id": ids[2],
        "message_count": 3,
    }
    assert (event.agent_id, event.outbox_topics) == (None, ["archive"])


async def test_long_bodies_are_read_in_part_and_it_is_said(office: Office) -> None:
    await office.send("Ann", ["Bob"], thread_id="T-1", body="Word. " * BODY_CHARACTERS + "We decided on tea.")
    made = await summary(office)
    assert (made.messages_read, made.cut_bodies, made.decisions) == (1, 1, [])


# --- who sees what ----------------------------------------------------------------------------------------------------


async def test_a_bcc_recipient_is_never_named(office: Office, database: Database) -> None:
    await office.send("Ann", ["Bob"], bcc=["Dot"], thread_id="T-1", body="Dot will check it. Please look, @Dot.")
    await office.send("Ann", bcc=["Dot"], thread_id="T-1", body="Please review the plan.")
    made = await summary(office)
    assert made.participants == ["Ann", "Bob"]
    assert [item.owner for item in made.action_items] == ["Bob", None]
    assert made.text.splitlines()[0].endswith("Ann, Bob: Hello")


async def test_unknown_threads_are_named_beside_the_others(office: Office) -> None:
    await talk(office)
    answer = await ask(office, "T-1", "t-1", "T-2", "no such thread!")
    assert [made.thread_id for made in answer.summaries] == ["T-1"]
    assert [(refusal.thread_id, refusal.code) for refusal in answer.errors] == [
        ("T-2", "thread_not_found"),
        ("no such thread!", "thread_not_found"),
    ]
    assert answer.errors[0].near == ["T-1"]


async def test_a_foreign_thread_looks_like_an_unknown_one(office: Office, database: Database) -> None:
    other = replace(office, slug="other")
    await other.ensure("other")
    await other.register("Ann")
    await other.send("Ann", ["Ann"], thread_id="X-1")
    unknown, foreign = (await ask(office, "X-2", "X-1")).errors
    assert unknown.message.replace("X-2", "X-1") == foreign.message
    assert unknown.near == foreign.near


async def test_what_is_asked_for_of_a_deleted_project_is_dropped(office: Office, database: Database) -> None:
    await talk(office)
    await ask(office, "T-1")
    await database.execute("UPDATE projects SET deleted_at = created_at, deleted_slug = slug")
    assert await work(office.app) == 1
    assert (await database.dump())["summaries"] == []


# --- prepare_thread ---------------------------------------------------------------------------------------------------


async def prepare(office: Office, agent: str, key: str = "T-1") -> PreparedThread:
    request = PrepareThread(project_slug=office.slug, agent_name=agent, thread_id=key)
    return await prepare_thread(office.app, office.caller, request)


async def test_an_agent_catches_up_with_a_thread(office: Office) -> None:
    ids = await talk(office)
    await summary(office)
    prepared = await prepare(office, "Bob")
    assert prepared.summary is not None
    assert (prepared.summary.status, len(prepared.summary.decisions)) == ("ready", 1)
    assert [message.message_id for message in prepared.last_messages] == ids
    assert prepared.last_messages[2].body_md == "Fine. Who pays for it?"
    assert [unread.message_id for unread in prepared.unread] == [ids[0], ids[2]]
    await office.mark_read("Bob", ids[0])
    assert [unread.message_id for unread in (await prepare(office, "Bob")).unread] == [ids[2]]
    assert prepared.more_unread is False
    assert await prepare(office, "Bob") == await prepare(office, "Bob")


async def test_only_the_last_messages_and_the_beginnings_of_bodies_are_shown(office: Office) -> None:
    sent = [await office.send("Ann", ["Bob"], thread_id="T-1", body=f"{n} " + "x" * 9000) for n in range(8)]
    await summary(office)
    prepared = await prepare(office, "Bob")
    assert [message.message_id for message in prepared.last_messages] == [
        message.message_id for message in sent[-LAST_MESSAGES:]
    ]
    assert {(len(message.body_md or ""), message.is_cut) for message in prepared.last_messages} == {
        (LAST_BODY_CHARACTERS, True)
    }


async def test_a_bcc_is_shown_to_its_own_eyes_alone(office: Office) -> None:
    await office.send("Ann", ["Bob"], bcc=["Dot"], thread_id="T-1")
    await summary(office)
    seen = {
        agent: [recipient.name for recipient in (await prepare(office, agent)).last_messages[0].recipients]
        for agent in ("Ann", "Bob", "Cid", "Dot")
    }
    assert seen == {"Ann": ["Bob", "Dot"], "Bob": ["Bob"], "Cid": ["Bob"], "Dot": ["Bob", "Dot"]}


async def test_preparing_an_unknown_thread_is_refused(office: Office) -> None:
    with pytest.raises(ThreadNotFound):
        await prepare(office, "Bob")
