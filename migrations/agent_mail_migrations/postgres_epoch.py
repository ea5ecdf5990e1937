"""A PostgreSQL database that was restored, perhaps into another cluster: a new epoch, and events behind what will come.

Events are followed in the order of (xact, id), and new ones take their transaction's id from the cluster. A cluster
whose ids are lower than those in the dump would put new events before the old. Then the old ones are numbered from 1 in
their order, with as few numbers as keep it: events share one as long as their ids ascend. Should the cluster have
given out fewer ids than that, some are used up for nothing.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, cast

from agent_mail_core.errors import DatabaseUnavailable
from agent_mail_migrations.postgres_runner import alone

if TYPE_CHECKING:
    import asyncpg

    Connection = asyncpg.Connection[asyncpg.Record]

FORGOTTEN = "events_forgotten"
"""The fact that holds a position too, as the store's events write it."""

USED_UP_AT_ONCE = 100_000

_NUMBERED = """
    SELECT id, xact, 1 + count(*) FILTER (WHERE has_descended) OVER (ORDER BY xact, id) AS number
    FROM (SELECT id, xact, id < lag(id) OVER (ORDER BY xact, id) AS has_descended FROM events) e
"""
_NUMBERS = f"SELECT coalesce(max(number), 0) FROM ({_NUMBERED}) n"  # noqa: S608 - as above
_MOST_STORED = """
    SELECT greatest(
        (SELECT xact::text::bigint FROM events ORDER BY xact DESC LIMIT 1),
        (SELECT max(position_xact) FROM archives),
        (SELECT max(position_xact) FROM webhooks),
        (SELECT max(position_xact) FROM webhook_deliveries),
        (SELECT (value::json ->> 0)::bigint FROM facts WHERE name = $1),
        0
    )
"""
_LAST_BEFORE = """
    LEFT JOIN LATERAL (
        SELECT number, id FROM numbered
        WHERE (xact, id) <= (b.position_xact::text::xid8, b.{id}) ORDER BY xact DESC, id DESC LIMIT 1
    ) n ON true
"""
_RENUMBER = (
    f"CREATE TEMPORARY TABLE numbered ON COMMIT DROP AS {_NUMBERED}",
    "CREATE INDEX ON numbered (xact, id)",
    "ANALYZE numbered",
    "UPDATE events e SET xact = n.number::text::xid8 FROM numbered n WHERE n.id = e.id",
    f"""
    UPDATE archives a SET position_xact = coalesce(n.number, 0), position_id = coalesce(n.id, 0)
    FROM archives b {_LAST_BEFORE.format(id="position_id")} WHERE b.project_id = a.project_id
    """,  # noqa: S608 - our own columns
    f"""
    UPDATE webhooks w SET position_xact = coalesce(n.number, 0), position_id = coalesce(n.id, 0)
    FROM webhooks b {_LAST_BEFORE.format(id="position_id")} WHERE b.id = w.id
    """,  # noqa: S608 - our own columns
    f"""
    UPDATE webhook_deliveries d SET position_xact = coalesce(n.number, 0)
    FROM webhook_deliveries b {_LAST_BEFORE.format(id="event_id")} WHERE b.id = d.id
    """,  # noqa: S608 - our own columns
)


_RAISE_FENCES = """
    INSERT INTO lease_counters AS known (project_id, fence) SELECT id, $1 FROM projects
    ON CONFLICT (project_id) DO UPDATE SET fence = greatest(known.fence, $1)
"""


async def begin_epoch(database_url: str, epoch: str, fence: int) -> None:
    """See `runner.begin_epoch`."""
    async with alone(database_url) as connection:
        if await _is_ahead(connection):
            await _use_up(connection, await connection.fetchval(_NUMBERS))
        async with connection.transaction():
            await connection.execute(
                "LOCK TABLE events, archives, webhooks, webhook_deliveries, facts IN EXCLUSIVE MODE"
            )
            if await _is_ahead(connection):
                await _renumber(connection)
            await connection.execute("UPDATE facts SET value = $1 WHERE name = 'epoch'", epoch)
            await connection.execute(_RAISE_FENCES, fence)
            if await _is_ahead(connection):
                raise DatabaseUnavailable("Events were written meanwhile: stop all servers, then do it again.")


async def _is_ahead(connection: Connection) -> bool:
    """Whether something stored has a transaction id that the cluster has not given out yet."""
    return cast(int, await connection.fetchval(_MOST_STORED, FORGOTTEN)) >= await _next_id(connection)


async def _next_id(connection: Connection) -> int:
    """Below it are this transaction's and those of all that were before."""
    return cast(int, await connection.fetchval("SELECT pg_current_xact_id()::text::bigint"))


async def _use_up(connection: Connection, up_to: int) -> None:
    """Let the cluster give out transaction ids until `up_to` is among them."""
    while (missing := up_to + 1 - await _next_id(connection)) > 0:
        count = min(missing, USED_UP_AT_ONCE)
        await connection.execute(
            f"DO $$ BEGIN FOR i IN 1..{count} LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$"
        )


async def _renumber(connection: Connection) -> None:
    for statement in _RENUMBER:
        await connection.execute(statement)
    forgotten = await connection.fetchval("SELECT value FROM facts WHERE name = $1", FORGOTTEN)
    if forgotten is None:
        return
    row = await connection.fetchrow(
        """
        SELECT number, id FROM numbered
        WHERE (xact, id) <= ($1::bigint::text::xid8, $2) ORDER BY xact DESC, id DESC LIMIT 1
        """,
        *json.loads(forgotten),
    )
    position = [row["number"], row["id"]] if row is not None else [0, 0]
    await connection.execute("UPDATE facts SET value = $1 WHERE name = $2", json.dumps(position), FORGOTTEN)
