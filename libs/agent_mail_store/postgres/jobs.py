"""Background work on PostgreSQL. Whoever looks for a job passes over the rows that somebody else has locked."""

from datetime import timedelta

from agent_mail_core.ids import TeamId
from agent_mail_core.job_queue import JobKind
from agent_mail_core.jobs import NOW, DeadJobRecord, Job, Jobs, KindFigures, LeaseLost
from agent_mail_store.postgres.connections import Row
from agent_mail_store.postgres.statements import Statements

# A row is due when run_at has come: while a job runs, that is when its lease expires.
_CLAIM = """
    WITH due AS MATERIALIZED (
        SELECT kind, subject_id FROM jobs
        WHERE state <> 'dead' AND run_at <= clock_timestamp() AND kind = ANY($1::text[])
        ORDER BY run_at LIMIT 1 FOR UPDATE SKIP LOCKED
    )
    UPDATE jobs SET state = 'running', is_wanted_again = false, attempts = attempts + 1,
                    run_at = clock_timestamp() + $2::interval, leased_until = clock_timestamp() + $2::interval,
                    fence = greatest(fence + 1, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint)
    FROM due WHERE jobs.kind = due.kind AND jobs.subject_id = due.subject_id
    RETURNING jobs.kind, jobs.subject_id, jobs.team_id, jobs.fence, jobs.attempts
"""
_MINE = "kind = $1 AND subject_id = $2 AND fence = $3 AND state = 'running' AND leased_until > clock_timestamp()"


class PostgresJobs(Jobs):
    def __init__(self, db: Statements) -> None:
        self._db = db

    async def want(self, kind: JobKind, subject_id: int, team_id: TeamId | None = None, after: timedelta = NOW) -> None:
        await self._db.rows(
            """
            INSERT INTO jobs (kind, subject_id, team_id, state, run_at)
            VALUES ($1, $2, $3, 'waiting', clock_timestamp() + $4::interval)
            ON CONFLICT (kind, subject_id) DO UPDATE
            SET is_wanted_again = jobs.state = 'running',
                run_at = CASE jobs.state WHEN 'running' THEN jobs.run_at ELSE excluded.run_at END
            WHERE jobs.state = 'running' AND NOT jobs.is_wanted_again
               OR jobs.state = 'waiting' AND jobs.attempts = 0 AND jobs.run_at > excluded.run_at
            """,
            kind,
            subject_id,
            team_id,
            after,
        )

    async def claim(self, kinds: list[JobKind], lease: timedelta) -> Job | None:
        row = await self._db.row(_CLAIM, kinds, lease)
        return Job(*row) if row is not None else None

    async def renew(self, job: Job, lease: timedelta) -> None:
        await self._change(
            job,
            """
            UPDATE jobs SET run_at = clock_timestamp() + $4::interval, leased_until = clock_timestamp() + $4::interval
            WHERE {mine} RETURNING 1
            """,
            lease,
        )

    async def hold(self, job: Job) -> None:
        await self._change(job, "SELECT 1 FROM jobs WHERE {mine} FOR SHARE")

    async def finish(self, job: Job, again_after: timedelta | None = None, wanted_after: timedelta = NOW) -> bool:
        if again_after is None and await self._rows(
            job, "DELETE FROM jobs WHERE {mine} AND NOT is_wanted_again RETURNING 1"
        ):
            return False
        row = await self._change(
            job,
            """
            UPDATE jobs SET state = 'waiting', attempts = 0, leased_until = NULL, last_error = NULL,
                            run_at = clock_timestamp()
                                + CASE WHEN is_wanted_again THEN $5::interval ELSE $4::interval END
            WHERE {mine} RETURNING is_wanted_again
            """,
            again_after or NOW,
            wanted_after,
        )
        return bool(row["is_wanted_again"])

    async def postpone(self, job: Job, error: str | None, after: timedelta, attempts: int) -> None:
        await self._change(
            job,
            """
            UPDATE jobs SET state = 'waiting', attempts = $6, leased_until = NULL,
                            last_error = coalesce($4, last_error), run_at = clock_timestamp() + $5::interval
            WHERE {mine} RETURNING 1
            """,
            error,
            after,
            attempts,
        )

    async def bury(self, job: Job, error: str) -> None:
        await self._change(
            job,
            "UPDATE jobs SET state = 'dead', leased_until = NULL, last_error = $4 WHERE {mine} RETURNING 1",
            error,
        )

    async def _rows(self, job: Job, statement: str, *arguments: object) -> list[Row]:
        return await self._db.rows(statement.format(mine=_MINE), job.kind, job.subject_id, job.fence, *arguments)

    async def _change(self, job: Job, statement: str, *arguments: object) -> Row:
        rows = await self._rows(job, statement, *arguments)
        if not rows:
            raise LeaseLost
        return rows[0]

    async def dead(self, team_id: TeamId, after: tuple[str, int] | None, limit: int) -> list[DeadJobRecord]:
        kind, subject_id = after or ("", 0)
        rows = await self._db.rows(
            """
            SELECT kind, subject_id, attempts, last_error, created_at FROM jobs
            WHERE team_id = $1 AND state = 'dead' AND (kind, subject_id) > ($2, $3)
            ORDER BY kind, subject_id LIMIT $4
            """,
            team_id,
            kind,
            subject_id,
            limit,
        )
        return [DeadJobRecord(*row) for row in rows]

    async def retry(self, team_id: TeamId, kind: str, subject_id: int | None) -> list[int]:
        rows = await self._db.rows(
            """
            UPDATE jobs SET state = 'waiting', attempts = 0, run_at = clock_timestamp(), last_error = NULL
            WHERE team_id = $1 AND kind = $2 AND ($3::bigint IS NULL OR subject_id = $3) AND state = 'dead'
            RETURNING subject_id
            """,
            team_id,
            kind,
            subject_id,
        )
        return [row["subject_id"] for row in rows]

    async def drop(self, team_id: TeamId, kind: str, subject_id: int | None) -> list[int]:
        rows = await self._db.rows(
            """
            DELETE FROM jobs
            WHERE team_id = $1 AND kind = $2 AND ($3::bigint IS NULL OR subject_id = $3) AND state = 'dead'
            RETURNING subject_id
            """,
            team_id,
            kind,
            subject_id,
        )
        return [row["subject_id"] for row in rows]

    async def figures(self) -> list[KindFigures]:
        rows = await self._db.rows(
            """
            SELECT kind, count(*) FILTER (WHERE state = 'waiting'), count(*) FILTER (WHERE state = 'running'),
                   count(*) FILTER (WHERE state = 'dead'),
                   coalesce(extract(epoch FROM max(clock_timestamp() - run_at)
                       FILTER (WHERE state <> 'dead' AND run_at <= clock_timestamp()))::float8, 0)
            FROM jobs GROUP BY kind ORDER BY kind
            """
        )
        return [KindFigures(*row) for row in rows]
