"""Questions and answers between servers and job workers by publish and subscribe: nothing is left lying in Redis.

A question goes to all job workers that listen; one of those that can answer takes it, for TAKEN_MS. The asking server
has a channel for its answers. It asks again every ASK_AGAIN_SECONDS, whatever became of the question.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from dataclasses import dataclass

import structlog

from agent_mail_cluster.redis.connection import PREFIX, RedisConnection
from agent_mail_cluster.redis.subscriber import Subscriber
from agent_mail_core.questions import MOST_ASKED_BYTES, MOST_BYTES, Answerer, Asked, Questions

QUESTIONS = f"{PREFIX}questions"
ANSWERS = f"{PREFIX}answers:"
TAKEN = f"{PREFIX}question:"

ASK_AGAIN_SECONDS = 1.0
TAKEN_MS = 3000
"""How long a worker that died keeps a question from others."""

MOST_ASKED = 64
"""Questions of one server that wait for answers."""
MOST_HEARD, AT_ONCE = 32, 2
"""Questions that wait in a job worker, and that it answers at a time; others are dropped, and asked again."""

_QUESTION = re.compile(rb"([0-9a-f]{32}) ([0-9a-f]{1,64}) ([01]) (.*)", re.DOTALL)
_ANSWER = re.compile(rb"([0-9a-f]{32}) (.*)", re.DOTALL)


class RedisQuestions(Questions):
    """Both ends: what a server asks, and what a job worker hears."""

    def __init__(self, connection: RedisConnection, subscriber: Subscriber) -> None:
        self._connection = connection
        self._subscriber = subscriber
        self._asked: dict[str, asyncio.Future[bytes]] = {}
        subscriber.hold(ANSWERS + connection.worker, self._answered)

    async def ask(self, question: bytes, timeout: float) -> bytes | None:
        if len(self._asked) >= MOST_ASKED:
            return None
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        question_id = secrets.token_hex(16)
        answer: asyncio.Future[bytes] = loop.create_future()
        self._asked[question_id] = answer
        is_again = 0
        try:
            while (remaining := deadline - loop.time()) > 0:
                head = f"{question_id} {self._connection.worker} {is_again} ".encode()
                self._connection.post([("PUBLISH", QUESTIONS, head + question)])
                await asyncio.wait({answer}, timeout=min(ASK_AGAIN_SECONDS, remaining))
                if answer.done():
                    return answer.result()
                is_again = 1
            return None
        finally:
            del self._asked[question_id]

    def _answered(self, message: bytes) -> None:
        found = _ANSWER.fullmatch(message)
        waiting = self._asked.get(found[1].decode()) if found is not None else None
        if found is not None and waiting is not None and not waiting.done() and len(found[2]) <= MOST_BYTES:
            waiting.set_result(found[2])

    async def hear(self, answer: Answerer) -> None:
        heard: asyncio.Queue[_Heard] = asyncio.Queue(MOST_HEARD)

        def hear(message: bytes) -> None:
            found = _QUESTION.fullmatch(message)
            if found is not None and len(found[4]) <= MOST_ASKED_BYTES and not heard.full():
                asker, question_id = found[2].decode(), found[1].decode()
                heard.put_nowait(_Heard(self._connection, asker, question_id, found[4], found[3] == b"1"))

        async def work() -> None:
            while True:
                await self._answer(await heard.get(), answer)

        self._subscriber.hold(QUESTIONS, hear)
        try:
            await asyncio.gather(*(work() for _ in range(AT_ONCE)))
        finally:
            self._subscriber.release(QUESTIONS)

    async def _answer(self, asked: _Heard, answer: Answerer) -> None:
        try:
            said = await answer(asked)
        except Exception:  # noqa: BLE001 - whatever it is, the next question is answered
            structlog.get_logger().exception("a question was not answered")
            return
        if said is not None and len(said) <= MOST_BYTES:
            self._connection.post([("PUBLISH", ANSWERS + asked.asker, f"{asked.question_id} ".encode() + said)])


@dataclass(frozen=True, slots=True)
class _Heard(Asked):
    connection: RedisConnection
    asker: str
    question_id: str
    question: bytes
    is_again: bool

    async def take(self) -> bool:
        key = TAKEN + self.question_id
        return await self.connection.call("SET", key, self.connection.worker, "NX", "PX", TAKEN_MS) is not None
