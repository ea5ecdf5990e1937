"""The mail of the archive's run: writers that number their messages, readers that mark and acknowledge them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from typing import Any

from loadtests.correspondence import PAGE, Correspondence
from loadtests.verdict import Entry

PATIENCE = 30.0
"""Seconds for one answer: what fails here is behind the requests, and none of them may."""
COME_AGAIN = ("429", "503")
"""How outcomes begin that are no failures: the server has too much to do, and says so."""
THREADS = 40
LOOK_SECONDS = 2.0


class Mail(Correspondence):
    """One project of writers and readers, whose events are of several kinds."""

    def _patience(self, entry: Entry) -> float:
        return PATIENCE

    def _arguments(self, entry: Entry) -> dict[str, Any]:
        hidden = [name for name in self.readers if name not in entry.recipients] if entry.counter % 10 == 0 else []
        return {
            **super()._arguments(entry),
            "thread_id": f"{entry.writer}-{entry.counter % THREADS}",
            "ack_required": entry.counter % 50 == 0,
            "bcc_names": hidden[:1],
        }

    async def read(self, name: str, stopping: asyncio.Event) -> None:
        """Mark what comes as read, acknowledge what asks for it; until the writers have stopped and nothing comes."""
        cursor = self.cursors[name]
        while True:
            is_last = stopping.is_set()
            page = await self._inbox(name, cursor=cursor, limit=PAGE)
            cursor, messages = page["cursor"], page["messages"]
            mine = {"project_slug": self.project, "agent_name": name}
            if messages:
                await self.post.must("mark_read", **mine, message_ids=[message["message_id"] for message in messages])
            for message in messages:
                if message["ack_required"]:
                    await self.post.must("acknowledge_message", **mine, message_id=message["message_id"])
            if not messages:
                if is_last:
                    return
                await asyncio.sleep(LOOK_SECONDS)

    @property
    def acknowledged(self) -> int:
        """Messages."""
        return len(self._acknowledged)

    def unclear(self) -> Counter[str]:
        """Answers to sends that were no acknowledgement."""
        return Counter(attempt.outcome for attempt in self.attempts if attempt.outcome)


def failures(unclear: Mapping[str, int]) -> Counter[str]:
    """Of those, the ones that do not only say to come again."""
    return Counter({what: count for what, count in unclear.items() if not what.startswith(COME_AGAIN)})
