"""The calls that run on this worker: clients stop theirs by session and request id, the server those that wait."""

from __future__ import annotations

import asyncio

from mcp_types import RequestId

from agent_mail_server.mcp_exchange import Exchange, Stop


class RunningCalls:
    """The calls that something may stop. What other workers run is reached by `Signals`."""

    def __init__(self) -> None:
        self._by_key: dict[tuple[str, RequestId | None], Exchange] = {}
        self._waiting: set[Exchange] = set()
        self._none_waits = asyncio.Event()
        self._none_waits.set()

    def add(self, session_id: str, exchange: Exchange) -> None:
        """The call can be cancelled by its session's client."""
        self._by_key[session_id, exchange.message_id] = exchange

    def remove(self, session_id: str, exchange: Exchange) -> None:
        """It has been answered."""
        if self._by_key.get((session_id, exchange.message_id)) is exchange:
            del self._by_key[session_id, exchange.message_id]

    def cancel(self, session_id: str, message_id: RequestId | None) -> bool:
        """Stop the session's call of that id; False when it does not run here."""
        exchange = self._by_key.get((session_id, message_id))
        if exchange is None:
            return False
        exchange.stop(Stop.cancelled)
        return True

    def cancel_all(self, session_id: str) -> None:
        """Stop all calls of a session."""
        for (owner, _), exchange in list(self._by_key.items()):
            if owner == session_id:
                exchange.stop(Stop.cancelled)

    def begin_waiting(self, exchange: Exchange) -> None:
        """The call waits for something, and may do so for long."""
        self._waiting.add(exchange)
        self._none_waits.clear()

    def end_waiting(self, exchange: Exchange) -> None:
        """It does no longer."""
        self._waiting.discard(exchange)
        if not self._waiting:
            self._none_waits.set()

    async def close(self, patience: float) -> None:
        """Give the waiting calls `patience` seconds to end by themselves, then stop them; return when none is left."""
        try:
            async with asyncio.timeout(patience):
                await self._none_waits.wait()
        except TimeoutError:
            for exchange in list(self._waiting):
                exchange.stop(Stop.closing)
            await self._none_waits.wait()
