"""Opening what calls addresses outside."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from agent_mail_core.outbound import Outbound
from agent_mail_core.settings import Settings
from agent_mail_outbound.http_outbound import HttpOutbound


@asynccontextmanager
async def open_outbound(settings: Settings) -> AsyncIterator[Outbound]:
    """It opens nothing before it is needed; usable while the block lasts."""
    outbound = HttpOutbound(settings.webhook_allowed_networks)
    try:
        yield outbound
    finally:
        outbound.close()
