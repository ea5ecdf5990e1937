"""Contacts and blocks in SQLite: one writer, so that what a method reads is still so when it writes."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import orjson

from agent_mail_core.admission import Acquaintance, Pair, tie
from agent_mail_core.clock import MICROSECOND, from_microseconds, to_microseconds
from agent_mail_core.contacts import (
    ContactEntry,
    ContactRecord,
    ContactRequest,
    Contacts,
    ContactStatus,
    NewContact,
    answered,
    asked,
    standing,
)
from agent_mail_core.ids import AgentId, ContactId, TeamId
from agent_mail_core.ports import Clock
from agent_mail_store.sqlite.statements import Row, Statements


class SqliteContacts(Contacts):
    __slots__ = ("_clock", "_statements")

    def __init__(self, statements: Statements, clock: Clock) -> None:
        self._statements = statements
        self._clock = clock

    async def ask(self, wanted: Sequence[NewContact]) -> list[ContactRecord]:
        now = self._clock.microseconds()
        return [self._ask(new, now) for new in wanted]

    def _ask(self, new: NewContact, now: int) -> ContactRecord:
        own = self._live(new.agent_id, new.contact_id, now)
        other = self._live(new.contact_id, new.agent_id, now)
        stored = asked(new, own, other, from_microseconds(now))
        if stored is not None:
            return self._save(new.team_id, stored)
        found = standing(own, other)
        assert found is not None
        return found

    async def answer(self, agent_id: AgentId, asker_id: AgentId, accept: bool) -> ContactRecord | None:
        now = self._clock.microseconds()
        found = self._live(asker_id, agent_id, now)
        if found is None:
            return None
        stored = answered(found.request, accept, from_microseconds(now))
        if stored is None:
            return found
        self._statements.many(
            "UPDATE contacts SET status = ?, decided_at = ?, expires_at = ? WHERE id = ?",
            [(stored.status, _stored(stored.decided_at), _stored(stored.expires_at), found.id)],
        )
        return replace(found, request=stored, is_changed=True, was_pending=found.request.status == "pending")

    def _live(self, agent_id: AgentId, contact_id: AgentId, now: int) -> ContactRecord | None:
        row = self._statements.row(
            """
            SELECT id, agent_id, contact_id, status, reason, ttl, requested_at, decided_at, expires_at FROM contacts
            WHERE agent_id = ? AND contact_id = ? AND (expires_at IS NULL OR expires_at > ?)
            """,
            (agent_id, contact_id, now),
        )
        return _record(row) if row is not None else None

    def _save(self, team_id: TeamId, request: ContactRequest) -> ContactRecord:
        rows = self._statements.many(
            """
            INSERT INTO contacts (team_id, agent_id, contact_id, status, reason, ttl, requested_at, decided_at,
                expires_at)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
            ON CONFLICT DO UPDATE SET status = excluded.status, reason = excluded.reason, ttl = excluded.ttl,
                requested_at = excluded.requested_at, decided_at = excluded.decided_at, expires_at = excluded.expires_at
            RETURNING id
            """,
            [
                (
                    team_id,
                    request.agent_id,
                    request.contact_id,
                    request.status,
                    request.reason,
                    request.ttl // MICROSECOND if request.ttl is not None else None,
                    to_microseconds(request.requested_at),
                    _stored(request.decided_at),
                    _stored(request.expires_at),
                )
            ],
        )
        return ContactRecord(ContactId(rows[0][0]), request, is_changed=True)

    async def block(self, agent_id: AgentId, blocked_id: AgentId) -> tuple[datetime, bool]:
        made = self._statements.many(
            """
            INSERT INTO blocks (agent_id, blocked_id, blocked_at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING
            RETURNING blocked_at
            """,
            [(agent_id, blocked_id, self._clock.microseconds())],
        )
        rows = made or self._statements.rows(
            "SELECT blocked_at FROM blocks WHERE agent_id = ? AND blocked_id = ?", (agent_id, blocked_id)
        )
        return from_microseconds(rows[0][0]), bool(made)

    async def unblock(self, agent_id: AgentId, blocked_id: AgentId) -> bool:
        return bool(
            self._statements.many(
                "DELETE FROM blocks WHERE agent_id = ? AND blocked_id = ? RETURNING agent_id", [(agent_id, blocked_id)]
            )
        )

    async def live(self, agent_id: AgentId, other_id: AgentId) -> ContactRecord | None:
        now = self._clock.microseconds()
        with self._statements.one_state():
            return standing(self._live(agent_id, other_id, now), self._live(other_id, agent_id, now))

    async def between(self, pairs: Collection[Pair]) -> dict[Pair, Acquaintance]:
        return acquaintances(self._statements, pairs, self._clock.microseconds())

    async def page(
        self, agent_id: AgentId, status: ContactStatus | None, after: tuple[str, str, str] | None, limit: int
    ) -> list[ContactEntry]:
        def work(statements: Statements) -> list[Row]:
            return statements.rows(
                """
                SELECT e.id, a.name, p.slug, e.direction, e.status, e.reason, e.requested_at, e.decided_at, e.expires_at
                FROM (
                    SELECT id, contact_id AS other_id, 'outgoing' AS direction, status, reason, requested_at,
                        decided_at, expires_at
                    FROM contacts WHERE agent_id = ?1
                    UNION ALL
                    SELECT id, agent_id, 'incoming', status, reason, requested_at, decided_at, expires_at
                    FROM contacts WHERE contact_id = ?1
                    UNION ALL
                    SELECT NULL, blocked_id, 'blocked', 'blocked', NULL, NULL, blocked_at, NULL
                    FROM blocks WHERE agent_id = ?1
                ) e
                CROSS JOIN agents a ON a.id = e.other_id
                CROSS JOIN projects p ON p.id = a.project_id AND p.deleted_at IS NULL
                WHERE (?2 IS NULL OR e.status = ?2) AND (e.expires_at IS NULL OR e.expires_at > ?3)
                    AND (e.direction = 'blocked'
                        OR NOT EXISTS (SELECT 1 FROM blocks b WHERE b.agent_id = ?1 AND b.blocked_id = e.other_id))
                    AND (lower(a.name), p.slug, e.direction) > (?4, ?5, ?6)
                ORDER BY lower(a.name), p.slug, e.direction LIMIT ?7
                """,
                (agent_id, status, self._clock.microseconds(), *(after or ("", "", "")), limit),
            )

        return [
            ContactEntry(*row[:6], *(_time(value) for value in row[6:])) for row in await self._statements.apart(work)
        ]


def acquaintances(statements: Statements, pairs: Collection[Pair], now: int) -> dict[Pair, Acquaintance]:
    """What admission needs to know of each pair, in one statement."""
    asked_for = list(dict.fromkeys(pairs))
    if not asked_for:
        return {}
    rows = statements.rows(
        """
        WITH pairs AS (
            SELECT key AS place, value ->> 0 AS sender_id, value ->> 1 AS recipient_id, value ->> 2 AS project_id,
                value ->> 3 AS thread_key
            FROM json_each(?1)
        )
        SELECT EXISTS (SELECT 1 FROM blocks b WHERE b.agent_id = q.recipient_id AND b.blocked_id = q.sender_id),
            (SELECT status FROM contacts c WHERE c.agent_id = q.sender_id AND c.contact_id = q.recipient_id
                AND (c.expires_at IS NULL OR c.expires_at > ?2)),
            (SELECT status FROM contacts c WHERE c.agent_id = q.recipient_id AND c.contact_id = q.sender_id
                AND (c.expires_at IS NULL OR c.expires_at > ?2)),
            EXISTS (
                SELECT 1 FROM agents s
                CROSS JOIN agents r ON r.id = q.recipient_id
                CROSS JOIN product_projects one ON one.project_id = s.project_id
                CROSS JOIN product_projects two ON two.product_id = one.product_id AND two.project_id = r.project_id
                WHERE s.id = q.sender_id
            ),
            EXISTS (
                SELECT 1 FROM threads t
                CROSS JOIN deliveries d ON d.thread_id = t.id AND d.agent_id = q.sender_id
                WHERE t.project_id = q.project_id AND t.key = q.thread_key AND d.sender_id = q.recipient_id
            )
        FROM pairs q ORDER BY q.place
        """,
        (orjson.dumps([(pair[0], pair[1], *(pair.thread or ())) for pair in asked_for]).decode(), now),
    )
    return {
        pair: Acquaintance(bool(is_blocked), tie(own, other), bool(is_same_product), bool(is_answer))
        for pair, (is_blocked, own, other, is_same_product, is_answer) in zip(asked_for, rows, strict=True)
    }


def _record(row: Row) -> ContactRecord:
    ttl = timedelta(microseconds=row[5]) if row[5] is not None else None
    requested_at = from_microseconds(row[6])
    return ContactRecord(
        row[0],
        ContactRequest(row[1], row[2], row[3], row[4], ttl, requested_at, _time(row[7]), _time(row[8])),
        is_changed=False,
    )


def _time(value: int | None) -> datetime | None:
    return from_microseconds(value) if value is not None else None


def _stored(value: datetime | None) -> int | None:
    return to_microseconds(value) if value is not None else None
