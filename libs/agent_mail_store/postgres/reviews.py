"""Reviews on PostgreSQL."""

import json
from datetime import timedelta

from agent_mail_core.ids import AgentId, ProjectId, ReviewId
from agent_mail_core.reviews import NewReview, ReviewRecord, Reviews, ReviewState, ReviewVerdict
from agent_mail_store.postgres.connections import Row
from agent_mail_store.postgres.statements import Statements

_RECORD = """
    SELECT v.id, v.project_id, t.key, t.subject, v.message_id, v.requester_id, r.name AS requester,
           ARRAY (SELECT a.name FROM review_reviewers w JOIN agents a ON a.id = w.agent_id
                  WHERE w.review_id = v.id ORDER BY w.place) AS reviewers,
           v.paths, v.note, CASE WHEN is_lapsed THEN 'requested' ELSE v.state END AS state,
           CASE WHEN NOT is_lapsed THEN v.claimer_id END, CASE WHEN NOT is_lapsed THEN c.name END,
           CASE WHEN NOT is_lapsed THEN v.fence END, CASE WHEN NOT is_lapsed THEN v.claimed_at END,
           CASE WHEN NOT is_lapsed THEN v.claim_expires_at END, v.verdict, v.created_at, v.ended_at
    FROM reviews v
    JOIN threads t ON t.id = v.thread_id
    JOIN agents r ON r.id = v.requester_id
    LEFT JOIN agents c ON c.id = v.claimer_id
    CROSS JOIN LATERAL (SELECT v.state = 'claimed' AND v.claim_expires_at <= clock_timestamp() AS is_lapsed) AS claim
"""


class PostgresReviews(Reviews):
    def __init__(self, db: Statements) -> None:
        self._db = db

    async def add(self, new: NewReview) -> ReviewId:
        row = await self._db.the_row(
            """
            WITH made AS (
                INSERT INTO reviews (team_id, project_id, thread_id, message_id, requester_id, state, paths, note)
                VALUES ($1, $2, $3, $4, $5, 'requested', $6, $7) RETURNING id
            ), named AS (
                INSERT INTO review_reviewers (review_id, agent_id, place)
                SELECT made.id, agent_id, place FROM made, unnest($8::bigint[]) WITH ORDINALITY AS n (agent_id, place)
            )
            SELECT id FROM made
            """,
            new.team_id,
            new.project_id,
            new.thread_id,
            new.message_id,
            new.requester_id,
            json.dumps(new.paths),
            new.note,
            list(new.reviewers),
        )
        return ReviewId(row["id"])

    async def find(self, project_id: ProjectId, review_id: ReviewId) -> ReviewRecord | None:
        row = await self._db.row(_RECORD + "WHERE v.project_id = $1 AND v.id = $2", project_id, review_id)
        return _record(row) if row is not None else None

    async def claim(self, review_id: ReviewId, agent_id: AgentId, fence: int, ttl: timedelta) -> bool:
        rows = await self._db.rows(
            """
            UPDATE reviews
            SET state = 'claimed', claimer_id = $2, fence = $3, claimed_at = at, claim_expires_at = at + $4::interval
            FROM clock_timestamp() AS at
            WHERE id = $1 AND (state = 'requested' OR (state = 'claimed' AND claim_expires_at <= at))
            RETURNING id
            """,
            review_id,
            agent_id,
            fence,
            ttl,
        )
        return bool(rows)

    async def renew(self, review_id: ReviewId, agent_id: AgentId, ttl: timedelta) -> bool:
        rows = await self._db.rows(
            """
            UPDATE reviews SET claim_expires_at = at + $3::interval FROM clock_timestamp() AS at
            WHERE id = $1 AND state = 'claimed' AND claimer_id = $2 AND claim_expires_at > at
            RETURNING id
            """,
            review_id,
            agent_id,
            ttl,
        )
        return bool(rows)

    async def complete(self, review_id: ReviewId, agent_id: AgentId, verdict: ReviewVerdict) -> bool:
        rows = await self._db.rows(
            """
            UPDATE reviews SET state = 'done', verdict = $3, ended_at = at FROM clock_timestamp() AS at
            WHERE id = $1 AND state = 'claimed' AND claimer_id = $2 AND claim_expires_at > at
            RETURNING id
            """,
            review_id,
            agent_id,
            verdict,
        )
        return bool(rows)

    async def cancel(self, review_id: ReviewId) -> bool:
        rows = await self._db.rows(
            """
            UPDATE reviews
            SET state = 'cancelled', ended_at = clock_timestamp(), claimer_id = NULL, fence = NULL, claimed_at = NULL,
                claim_expires_at = NULL
            WHERE id = $1 AND state IN ('requested', 'claimed') RETURNING id
            """,
            review_id,
        )
        return bool(rows)

    async def release_claims(self, agent_id: AgentId) -> None:
        await self._db.rows(
            """
            UPDATE reviews
            SET state = 'requested', claimer_id = NULL, fence = NULL, claimed_at = NULL, claim_expires_at = NULL
            WHERE state = 'claimed' AND claimer_id = $1
            """,
            agent_id,
        )

    async def page(
        self,
        project_id: ProjectId,
        state: ReviewState | None,
        agent_id: AgentId | None,
        below: ReviewId | None,
        limit: int,
    ) -> list[ReviewRecord]:
        rows = await self._db.rows(
            _RECORD
            + """
            WHERE v.project_id = $1 AND ($2::text IS NULL OR CASE WHEN is_lapsed THEN 'requested' ELSE v.state END = $2)
              AND ($3::bigint IS NULL OR v.requester_id = $3 OR (v.claimer_id = $3 AND NOT is_lapsed)
                   OR EXISTS (SELECT FROM review_reviewers w WHERE w.review_id = v.id AND w.agent_id = $3))
              AND ($4::bigint IS NULL OR v.id < $4)
            ORDER BY v.id DESC LIMIT $5
            """,
            project_id,
            state,
            agent_id,
            below,
            limit,
        )
        return [_record(row) for row in rows]


def _record(row: Row) -> ReviewRecord:
    columns = list(row)
    columns[7:9] = [tuple(row["reviewers"]), tuple(json.loads(row["paths"]))]
    return ReviewRecord(*columns)
