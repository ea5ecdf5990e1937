"""Signals about sessions within one server process."""

from __future__ import annotations

from collections.abc import Callable

from agent_mail_core.signals import Signal, Signals


class MemorySignals(Signals):
    """The worker's handlers."""

    def __init__(self) -> None:
        self._handlers: list[Callable[[Signal], None]] = []

    def listen(self, handler: Callable[[Signal], None]) -> None:
        self._handlers.append(handler)

    async def send(self, signal: Signal) -> None:
        self.heard(signal)

    def heard(self, signal: Signal) -> None:
        """Call the handlers."""
        for handler in self._handlers:
            handler(signal)
