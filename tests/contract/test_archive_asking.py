"""Servers of a cluster ask job workers about archives, on a real Valkey: what is lost on the way costs a moment."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis

from agent_mail_archive.asking import RemoteArchive
from agent_mail_cluster.redis import questions
from agent_mail_cluster.redis.questions import ANSWERS, ASK_AGAIN_SECONDS, QUESTIONS, TAKEN, RedisQuestions
from agent_mail_core.archive_errors import ArchiveUnavailable
from agent_mail_core.archive_questions import ArchiveQuestion, AskLog, seal_question
from agent_mail_core.archive_reading import ArchiveLog, ArchiveShow, archive_log, archive_show
from agent_mail_core.errors import AgentMailError
from agent_mail_core.ports import App, StoreIdentity
from agent_mail_core.questions import Asked
from agent_mail_worker.answering import answering
from tests.contract.archives import ArchivedOffice, archived
from tests.contract.clusters import RedisWorker, redis_worker, until
from tests.contract.office import Office
from tests.contract.valkey_server import ValkeyServer, valkey_server

pytestmark = pytest.mark.valkey

ASKED: list[dict[str, Any]] = [
    {},
    {"path": "threads/feat-1.md"},
    {"path": "threads/feat-1.md", "at": "2020-01-01T00:00:00Z"},
    {"path": "messages"},
    {"path": "nothing"},
    {"commit": "0123456"},
    {"inbox_of": "Bob"},
    {"inbox_of": "Bob", "at": "2020-01-01T00:00:00Z"},
    {"inbox_of": "Cid"},
    {"limit": 1},
]


@pytest.fixture(scope="module")
def server() -> Iterator[ValkeyServer]:
    with valkey_server() as server:
        yield server


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(questions, "ASK_AGAIN_SECONDS", 0.1)
    monkeypatch.setattr(questions, "TAKEN_MS", 300)


@asynccontextmanager
async def asking(office: Office, url: str, timeout: float) -> AsyncIterator[Office]:
    """The office as a server has it that keeps no archive and asks."""
    async with redis_worker(url) as worker:
        await until(lambda: not worker.wakeups.is_lossy)
        reader = RemoteArchive(RedisQuestions(worker.connection, worker.subscriber), office.app.store.identity, timeout)
        yield replace(office, app=replace(office.app, archive=None, archive_reader=reader))


@pytest.fixture
async def asker(office: Office, server: ValkeyServer) -> AsyncIterator[Office]:
    async with asking(office, server.url, 5) as asker:
        yield asker


@asynccontextmanager
async def job_worker(app: App, url: str) -> AsyncIterator[RedisWorker]:
    """A job worker that answers with the app's archive."""
    async with redis_worker(url) as worker, answering(app, RedisQuestions(worker.connection, worker.subscriber)):
        yield worker


@pytest.fixture
async def mail(office: Office, tmp_path: Path) -> AsyncIterator[ArchivedOffice]:
    """The archive of a job worker, with a message to Bob, and to Cid by bcc."""
    async with archived(office, tmp_path / "archive") as mail:
        await office.send("Ann", ["Bob"], subject="One", thread_id="FEAT-1", bcc=["Cid"])
        await mail.archive()
        yield mail


async def shown(office: Office, **asked: Any) -> dict[str, Any]:
    """What archive_show answers, or its error."""
    try:
        request = ArchiveShow(project_slug=office.slug, **asked)
        return (await archive_show(office.app, office.caller, request)).model_dump()
    except AgentMailError as error:
        return {"code": error.code, "message": error.message, "data": error.data}


async def log_of(office: Office) -> list[str]:
    found = await archive_log(office.app, office.caller, ArchiveLog(project_slug=office.slug))
    return [commit.subject for commit in found.commits]


async def test_a_job_worker_answers_what_the_archive_itself_would(
    mail: ArchivedOffice, asker: Office, server: ValkeyServer
) -> None:
    async with job_worker(mail.app, server.url):
        for asked in ASKED:
            assert await shown(asker, **asked) == await shown(mail.office, **asked), asked
        first = ArchiveLog(project_slug="office", limit=1)
        assert await archive_log(asker.app, asker.caller, first) == await archive_log(
            mail.app, mail.office.caller, first
        )
    with redis.Redis.from_url(server.url) as client:
        await until(lambda: not client.keys(f"{TAKEN}*"))


async def test_without_a_job_worker_the_archive_is_unavailable(office: Office, server: ValkeyServer) -> None:
    async with asking(office, server.url, 0.3) as asker:
        with pytest.raises(ArchiveUnavailable) as refused:
            await log_of(asker)
    assert refused.value.data["suggestion"].startswith("get_thread")


