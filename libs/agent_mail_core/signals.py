"""What one worker tells all others about a session: its calls and streams may be anywhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol


@dataclass(frozen=True, slots=True)
class Signal:
    """Something happened to a session.

    `cancelled`: its client cancelled the request whose id is `subject`. `ended`: stop its calls and streams.
    `taken`: a newer stream, named by `subject`, takes the place of the one held open.
    """

    kind: Literal["cancelled", "ended", "taken"]
    session_id: str
    subject: str | int | None = None


class Signals(Protocol):
    """Every signal reaches every worker within a second, the sender at once; all of it may be lost."""

    def listen(self, handler: Callable[[Signal], None]) -> None:
        """Call the handler, which must not fail, with every signal from now on, the worker's own included."""
        ...

    async def send(self, signal: Signal) -> None:
        """Tell all. Never raises: the worker's own handlers have been called, others hear it if they can be reached."""
        ...
