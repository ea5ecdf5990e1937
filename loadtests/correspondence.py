"""The ledger's traffic: writers that number their messages, readers that follow cursors, and the read-back of it all.

Every call goes to a worker chosen at random. After an unclear answer (none, 5xx, 429) a writer tries the same key on
another worker at once, so that the attempts may race; it goes on to its next number when the last one is settled.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from agent_mail_client.client import ApiError, MailClient, Unreachable
from loadtests.verdict import Box, Entry, Seen

PATIENCE = 2.0
"""Seconds of a writer for one answer: shorter than the pauses of `faults`, so that attempts overlap."""
HASTE = 0.05
"""Share of first attempts whose writer is gone after some milliseconds: its retry races a worker in good health."""
SETTLE_PATIENCE = 60.0
LONGEST_WAIT = 3.0
PAGE = 100


@dataclass(frozen=True, slots=True)
class Attempt:
    """One send as its writer saw it; `outcome` is "" for an acknowledgement."""

    begun: float
    ended: float
    worker: int
    outcome: str


@dataclass
class Post:
    """The way to a cluster: one client a worker."""

    clients: Sequence[MailClient]
    chance: random.Random
    troubles: int = 0
    """Unclear answers to other calls than a writer's."""

    def any(self, other_than: int | None = None) -> int:
        """The number of some worker."""
        others = [number for number in range(len(self.clients)) if number != other_than]
        return self.chance.choice(others or [0])

    async def must(self, operation: str, **arguments: Any) -> dict[str, Any]:
        """Call until a worker answers clearly; for reads and what may be repeated."""
        deadline = time.monotonic() + SETTLE_PATIENCE
        last = None
        while True:
            last = self.any(last)
            try:
                return await self.clients[last].call(operation, **arguments)
            except (ApiError, Unreachable) as error:
                if not is_unclear(error) or time.monotonic() > deadline:
                    raise
                self.troubles += 1
            await asyncio.sleep(self.chance.uniform(0.05, 0.2))


def is_unclear(error: ApiError | Unreachable) -> bool:
    """Whether to try again."""
    return isinstance(error, Unreachable) or error.status in (429, 502, 503, 504) or error.status == 500


def outcome(error: ApiError | Unreachable) -> str:
    """In a word."""
    return f"{error.status} {error.code}" if isinstance(error, ApiError) else str(error).split(": ")[-1].split()[0]


