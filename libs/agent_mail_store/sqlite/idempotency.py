"""Idempotency keys in SQLite. Whoever asks is the only writer, so a key that is free is held without a row."""

from agent_mail_core.clock import MICROSECOND
from agent_mail_core.errors import TransactionConflict
from agent_mail_core.idempotency import KEPT_FOR, Idempotency, IdempotencyScope, StoredAnswer
from agent_mail_core.ports import Clock
from agent_mail_store.sqlite.statements import Statements


class SqliteIdempotency(Idempotency):
    __slots__ = ("_clock", "_statements")

    def __init__(self, statements: Statements, clock: Clock) -> None:
        self._statements = statements
        self._clock = clock

    async def take(self, scope: IdempotencyScope, fingerprint: bytes) -> StoredAnswer | None:
        answer = stored_answer(self._statements, scope, self._clock.microseconds())
        if answer is None:
            self._statements.held_keys[scope] = fingerprint
        return answer

    async def keep(self, scope: IdempotencyScope, response: str) -> None:
        fingerprint = self._statements.held_keys.pop(scope)
        keep_answer(self._statements, scope, fingerprint, response, self._clock.microseconds())

    async def amend(self, scope: IdempotencyScope, response: str) -> None:
        found = self._statements.many(
            """
            UPDATE idempotency_keys SET response = ?
            WHERE team_id = ? AND principal = ? AND agent_id = ? AND operation = ? AND key = ? RETURNING 1
            """,
            [(response, scope.team_id, scope.principal, scope.agent_id, scope.operation, scope.key)],
        )
        if not found:
            raise TransactionConflict


def stored_answer(statements: Statements, scope: IdempotencyScope, now: int) -> StoredAnswer | None:
    """What is stored under the key and not older than KEPT_FOR."""
    row = statements.row(
        """
        SELECT fingerprint, response FROM idempotency_keys
        WHERE team_id = ? AND principal = ? AND agent_id = ? AND operation = ? AND key = ? AND created_at >= ?
        """,
        (scope.team_id, scope.principal, scope.agent_id, scope.operation, scope.key, now - KEPT_FOR // MICROSECOND),
    )
    return StoredAnswer(*row) if row is not None else None


def keep_answer(statements: Statements, scope: IdempotencyScope, fingerprint: bytes, response: str, now: int) -> None:
    """Store an answer, in place of one that is older than KEPT_FOR."""
    statements.insert(
        """
        INSERT INTO idempotency_keys (team_id, principal, agent_id, operation, key, fingerprint, response, created_at)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?)
        ON CONFLICT DO UPDATE
        SET fingerprint = excluded.fingerprint, response = excluded.response, created_at = excluded.created_at
        """,
        (scope.team_id, scope.principal, scope.agent_id, scope.operation, scope.key, fingerprint, response, now),
    )
