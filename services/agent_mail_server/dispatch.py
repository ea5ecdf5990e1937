"""Performing an operation for a caller: limit, role, deadline, retries of lost races, and the counters.

Both transports end here.
"""

from __future__ import annotations

import asyncio
import random

from agent_mail_core.errors import DatabaseUnavailable, Forbidden, Limited, TransactionConflict, Unavailable
from agent_mail_core.fields import Request, Result
from agent_mail_core.limits import Allowance
from agent_mail_core.ports import App, Caller
from agent_mail_core.sweeps import events_were_added
from agent_mail_server.deadlines import deadline
from agent_mail_server.limiting import UNCOUNTED, count
from agent_mail_server.metrics import ServerMetrics
from agent_mail_server.operations import Operation

TRIES = 4
"""A lost race is run again three times (DESIGN 5)."""

_writes: set[asyncio.Future[Result]] = set()


def is_limited(caller: Caller, operation: Operation) -> bool:
    """Whether calls of the operation count against anything."""
    return caller.counts_for is not None and operation.name not in UNCOUNTED


async def counted(
    app: App, metrics: ServerMetrics, caller: Caller, operation: Operation, request: Request | None
) -> Allowance | None:
    """Count the call against its caller's budgets; what is left, or None where nothing counts. Raises Limited.

    Without a request, which is still to be read, it counts for the caller and not for the agent that acts.
    """
    if not is_limited(caller, operation):
        return None
    try:
        return await count(app, caller, operation.is_write, request)
    except Limited:
        with metrics.operation(operation.name):
            raise


async def perform(
    app: App,
    metrics: ServerMetrics,
    caller: Caller,
    operation: Operation,
    request: Request,
    is_counted: bool = False,
) -> Result:
    """Run the use case, or raise why not. `is_counted`: whoever calls has called `counted` before.

    A read ends at REQUEST_TIMEOUT_SECONDS and when its caller goes away. A write that has begun is never abandoned: its
    statements have deadlines of their own, and if the caller is cancelled it commits all the same.
    """
    if not is_counted and is_limited(caller, operation):
        await counted(app, metrics, caller, operation, request)
    if caller.role < operation.role:
        raise Forbidden(f"{operation.name} needs the role {operation.role.name}.", role=caller.role.name)
    with metrics.operation(operation.name):
        if operation.name not in UNCOUNTED and app.is_database_away():  # those need no database
            raise DatabaseUnavailable
        if operation.waits(request):
            metrics.waiting += 1
            try:
                return await _performed(app, caller, operation, request)
            finally:
                metrics.waiting -= 1
        if operation.is_write:
            write = asyncio.ensure_future(_retried(app, caller, operation, request))
            _writes.add(write)  # the event loop holds tasks weakly, and a cancelled caller lets go of this one
            write.add_done_callback(_writes.discard)
            return await asyncio.shield(write)
        try:
            with deadline(app.settings.request_timeout_seconds):
                return await _retried(app, caller, operation, request)
        except TimeoutError:
            raise Unavailable(f"{operation.name} did not finish in time; try again.") from None


async def _retried(app: App, caller: Caller, operation: Operation, request: Request) -> Result:
    for attempt in range(1, TRIES + 1):
        try:
            return await _performed(app, caller, operation, request)
        except TransactionConflict:
            if attempt == TRIES:
                raise
            await asyncio.sleep(random.uniform(0, 0.01 * 2**attempt))  # noqa: S311 - jitter, not a secret
    raise AssertionError("unreachable")


async def _performed(app: App, caller: Caller, operation: Operation, request: Request) -> Result:
    """The one place from which the followers of events learn that there may be new ones."""
    result = await operation.use_case(app, caller, request)
    if operation.is_write:
        events_were_added(app)
    return result
