"""Background work in SQLite. Whoever writes is the only writer, so a job that is found due is taken."""

from datetime import timedelta

from agent_mail_core.clock import MICROSECOND, from_microseconds
from agent_mail_core.ids import TeamId
from agent_mail_core.job_queue import JobKind
from agent_mail_core.jobs import NOW, DeadJobRecord, Job, Jobs, KindFigures, LeaseLost
from agent_mail_core.ports import Clock
from agent_mail_store.sqlite.statements import Row, Statements, Value

# A row is due when run_at has come: while a job runs, that is when its lease expires.
_CLAIM = """
    UPDATE jobs SET state = 'running', is_wanted_again = 0, attempts = attempts + 1, run_at = ?1 + ?2,
        leased_until = ?1 + ?2, fence = max(fence + 1, ?1)
    WHERE (kind, subject_id) = (
        SELECT kind, subject_id FROM jobs
        WHERE state <> 'dead' AND run_at <= ?1 AND kind IN (SELECT value FROM json_each(?3))
        ORDER BY run_at LIMIT 1
    )
    RETURNING kind, subject_id, team_id, fence, attempts
"""
_MINE = "kind = ?1 AND subject_id = ?2 AND fence = ?3 AND state = 'running' AND leased_until > ?4"


class SqliteJobs(Jobs):
    __slots__ = ("_clock", "_statements")

    def __init__(self, statements: Statements, clock: Clock) -> None:
        self._statements = statements
        self._clock = clock

    async def want(self, kind: JobKind, subject_id: int, team_id: TeamId | None = None, after: timedelta = NOW) -> None:
        now = self._clock.microseconds()
        self._statements.rows(
            """
            INSERT INTO jobs (kind, subject_id, team_id, state, run_at, created_at) VALUES (?, ?, ?, 'waiting', ?, ?)
            ON CONFLICT DO UPDATE
            SET is_wanted_again = state = 'running',
                run_at = CASE state WHEN 'running' THEN run_at ELSE excluded.run_at END
            WHERE state = 'running' AND NOT is_wanted_again
                OR state = 'waiting' AND attempts = 0 AND run_at > excluded.run_at
            """,
            (kind, subject_id, team_id, now + after // MICROSECOND, now),
        )

    async def claim(self, kinds: list[JobKind], lease: timedelta) -> Job | None:
        names = ",".join(f'"{kind}"' for kind in kinds)
        row = self._statements.row(_CLAIM, (self._clock.microseconds(), lease // MICROSECOND, f"[{names}]"))
        return Job(*row) if row is not None else None

    async def renew(self, job: Job, lease: timedelta) -> None:
        self._change(
            job,
            "UPDATE jobs SET run_at = ?4 + ?5, leased_until = ?4 + ?5 WHERE {mine} RETURNING 1",
            lease // MICROSECOND,
        )

    async def hold(self, job: Job) -> None:
        self._change(job, "SELECT 1 FROM jobs WHERE {mine}")

    async def finish(self, job: Job, again_after: timedelta | None = None, wanted_after: timedelta = NOW) -> bool:
        if again_after is None and self._rows(job, "DELETE FROM jobs WHERE {mine} AND NOT is_wanted_again RETURNING 1"):
            return False
        (is_wanted_again,) = self._change(
            job,
            """
            UPDATE jobs SET state = 'waiting', attempts = 0, leased_until = NULL, last_error = NULL,
                run_at = ?4 + CASE WHEN is_wanted_again THEN ?6 ELSE ?5 END
            WHERE {mine} RETURNING is_wanted_again
            """,
            (again_after or NOW) // MICROSECOND,
            wanted_after // MICROSECOND,
        )
        return bool(is_wanted_again)

    async def postpone(self, job: Job, error: str | None, after: timedelta, attempts: int) -> None:
        self._change(
            job,
            """
            UPDATE jobs SET state = 'waiting', attempts = ?7, leased_until = NULL,
                last_error = coalesce(?5, last_error), run_at = ?4 + ?6
            WHERE {mine} RETURNING 1
            """,
            error,
            after // MICROSECOND,
            attempts,
        )

    async def bury(self, job: Job, error: str) -> None:
        self._change(
            job,
            "UPDATE jobs SET state = 'dead', leased_until = NULL, last_error = ?5 WHERE {mine} RETURNING 1",
            error,
        )

    def _rows(self, job: Job, statement: str, *values: Value) -> list[Row]:
        return self._statements.rows(
            statement.format(mine=_MINE), (job.kind, job.subject_id, job.fence, self._clock.microseconds(), *values)
        )

    def _change(self, job: Job, statement: str, *values: Value) -> Row:
        rows = self._rows(job, statement, *values)
        if not rows:
            raise LeaseLost
        return rows[0]

    async def dead(self, team_id: TeamId, after: tuple[str, int] | None, limit: int) -> list[DeadJobRecord]:
        kind, subject_id = after or ("", 0)
        rows = self._statements.rows(
            """
            SELECT kind, subject_id, attempts, last_error, created_at FROM jobs
            WHERE team_id = ? AND state = 'dead' AND (kind, subject_id) > (?, ?)
            ORDER BY kind, subject_id LIMIT ?
            """,
            (team_id, kind, subject_id, limit),
        )
        return [
            DeadJobRecord(kind, subject_id, attempts, last_error, from_microseconds(created_at))
            for kind, subject_id, attempts, last_error, created_at in rows
        ]

    async def retry(self, team_id: TeamId, kind: str, subject_id: int | None) -> list[int]:
        rows = self._statements.rows(
            """
            UPDATE jobs SET state = 'waiting', attempts = 0, run_at = ?4, last_error = NULL
            WHERE team_id = ?1 AND kind = ?2 AND (?3 IS NULL OR subject_id = ?3) AND state = 'dead'
            RETURNING subject_id
            """,
            (team_id, kind, subject_id, self._clock.microseconds()),
        )
        return [row[0] for row in rows]

    async def drop(self, team_id: TeamId, kind: str, subject_id: int | None) -> list[int]:
        rows = self._statements.rows(
            """
            DELETE FROM jobs
            WHERE team_id = ?1 AND kind = ?2 AND (?3 IS NULL OR subject_id = ?3) AND state = 'dead'
            RETURNING subject_id
            """,
            (team_id, kind, subject_id),
        )
        return [row[0] for row in rows]

    async def figures(self) -> list[KindFigures]:
        rows = self._statements.rows(
            """
            SELECT kind, sum(state = 'waiting'), sum(state = 'running'), sum(state = 'dead'),
                coalesce(max(CASE WHEN state <> 'dead' AND run_at <= ?1 THEN ?1 - run_at END), 0) / 1e6
            FROM jobs GROUP BY kind ORDER BY kind
            """,
            (self._clock.microseconds(),),
        )
        return [KindFigures(*row) for row in rows]
