"""Reviews in SQLite."""

from datetime import timedelta

import orjson

from agent_mail_core.clock import MICROSECOND, from_microseconds
from agent_mail_core.ids import AgentId, ProjectId, ReviewId
from agent_mail_core.ports import Clock
from agent_mail_core.reviews import NewReview, ReviewRecord, Reviews, ReviewState, ReviewVerdict
from agent_mail_store.sqlite.statements import Row, Statements

_RECORD = """
    SELECT v.id, v.project_id, t.key, t.subject, v.message_id, v.requester_id, r.name,
        (SELECT json_group_array(a.name ORDER BY w.place) FROM review_reviewers w
         CROSS JOIN agents a ON a.id = w.agent_id WHERE w.review_id = v.id),
        v.paths, v.note, v.state, v.claimer_id, c.name, v.fence, v.claimed_at, v.claim_expires_at, v.verdict,
        v.created_at, v.ended_at
    FROM reviews v
    CROSS JOIN threads t ON t.id = v.thread_id
    CROSS JOIN agents r ON r.id = v.requester_id
    LEFT JOIN agents c ON c.id = v.claimer_id
"""


class SqliteReviews(Reviews):
    __slots__ = ("_clock", "_statements")

    def __init__(self, statements: Statements, clock: Clock) -> None:
        self._statements = statements
        self._clock = clock

    async def add(self, new: NewReview) -> ReviewId:
        review_id = self._statements.insert(
            """
            INSERT INTO reviews (team_id, project_id, thread_id, message_id, requester_id, state, paths, note,
                created_at)
            VALUES (?, ?, ?, ?, ?, 'requested', ?, ?, ?)
            """,
            (
                new.team_id,
                new.project_id,
                new.thread_id,
                new.message_id,
                new.requester_id,
                orjson.dumps(new.paths).decode(),
                new.note,
                self._clock.microseconds(),
            ),
        )
        self._statements.many(
            "INSERT INTO review_reviewers (review_id, agent_id, place) VALUES (?, ?, ?)",
            [(review_id, agent_id, place) for place, agent_id in enumerate(new.reviewers, 1)],
        )
        return ReviewId(review_id)

    async def find(self, project_id: ProjectId, review_id: ReviewId) -> ReviewRecord | None:
        row = self._statements.row(_RECORD + "WHERE v.project_id = ? AND v.id = ?", (project_id, review_id))
        return _record(row, self._clock.microseconds()) if row is not None else None

    async def claim(self, review_id: ReviewId, agent_id: AgentId, fence: int, ttl: timedelta) -> bool:
        now = self._clock.microseconds()
        rows = self._statements.many(
            """
            UPDATE reviews SET state = 'claimed', claimer_id = ?2, fence = ?3, claimed_at = ?4, claim_expires_at = ?5
            WHERE id = ?1 AND (state = 'requested' OR (state = 'claimed' AND claim_expires_at <= ?4)) RETURNING id
            """,
            [(review_id, agent_id, fence, now, now + ttl // MICROSECOND)],
        )
        return bool(rows)

    async def renew(self, review_id: ReviewId, agent_id: AgentId, ttl: timedelta) -> bool:
        now = self._clock.microseconds()
        rows = self._statements.many(
            """
            UPDATE reviews SET claim_expires_at = ?4
            WHERE id = ?1 AND state = 'claimed' AND claimer_id = ?2 AND claim_expires_at > ?3 RETURNING id
            """,
            [(review_id, agent_id, now, now + ttl // MICROSECOND)],
        )
        return bool(rows)

    async def complete(self, review_id: ReviewId, agent_id: AgentId, verdict: ReviewVerdict) -> bool:
        rows = self._statements.many(
            """
            UPDATE reviews SET state = 'done', verdict = ?3, ended_at = ?4
            WHERE id = ?1 AND state = 'claimed' AND claimer_id = ?2 AND claim_expires_at > ?4 RETURNING id
            """,
            [(review_id, agent_id, verdict, self._clock.microseconds())],
        )
        return bool(rows)

    async def cancel(self, review_id: ReviewId) -> bool:
        rows = self._statements.many(
            """
            UPDATE reviews SET state = 'cancelled', ended_at = ?, claimer_id = NULL, fence = NULL, claimed_at = NULL,
                claim_expires_at = NULL
            WHERE id = ? AND state IN ('requested', 'claimed') RETURNING id
            """,
            [(self._clock.microseconds(), review_id)],
        )
        return bool(rows)

    async def release_claims(self, agent_id: AgentId) -> None:
        self._statements.many(
            """
            UPDATE reviews SET state = 'requested', claimer_id = NULL, fence = NULL, claimed_at = NULL,
                claim_expires_at = NULL
            WHERE state = 'claimed' AND claimer_id = ?
            """,
            [(agent_id,)],
        )

    async def page(
        self,
        project_id: ProjectId,
        state: ReviewState | None,
        agent_id: AgentId | None,
        below: ReviewId | None,
        limit: int,
    ) -> list[ReviewRecord]:
        now = self._clock.microseconds()

        def work(statements: Statements) -> list[Row]:
            return statements.rows(
                _RECORD  # noqa: S608 - two constants
                + """
                WHERE v.project_id = ?1
                    AND (?2 IS NULL OR ?2 = iif(v.state = 'claimed' AND v.claim_expires_at <= ?5, 'requested', v.state))
                    AND (
                        ?3 IS NULL OR v.requester_id = ?3
                        OR (v.claimer_id = ?3 AND (v.state <> 'claimed' OR v.claim_expires_at > ?5))
                        OR EXISTS (SELECT 1 FROM review_reviewers w WHERE w.review_id = v.id AND w.agent_id = ?3)
                    )
                    AND (?4 IS NULL OR v.id < ?4)
                ORDER BY v.id DESC LIMIT ?6
                """,
                (project_id, state, agent_id, below, now, limit),
            )

        return [_record(row, now) for row in await self._statements.apart(work)]


def _record(row: Row, now: int) -> ReviewRecord:
    state, claimer_id, claimer_name, fence, claimed_at, expires_at = row[10:16]
    if state == "claimed" and expires_at <= now:
        state, claimer_id, claimer_name, fence, claimed_at, expires_at = "requested", None, None, None, None, None
    return ReviewRecord(
        id=row[0],
        project_id=row[1],
        thread_key=row[2],
        thread_subject=row[3],
        message_id=row[4],
        requester_id=row[5],
        requester_name=row[6],
        reviewer_names=tuple(orjson.loads(row[7])),
        paths=tuple(orjson.loads(row[8])),
        note=row[9],
        state=state,
        claimer_id=claimer_id,
        claimer_name=claimer_name,
        fence=fence,
        claimed_at=from_microseconds(claimed_at) if claimed_at is not None else None,
        claim_expires_at=from_microseconds(expires_at) if expires_at is not None else None,
        verdict=row[16],
        created_at=from_microseconds(row[17]),
        ended_at=from_microseconds(row[18]) if row[18] is not None else None,
    )
