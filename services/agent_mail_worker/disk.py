"""What a job worker says at its start of the disk that ARCHIVE_ROOT is on."""

from __future__ import annotations

import asyncio

import structlog

from agent_mail_core.archive_copies import LOOKED_AT, SHARE_IT, absent_copies
from agent_mail_core.errors import AgentMailError
from agent_mail_core.ports import App

LOOK_TIMEOUT = 5.0


async def warn_of_other_disks(app: App) -> None:
    """One warning when archives that are recorded are not here. What cannot be looked at the jobs will tell of."""
    try:
        async with asyncio.timeout(LOOK_TIMEOUT):
            absent = await absent_copies(app)
    except (AgentMailError, TimeoutError):
        return
    if absent:
        reason = f"{SHARE_IT}; what is not here is made again from the events that are left"
        log = structlog.get_logger()
        log.warning("archives are not here", projects=absent, looked_at=LOOKED_AT, reason=reason)
