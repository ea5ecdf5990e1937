"""Replies of clients to requests of the server, within one process; the Redis half adds the way between workers."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from agent_mail_core.replies import Expected, Replies

REQUEST_ID = re.compile(r"([0-9a-f]{16})\.[0-9]{1,15}")


class MemoryExpected(Expected):
    """A future that the reply fulfils."""

    def __init__(self, session_id: str, request_id: str) -> None:
        self.session_id = session_id
        self._request_id = request_id
        self._reply: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()

    @property
    def request_id(self) -> str:
        return self._request_id

    async def wait(self, timeout: float) -> dict[str, Any] | None:
        done, _ = await asyncio.wait((self._reply,), timeout=timeout)
        return self._reply.result() if done else None

    def fulfil(self, reply: dict[str, Any]) -> None:
        """The reply has come; only the first counts."""
        if not self._reply.done():
            self._reply.set_result(reply)


class MemoryReplies(Replies):
    """Those who wait on this worker, by request id."""

    def __init__(self, worker: str | None = None) -> None:
        """`worker`: 16 hex digits that no other worker has."""
        self.worker = worker or secrets.token_hex(8)
        self._expected: dict[str, MemoryExpected] = {}
        self._asked = 0

    def __len__(self) -> int:
        return len(self._expected)

    @contextmanager
    def expect(self, session_id: str) -> Iterator[MemoryExpected]:
        self._asked += 1
        expected = MemoryExpected(session_id, f"{self.worker}.{self._asked}")
        self._expected[expected.request_id] = expected
        try:
            yield expected
        finally:
            del self._expected[expected.request_id]

    async def deliver(self, session_id: str, request_id: object, reply: dict[str, Any]) -> bool:
        return self.deliver_here(session_id, request_id, reply)

    def deliver_here(self, session_id: str, request_id: object, reply: dict[str, Any]) -> bool:
        """Hand a reply to one who waits on this worker; False when there is none."""
        expected = self._expected.get(request_id) if isinstance(request_id, str) else None
        if expected is None or expected.session_id != session_id:
            return False
        expected.fulfil(reply)
        return True


def asking_worker(request_id: object) -> str | None:
    """The worker that a request id names; None when it is none of ours."""
    found = REQUEST_ID.fullmatch(request_id) if isinstance(request_id, str) else None
    return found[1] if found else None
