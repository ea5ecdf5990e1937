"""Questions that servers of a cluster put to its job workers, which alone have the git repositories.

A question and its answer are bytes that only the two who speak understand. All of it may be lost on the way.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeAlias

MOST_ASKED_BYTES, MOST_BYTES = 64 * 1024, 4 * 1024 * 1024
"""Of a question, and of an answer."""


class Asked(Protocol):
    """A question as a job worker hears it."""

    @property
    def question(self) -> bytes:
        """From whoever may write to the queue: not to be trusted."""
        ...

    @property
    def is_again(self) -> bool:
        """Whether nobody has answered when it was asked first."""
        ...

    async def take(self) -> bool:
        """Whether it is this worker's to answer: False when another one does. Raises Unavailable."""
        ...


Answerer: TypeAlias = Callable[[Asked], Awaitable[bytes | None]]
"""The answer, of MOST_BYTES at most; None leaves the question to others. Raises nothing."""


class Questions(Protocol):
    """The way from servers to job workers and back."""

    async def ask(self, question: bytes, timeout: float) -> bytes | None:
        """The answer of a job worker; None when there is none within so many seconds, or too many wait already.

        Asks again and again until then, so that a worker which dies, or comes, or a Redis that forgets costs a moment.
        """
        ...

    async def hear(self, answer: Answerer) -> None:
        """For job workers: until cancelled, answer what is asked, a few questions at a time."""
        ...
