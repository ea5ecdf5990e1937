"""Idempotency keys on PostgreSQL: a row without a response holds a key, and only its own transaction ever sees it so.

Who races for a key waits at the INSERT until the holder's transaction ends, then reads the winner's row in a new
statement.
"""

from collections.abc import Sequence

from agent_mail_core.errors import TransactionConflict
from agent_mail_core.idempotency import KEPT_FOR, Idempotency, IdempotencyScope, StoredAnswer
from agent_mail_core.ids import TeamId
from agent_mail_store.postgres.statements import Statements


class PostgresIdempotency(Idempotency):
    def __init__(self, db: Statements) -> None:
        self._db = db

    async def take(self, scope: IdempotencyScope, fingerprint: bytes) -> StoredAnswer | None:
        if await take_keys(self._db, scope.team_id, [(scope, fingerprint)]):
            return None
        answer = (await stored_answers(self._db, scope.team_id, [scope])).get(scope)
        if answer is None:  # it was there a moment ago and has just been swept away
            raise TransactionConflict
        return answer

    async def keep(self, scope: IdempotencyScope, response: str) -> None:
        await self.amend(scope, response)

    async def amend(self, scope: IdempotencyScope, response: str) -> None:
        await self._db.the_row(
            """
            UPDATE idempotency_keys SET response = $6
            WHERE team_id = $1 AND principal = $2 AND agent_id = $3 AND operation = $4 AND key = $5
            RETURNING 1
            """,
            scope.team_id,
            scope.principal,
            scope.agent_id,
            scope.operation,
            scope.key,
            response,
        )


async def take_keys(
    db: Statements, team_id: TeamId, wanted: Sequence[tuple[IdempotencyScope, bytes]]
) -> set[IdempotencyScope]:
    """Take those keys of a team that are free or have expired, waiting for racers; returns the taken ones.

    In sorted order, so that two transactions that want the same keys never wait for each other.
    """
    wanted = sorted(wanted, key=lambda item: _columns(item[0]))
    rows = await db.rows(
        """
        INSERT INTO idempotency_keys AS held (team_id, principal, agent_id, operation, key, fingerprint)
        SELECT $1, principal, agent_id, operation, key, fingerprint
        FROM unnest($2::text[], $3::bigint[], $4::text[], $5::text[], $6::bytea[])
            WITH ORDINALITY AS wanted (principal, agent_id, operation, key, fingerprint, place)
        ORDER BY place
        ON CONFLICT (team_id, principal, agent_id, operation, key) DO UPDATE
            SET fingerprint = excluded.fingerprint, response = NULL, created_at = clock_timestamp()
            WHERE held.created_at <= clock_timestamp() - $7::interval
        RETURNING principal, agent_id, operation, key
        """,
        team_id,
        [scope.principal for scope, _ in wanted],
        [scope.agent_id for scope, _ in wanted],
        [scope.operation for scope, _ in wanted],
        [scope.key for scope, _ in wanted],
        [fingerprint for _, fingerprint in wanted],
        KEPT_FOR,
    )
    return {IdempotencyScope(team_id, *row) for row in rows}


async def stored_answers(
    db: Statements, team_id: TeamId, scopes: Sequence[IdempotencyScope]
) -> dict[IdempotencyScope, StoredAnswer]:
    """What is stored under those keys of a team that are taken."""
    rows = await db.rows(
        """
        SELECT principal, agent_id, operation, key, held.fingerprint, held.response
        FROM unnest($2::text[], $3::bigint[], $4::text[], $5::text[]) AS wanted (principal, agent_id, operation, key)
        JOIN idempotency_keys held USING (principal, agent_id, operation, key)
        WHERE held.team_id = $1 AND held.created_at > clock_timestamp() - $6::interval AND held.response IS NOT NULL
        """,
        team_id,
        [scope.principal for scope in scopes],
        [scope.agent_id for scope in scopes],
        [scope.operation for scope in scopes],
        [scope.key for scope in scopes],
        KEPT_FOR,
    )
    return {IdempotencyScope(team_id, *row[:4]): StoredAnswer(row["fingerprint"], row["response"]) for row in rows}


def _columns(scope: IdempotencyScope) -> tuple[str, int, str, str]:
    return scope.principal, scope.agent_id, scope.operation, scope.key
