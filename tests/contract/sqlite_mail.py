"""A SQLite store with a project, its agents and sends to put through it, for the tests of what only SQLite has."""

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import apsw
from pydantic import SecretStr

from agent_mail_core.agents import NewAgent
from agent_mail_core.clock import SystemClock, from_microseconds
from agent_mail_core.delivery import Outgoing
from agent_mail_core.ids import AgentId, Principal, ProjectId, TeamId
from agent_mail_core.mailboxes import InboxFilter
from agent_mail_core.ports import Clock, Store
from agent_mail_core.search_text import index_text
from agent_mail_core.settings import Settings
from agent_mail_store.opening import open_store

TEAM = TeamId(1)
LOCAL = Principal("local")
PROJECT = "office"
NAMES = ("Ann", "Bob", "Cid", "Dot")


class StoppedClock(Clock):
    """Always the same instant, so that equal histories make equal rows."""

    def now(self) -> datetime:
        return from_microseconds(self.microseconds())

    def microseconds(self) -> int:
        return 1_800_000_000_000_000


@asynccontextmanager
async def opened(url: str, clock: Clock | None = None, **settings: Any) -> AsyncIterator[Store]:
    """A store on the database, closed at the end."""
    found = Settings(database_url=SecretStr(url), **settings)
    store = await open_store(found, clock or SystemClock(), single_server=False)
    try:
        yield store
    finally:
        await store.close()


async def furnish(store: Store) -> dict[str, AgentId]:
    """Make the project and its agents; their ids by name."""
    async with store.write() as db:
        project, _ = await db.projects.ensure(TEAM, PROJECT, [PROJECT], False, None)
        return {name: (await db.agents.register(name, new_agent(project.id), False))[0].id for name in NAMES}


def new_agent(project_id: ProjectId) -> NewAgent:
    return NewAgent(TEAM, project_id, LOCAL, "shell", "m-1", None, None)


def outgoing(sender: str, to: tuple[str, ...], subject: str = "Hello", **more: Any) -> Outgoing:
    """A checked send; each begins a thread of its own name unless told otherwise."""
    fields: dict[str, Any] = {
        "team_id": TEAM,
        "principal": LOCAL,
        "is_admin": False,
        "operation": "send_message",
        "project_ref": PROJECT,
        "sender_name": sender,
        "to": to,
        "cc": (),
        "bcc": (),
        "subject": subject,
        "body_md": "How are you?",
        "thread_key": "T-1",
        "parent_id": None,
        "reply_all": False,
        "priority": "normal",
        "ack_required": False,
        "allow_partial": False,
        "idempotency_key": None,
        "fingerprint": b"f" * 16,
        **more,
    }
    fields["body_index"] = index_text("", fields["body_md"])
    return Outgoing(**fields)


async def project_id(store: Store) -> ProjectId:
    """The project's id."""
    async with store.read() as db:
        project = await db.projects.find(TEAM, PROJECT)
    assert project is not None
    return project.id


async def inbox(store: Store, agent_id: AgentId) -> list[str]:
    """Subjects, oldest first, after checking that positions and the unread count are without a gap."""
    async with store.read() as db:
        found = await db.mailboxes.after(agent_id, 0, InboxFilter(), False, 100_000)
    assert [item.position for item in found.items] == list(range(1, found.position + 1))
    assert found.unread == sum(item.read_at is None for item in found.items)
    return [item.subject for item in found.items]


def sound(url: str) -> None:
    """Check the file: pages, indexes, foreign keys, and the text index against the messages."""
    connection = apsw.Connection(url.removeprefix("sqlite:///"))
    try:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        connection.execute("INSERT INTO message_text (message_text) VALUES ('integrity-check')")
        messages = connection.execute("SELECT id FROM messages ORDER BY id").fetchall()
        assert connection.execute("SELECT id FROM message_text_docsize ORDER BY id").fetchall() == messages
        counted = "SELECT message_id, count(*) FROM deliveries GROUP BY message_id ORDER BY message_id"
        assert [row[0] for row in connection.execute(counted)] == [row[0] for row in messages]
        sent = (
            "SELECT message_id FROM events JOIN outbox ON event_id = events.id WHERE kind = 'message.sent' ORDER BY 1"
        )
        assert connection.execute(sent).fetchall() == messages
    finally:
        connection.close()


@contextmanager
def child(source: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A Python process with this one's import path, killed at the end."""
    process = subprocess.Popen(
        [sys.executable, "-c", source, *arguments],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()