@dataclass
class Correspondence:
    """One project of writers and readers."""

    project: str
    post: Post
    writers: list[str]
    readers: list[str]
    rate: float
    """Messages a second of one writer, at most."""
    entries: list[Entry] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)
    followed: dict[str, list[Seen]] = field(default_factory=dict)
    cursors: dict[str, str] = field(default_factory=dict)
    """Of the readers, when their inboxes were empty."""
    delays: list[float] = field(default_factory=list)
    """Seconds from an acknowledgement to a reader that has the message; 0 when the reader was first."""
    _acknowledged: dict[int, Entry] = field(default_factory=dict)
    _seen_at: dict[int, list[float]] = field(default_factory=dict)

    async def join(self) -> None:
        """Make the project and its agents."""
        await self.post.must("ensure_project", human_key=self.project, slug=self.project)
        for name in [*self.writers, *self.readers]:
            await self.post.must("register_agent", project_slug=self.project, name=name, program="ledger", model="none")
        for name in self.readers:
            self.cursors[name] = (await self._inbox(name, limit=1))["cursor"]
            self.followed[name] = []

    # --- writing

    async def write(self, name: str, stopping: asyncio.Event) -> None:
        """Send numbered messages until it is time to stop."""
        chance = random.Random(f"{self.project} {name}")
        for counter in itertools.count(1):
            begun = time.monotonic()
            key = f"{self.project} {name} {counter}"
            recipients = tuple(chance.sample(self.readers, chance.randint(1, min(3, len(self.readers)))))
            entry = Entry(name, counter, key, body(key), recipients)
            self.entries.append(entry)
            await self._settle(entry)
            pause = chance.expovariate(self.rate) - (time.monotonic() - begun)
            await asyncio.sleep(max(0.0, pause))
            if stopping.is_set():
                return

    async def _settle(self, entry: Entry) -> None:
        deadline = time.monotonic() + SETTLE_PATIENCE
        worker = None
        while entry.message_id is None and not entry.refusal and time.monotonic() < deadline:
            worker = self.post.any(worker)
            begun = time.monotonic()
            entry.attempts += 1
            what = ""
            try:
                async with asyncio.timeout(self._patience(entry)):
                    answer = await self.post.clients[worker].call("send_message", **self._arguments(entry))
                entry.message_id, entry.replayed = answer["message_id"], answer["replayed"]
                entry.acknowledged_at = time.monotonic()
                self._note_delay(entry)
            except TimeoutError:
                what = "timeout" if time.monotonic() - begun >= PATIENCE else "haste"
            except (ApiError, Unreachable) as error:
                what = outcome(error)
                entry.refusal = "" if is_unclear(error) else f"{what}: {error}"
            self.attempts.append(Attempt(begun, time.monotonic(), worker, what))
            if what:
                await asyncio.sleep(self.post.chance.uniform(0, 0.1))

    def _patience(self, entry: Entry) -> float:
        if entry.attempts == 1 and self.post.chance.random() < HASTE:
            return self.post.chance.uniform(0.002, 0.03)
        return PATIENCE

    def _arguments(self, entry: Entry) -> dict[str, Any]:
        return {
            "project_slug": self.project,
            "sender_name": entry.writer,
            "recipient_names": list(entry.recipients),
            "subject": entry.key,
            "body_md": entry.body,
            "idempotency_key": entry.key,
        }

    def _note_delay(self, entry: Entry) -> None:
        assert entry.message_id is not None
        for seen_at in self._seen_at.pop(entry.message_id, ()):
            self.delays.append(max(0.0, seen_at - entry.acknowledged_at))
        self._acknowledged[entry.message_id] = entry

    # --- reading

    async def follow(self, name: str, stopping: asyncio.Event) -> None:
        """Follow a cursor, by looking and by waiting, until there is nothing new after the writers have stopped."""
        cursor, chance, seen = self.cursors[name], random.Random(f"{self.project} {name}"), self.followed[name]
        while True:
            is_last = stopping.is_set()
            try:
                if is_last or chance.random() < 0.3:
                    page = await self._inbox(name, cursor=cursor, limit=chance.randint(1, PAGE))
                else:
                    wait = {"cursor": cursor, "timeout_seconds": round(chance.uniform(0.5, LONGEST_WAIT), 1)}
                    page = await self.post.must("wait_for_messages", project_slug=self.project, agent_name=name, **wait)
            except ApiError as error:
                if error.code != "cursor_expired":
                    raise
                cursor = self.cursors[name]  # what it showed is gone; what is seen again now counts as repeated
                continue
            now = time.monotonic()
            for message in page["messages"]:
                seen.append(Seen(message["message_id"], message["subject"]))
                if (entry := self._acknowledged.get(message["message_id"])) is not None:
                    self.delays.append(now - entry.acknowledged_at)
                else:
                    self._seen_at.setdefault(message["message_id"], []).append(now)
            if is_last and not page["messages"]:
                return
            cursor = page["cursor"]

    async def _inbox(self, name: str, **arguments: Any) -> dict[str, Any]:
        return await self.post.must("check_inbox", project_slug=self.project, agent_name=name, **arguments)

    # --- all that is stored

    async def inbox(self, name: str) -> Box:
        """A reader's whole inbox, forward from its first cursor and backward from its end."""
        messages: list[Seen] = []
        page: dict[str, Any] = {"cursor": self.cursors[name]}
        while True:
            page = await self._inbox(name, cursor=page["cursor"], limit=PAGE, include_bodies=True)
            if not page["messages"]:
                break
            messages += [Seen(m["message_id"], m["subject"], m["body_md"]) for m in page["messages"]]
        return Box(messages, page["unread_count"], await self._backward(name))

    async def _backward(self, name: str) -> list[int]:
        page = await self._inbox(name, limit=PAGE)
        ids: list[int] = [message["message_id"] for message in page["messages"]]
        while "older_cursor" in page:
            page = await self._inbox(name, before=page["older_cursor"], limit=PAGE)
            ids += [message["message_id"] for message in page["messages"]]
        return ids[::-1]

    async def outbox(self, name: str) -> Box:
        """All that a writer has sent."""
        messages: list[Seen] = []
        next_cursor: dict[str, str] = {}
        while True:
            where = {"project_slug": self.project, "agent_name": name, "limit": PAGE}
            page = await self.post.must("list_outbox", **where, **next_cursor)
            messages += [Seen(message["message_id"], message["subject"]) for message in page["messages"]]
            if "next_cursor" not in page:
                return Box(messages[::-1])
            next_cursor = {"cursor": page["next_cursor"]}

    async def replay(self, entries: Sequence[Entry]) -> int:
        """Send entries again, under their keys; how many were not answered as replays of the same message."""
        wrong = 0
        for entry in entries:
            answer = await self.post.must("send_message", **self._arguments(entry))
            wrong += (answer["message_id"], answer["replayed"]) != (entry.message_id, True)
        return wrong


def body(key: str) -> str:
    """Words that only this message has, 600 bytes of them."""
    digest = hashlib.sha256(key.encode()).hexdigest()
    return f"{key}\n\n" + " ".join(digest[n : n + 8] for n in range(0, 64, 8)) * 8
