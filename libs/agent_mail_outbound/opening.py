"""Opening what calls addresses outside."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from agent_mail_core.made_once import MadeOnce
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
        await outbound.close()


class _LateOutbound(Outbound):
    """Loads the HTTP client, on a thread, with the first call."""

    def __init__(self, allowed_networks: Sequence[str]) -> None:
        self._outbound = MadeOnce(lambda: _http_outbound(allowed_networks))

    async def close(self) -> None:
        """Close what was made."""
        for outbound in await self._outbound.made():
            outbound.close()

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> OutboundAnswer:
        return await (await self._outbound.get()).post(url, headers, body)


def _http_outbound(allowed_networks: Sequence[str]) -> HttpOutbound:
    # Most servers never call a webhook, and start without the HTTP client: 2 MB.
    from agent_mail_outbound.http_outbound import HttpOutbound

    return HttpOutbound(allowed_networks)