async def test_too_many_questions_are_refused_at_once(asker: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(questions, "MOST_ASKED", 0)
    async with asyncio.timeout(1):
        with pytest.raises(ArchiveUnavailable):
            await log_of(asker)


async def test_a_worker_that_dies_over_a_question_keeps_it_from_nobody(
    mail: ArchivedOffice, asker: Office, server: ValkeyServer
) -> None:
    has_taken = asyncio.Event()

    async def never(asked: Asked) -> bytes | None:
        if await asked.take():
            has_taken.set()
            await asyncio.Event().wait()
        return None

    async with AsyncExitStack() as stack:
        dying = await stack.enter_async_context(redis_worker(server.url))
        hearing = asyncio.create_task(RedisQuestions(dying.connection, dying.subscriber).hear(never))
        answer = asyncio.create_task(log_of(asker))
        await has_taken.wait()
        await stack.enter_async_context(job_worker(mail.app, server.url))
        hearing.cancel()
        assert await answer == await log_of(mail.office)


async def test_what_redis_forgets_is_asked_again(mail: ArchivedOffice, asker: Office, server: ValkeyServer) -> None:
    """It is flushed, then stopped and started while questions are asked."""
    expected = await log_of(mail.office)
    async with job_worker(mail.app, server.url):
        with redis.Redis.from_url(server.url) as client:
            client.flushall()
        assert await log_of(asker) == expected
        server.stop()
        answer = asyncio.create_task(log_of(asker))
        await asyncio.sleep(0)
        server.start()
        assert await answer == expected


async def test_only_a_worker_that_has_the_recorded_commit_answers(
    mail: ArchivedOffice, asker: Office, server: ValkeyServer, tmp_path: Path
) -> None:
    expected = await log_of(mail.office)
    async with archived(mail.office, tmp_path / "other") as other:
        async with job_worker(other.app, server.url), job_worker(mail.app, server.url):
            for _ in range(10):
                assert await log_of(asker) == expected
        assert not (await other.path()).exists()


async def test_when_nobody_has_it_the_archive_job_makes_a_copy(
    mail: ArchivedOffice, asker: Office, server: ValkeyServer, tmp_path: Path
) -> None:
    """The worker that had it is gone for good, and its disk."""
    expected = await log_of(mail.office)

    async def is_wanted() -> bool:
        async with mail.app.store.read() as db:
            return any(figures.kind == "archive" for figures in await db.jobs.figures())

    assert not await is_wanted()
    async with archived(mail.office, tmp_path / "other") as other, job_worker(other.app, server.url):
        answer = asyncio.create_task(log_of(asker))
        await until(is_wanted)
        await other.archive()
        assert len(await answer) >= 1
        assert await shown(asker, inbox_of="Bob") == await shown(other.office, inbox_of="Bob")
        await other.verified()
    assert expected


async def test_a_copy_that_fell_behind_does_not_answer(
    mail: ArchivedOffice, asker: Office, server: ValkeyServer, tmp_path: Path
) -> None:
    async with archived(mail.office, tmp_path / "other") as other, job_worker(mail.app, server.url):
        await other.office.send("Bob", ["Ann"], subject="Two", thread_id="FEAT-2")
        await other.archive()  # made anew there, and gone on
        answer = asyncio.create_task(log_of(asker))
        async with job_worker(other.app, server.url):
            assert (await answer)[0] == "Bob: Two"


async def test_what_is_no_question_is_not_answered(mail: ArchivedOffice, asker: Office, server: ValkeyServer) -> None:
    async with mail.app.store.read() as db:
        project = await db.projects.find(mail.office.caller.team_id, "office")
    assert project is not None
    wanted = AskLog(begin=None, path=None, until=None, limit=1)
    question = ArchiveQuestion(project_id=project.id, wanted=wanted)
    forged = seal_question(StoreIdentity("x", b"x" * 32), question)
    sealed = seal_question(mail.app.store.identity, question)
    unknown = seal_question(mail.app.store.identity, ArchiveQuestion(project_id=project.id + 999, wanted=wanted))
    head = b"0" * 32 + b" f00d 0 "
    with redis.Redis.from_url(server.url) as client, client.pubsub() as heard:
        heard.subscribe(f"{ANSWERS}f00d")
        assert heard.get_message(timeout=2)
        async with job_worker(mail.app, server.url) as worker:
            assert await log_of(asker) == await log_of(mail.office), "it listens"
            for junk in (
                b"",
                b"\xff\x00",
                head,
                head + b"{}",
                head + forged,
                head + unknown,
                head + b"x" * 100_000,
                b"x " + sealed,
            ):
                client.publish(QUESTIONS, junk)
                client.publish(f"{ANSWERS}{worker.connection.worker}", junk)
            answered = None
            async with asyncio.timeout(30):
                while answered is None:  # a worker that is busy drops a question, and is asked again
                    client.publish(QUESTIONS, b"1" * 32 + b" f00d 0 " + sealed)
                    answered = await asyncio.to_thread(heard.get_message, timeout=ASK_AGAIN_SECONDS)
            assert answered["data"].startswith(b"1" * 32)
            assert await log_of(asker) == await log_of(mail.office)
