"""Refusing a database whose events are ahead of the transactions of its PostgreSQL: its dump is from another one.

Followers take events in the order of their transactions' ids, so they would see none of the new ones.
"""

from agent_mail_core.errors import RestoreUnfinished
from agent_mail_store.postgres.connections import Connections
from agent_mail_store.postgres.statements import Reading

_IS_AHEAD = """
    SELECT coalesce((SELECT xact FROM events ORDER BY xact DESC LIMIT 1) >= next_id, false)
           OR EXISTS (SELECT FROM archives WHERE position_xact::text::xid8 > next_id)
           OR EXISTS (SELECT FROM webhooks WHERE position_xact::text::xid8 > next_id) AS is_ahead
    FROM (SELECT pg_snapshot_xmax(pg_current_snapshot())) AS snapshot (next_id)
"""


async def check_is_here(connections: Connections) -> None:
    """Raise RestoreUnfinished for a database that was restored from another PostgreSQL, and is not ready for that."""
    db = Reading(connections)
    try:
        row = await db.the_row(_IS_AHEAD)
    finally:
        db.end()
    if row["is_ahead"]:
        raise RestoreUnfinished
