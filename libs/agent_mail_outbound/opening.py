"""Opening what calls addresses outside."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from agent_mail_core.outbound import Outbound, OutboundAnswer
from agent_mail_core.settings import Settings

if TYPE_CHECKING:
    from agent_mail_outbound.http_outbound import HttpOutbound


@asynccontextmanager
async def open_outbound(settings: Settings) -> AsyncIterator[Outbound]:
    """It opens nothing before it is needed; usable while the block lasts."""
    outbound = _LateOutbound(settings.webhook_allowed_networks)
    try:
        yield outbound
    finally:
        outbound.close()


class _LateOutbound(Outbound):
    """Loads the HTTP client, on a thread, with the first call."""

    def __init__(self, allowed_networks: Sequence[str]) -> None:
        self._allowed = allowed_networks
        self._making = asyncio.Lock()
        self._made: HttpOutbound | None = None

    def close(self) -> None:
        """Close what was made."""
        if self._made is not None:
            self._made.close()

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> OutboundAnswer:
        if self._made is None:
            async with self._making:
                if self._made is None:
                    self._made = await asyncio.to_thread(_http_outbound, self._allowed)
        return await self._made.post(url, headers, body)


def _http_outbound(allowed_networks: Sequence[str]) -> HttpOutbound:
    # Most servers never call a webhook, and start without the HTTP client: 2 MB.
    from agent_mail_outbound.http_outbound import HttpOutbound

    return HttpOutbound(allowed_networks)
