"""Performing an operation for a caller: role, deadline, retries of lost races, and the counters.

Both transports end here.
"""

from __future__ import annotations

import asyncio
import random

from agent_mail_core.errors import Forbidden, TransactionConflict, Unavailable
from agent_mail_core.fields import Request, Result
from agent_mail_core.ports import App, Caller
from agent_mail_server.metrics import ServerMetrics
from agent_mail_server.operations import Operation

TRIES = 4
"""A lost race is run again three times (DESIGN 5)."""

_writes: set[asyncio.Future[Result]] = set()


async def perform(app: App, metrics: ServerMetrics, caller: Caller, operation: Operation, request: Request) -> Result:
    """Run the use case, or raise why not.

    A read ends at REQUEST_TIMEOUT_SECONDS and when its caller goes away. A write that has begun is never abandoned: its
    statements have deadlines of their own, and if the caller is cancelled it commits all the same.
    """
    if caller.role < operation.role:
        raise Forbidden(f"{operation.name} needs the role {operation.role.name}.", role=caller.role.name)
    with metrics.operation(operation.name):
        if operation.is_waiting:
            return await operation.use_case(app, caller, request)
        if operation.is_write:
            write = asyncio.ensure_future(_retried(app, caller, operation, request))
            _writes.add(write)  # the event loop holds tasks weakly, and a cancelled caller lets go of this one
            write.add_done_callback(_writes.discard)
            return await asyncio.shield(write)
        try:
            async with asyncio.timeout(app.settings.request_timeout_seconds):
                return await _retried(app, caller, operation, request)
        except TimeoutError:
            raise Unavailable(f"{operation.name} did not finish in time; try again.") from None


async def _retried(app: App, caller: Caller, operation: Operation, request: Request) -> Result:
    for attempt in range(1, TRIES + 1):
        try:
            return await operation.use_case(app, caller, request)
        except TransactionConflict:
            if attempt == TRIES:
                raise
            await asyncio.sleep(random.uniform(0, 0.01 * 2**attempt))  # noqa: S311 - jitter, not a secret
    raise AssertionError("unreachable")
