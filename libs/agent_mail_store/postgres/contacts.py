"""Contacts and blocks on PostgreSQL. Changes between the same two agents run one after another, whoever asks whom."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from datetime import datetime

from agent_mail_core.admission import Acquaintance, Pair, tie
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
from agent_mail_core.ids import AgentId, ContactId
from agent_mail_store.postgres.statements import Statements

Live = dict[tuple[AgentId, AgentId], ContactRecord]


class PostgresContacts(Contacts):
    def __init__(self, db: Statements) -> None:
        self._db = db

    async def ask(self, wanted: Sequence[NewContact]) -> list[ContactRecord]:
        live, now = await self._locked([(new.agent_id, new.contact_id) for new in wanted])
        answers: list[ContactRecord | None] = []
        stored: dict[int, ContactRequest] = {}
        for number, new in enumerate(wanted):
            own = live.get((new.agent_id, new.contact_id))
            other = live.get((new.contact_id, new.agent_id))
            request = asked(new, own, other, now)
            if request is not None:
                stored[number] = request
            answers.append(standing(own, other))
        ids = await self._save([(wanted[number], request) for number, request in stored.items()])
        records = [
            ContactRecord(ids[request.agent_id, request.contact_id], request, is_changed=True)
            if (request := stored.get(number))
            else answer
            for number, answer in enumerate(answers)
        ]
        return [record for record in records if record is not None]

    async def answer(self, agent_id: AgentId, asker_id: AgentId, accept: bool) -> ContactRecord | None:
        live, now = await self._locked([(asker_id, agent_id)])
        found = live.get((asker_id, agent_id))
        if found is None:
            return None
        stored = answered(found.request, accept, now)
        if stored is None:
            return found
        if found.request.status == "accepted":
            await _hold_mailbox(self._db, agent_id)
        await self._db.rows(
            "UPDATE contacts SET status = $2, decided_at = $3, expires_at = $4 WHERE id = $1",
            found.id,
            stored.status,
            stored.decided_at,
            stored.expires_at,
        )
        return replace(found, request=stored, is_changed=True, was_pending=found.request.status == "pending")

    async def _locked(self, pairs: Iterable[tuple[AgentId, AgentId]]) -> tuple[Live, datetime]:
        """Lock the pairs, which may have no row to lock yet; then their live requests, both ways, and the time."""
        low, high = zip(*sorted({(min(pair), max(pair)) for pair in pairs}), strict=True)
        await self._db.rows(
            """
            SELECT pg_advisory_xact_lock(key)
            FROM (
                SELECT DISTINCT hashtextextended('agent_mail.contacts ' || low || ' ' || high, 0) AS key
                FROM unnest($1::bigint[], $2::bigint[]) AS pair (low, high) ORDER BY key
            ) keys
            """,
            low,
            high,
        )
        rows = await self._db.rows(
            """
            SELECT moment.now, c.id, c.agent_id, c.contact_id, c.status, c.reason, c.ttl, c.requested_at, c.decided_at,
                   c.expires_at
            FROM (SELECT clock_timestamp() AS now) moment
            LEFT JOIN (
                unnest($1::bigint[], $2::bigint[]) AS pair (one, two)
                JOIN contacts c ON c.agent_id = pair.one AND c.contact_id = pair.two
            ) ON c.expires_at IS NULL OR c.expires_at > moment.now
            """,
            low + high,
            high + low,
        )
        live: Live = {
            (row["agent_id"], row["contact_id"]): ContactRecord(row["id"], ContactRequest(*row[2:]), is_changed=False)
            for row in rows
            if row["id"] is not None
        }
        return live, rows[0]["now"]

    async def _save(
        self, wanted: Sequence[tuple[NewContact, ContactRequest]]
    ) -> dict[tuple[AgentId, AgentId], ContactId]:
        if not wanted:
            return {}
        rows = await self._db.rows(
            """
            INSERT INTO contacts (team_id, agent_id, contact_id, status, reason, ttl, requested_at, decided_at,
                                  expires_at)
            SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::text[], $5::text[], $6::interval[],
                                 $7::timestamptz[], $8::timestamptz[], $9::timestamptz[])
            ON CONFLICT (agent_id, contact_id) DO UPDATE
            SET status = excluded.status, reason = excluded.reason, ttl = excluded.ttl,
                requested_at = excluded.requested_at, decided_at = excluded.decided_at, expires_at = excluded.expires_at
            RETURNING id, agent_id, contact_id
            """,
            [new.team_id for new, _ in wanted],
            [request.agent_id for _, request in wanted],
            [request.contact_id for _, request in wanted],
            [request.status for _, request in wanted],
            [request.reason for _, request in wanted],
            [request.ttl for _, request in wanted],
            [request.requested_at for _, request in wanted],
            [request.decided_at for _, request in wanted],
            [request.expires_at for _, request in wanted],
        )
        return {(row["agent_id"], row["contact_id"]): row["id"] for row in rows}

    async def block(self, agent_id: AgentId, blocked_id: AgentId) -> tuple[datetime, bool]:
        await _hold_mailbox(self._db, agent_id)
        made = await self._db.row(
            """
            INSERT INTO blocks (agent_id, blocked_id) VALUES ($1, $2) ON CONFLICT DO NOTHING RETURNING blocked_at
            """,
            agent_id,
            blocked_id,
        )
        if made is not None:
            return made["blocked_at"], True
        # Gone again when unblocked meanwhile: then the whole use case runs once more.
        row = await self._db.the_row(
            "SELECT blocked_at FROM blocks WHERE agent_id = $1 AND blocked_id = $2", agent_id, blocked_id
        )
        return row["blocked_at"], False

    async def unblock(self, agent_id: AgentId, blocked_id: AgentId) -> bool:
        rows = await self._db.rows(
            "DELETE FROM blocks WHERE agent_id = $1 AND blocked_id = $2 RETURNING agent_id", agent_id, blocked_id
        )
        return bool(rows)

    async def live(self, agent_id: AgentId, other_id: AgentId) -> ContactRecord | None:
        rows = await self._db.rows(
            """
            SELECT id, agent_id, contact_id, status, reason, ttl, requested_at, decided_at, expires_at
            FROM contacts
            WHERE (agent_id, contact_id) IN (($1::bigint, $2::bigint), ($2::bigint, $1::bigint))
              AND (expires_at IS NULL OR expires_at > clock_timestamp())
            """,
            agent_id,
            other_id,
        )
        found = {row["agent_id"]: ContactRecord(row["id"], ContactRequest(*row[1:]), is_changed=False) for row in rows}
        return standing(found.get(agent_id), found.get(other_id))

    async def between(self, pairs: Collection[Pair]) -> dict[Pair, Acquaintance]:
        return await acquaintances(self._db, pairs)

    async def page(
        self, agent_id: AgentId, status: ContactStatus | None, after: tuple[str, str, str] | None, limit: int
    ) -> list[ContactEntry]:
        rows = await self._db.rows(
            """
            SELECT e.id, a.name, p.slug, e.direction, e.status, e.reason, e.requested_at, e.decided_at, e.expires_at
            FROM (
                SELECT id, contact_id AS other_id, 'outgoing' AS direction, status, reason, requested_at, decided_at,
                       expires_at
                FROM contacts WHERE agent_id = $1
                UNION ALL
                SELECT id, agent_id, 'incoming', status, reason, requested_at, decided_at, expires_at
                FROM contacts WHERE contact_id = $1
                UNION ALL
                SELECT NULL, blocked_id, 'blocked', 'blocked', NULL, NULL, blocked_at, NULL
                FROM blocks WHERE agent_id = $1
            ) e
            JOIN agents a ON a.id = e.other_id
            JOIN projects p ON p.id = a.project_id AND p.deleted_at IS NULL
            WHERE ($2::text IS NULL OR e.status = $2) AND (e.expires_at IS NULL OR e.expires_at > clock_timestamp())
              AND (e.direction = 'blocked'
                   OR NOT EXISTS (SELECT FROM blocks b WHERE b.agent_id = $1 AND b.blocked_id = e.other_id))
              AND (a.name_key, p.slug, e.direction) > ($3, $4, $5)
            ORDER BY a.name_key, p.slug, e.direction LIMIT $6
            """,
            agent_id,
            status,
            *(after or ("", "", "")),
            limit,
        )
        return [ContactEntry(*row) for row in rows]


async def _hold_mailbox(db: Statements, agent_id: AgentId) -> None:
    """Sends to the agent that have not looked yet wait for this transaction, and this one for those that have."""
    await db.rows("SELECT FROM mailboxes WHERE agent_id = $1 FOR NO KEY UPDATE", agent_id)


async def acquaintances(db: Statements, pairs: Collection[Pair]) -> dict[Pair, Acquaintance]:
    """What admission needs to know of each pair, in one statement."""
    asked_for = list(dict.fromkeys(pairs))
    if not asked_for:
        return {}
    # Not EXISTS: for many pairs that is planned as a hash of the whole table, all blocks of all teams.
    rows = await db.rows(
        """
        SELECT (SELECT true FROM blocks b WHERE b.agent_id = q.recipient_id AND b.blocked_id = q.sender_id)
                   IS NOT NULL AS is_blocked,
               (SELECT status FROM contacts c WHERE c.agent_id = q.sender_id AND c.contact_id = q.recipient_id
                AND (c.expires_at IS NULL OR c.expires_at > clock_timestamp())) AS asked_recipient,
               (SELECT status FROM contacts c WHERE c.agent_id = q.recipient_id AND c.contact_id = q.sender_id
                AND (c.expires_at IS NULL OR c.expires_at > clock_timestamp())) AS asked_sender,
               (SELECT true FROM product_projects one
                JOIN product_projects two ON two.product_id = one.product_id AND two.project_id = r.project_id
                WHERE one.project_id = s.project_id LIMIT 1) IS NOT NULL AS is_same_product,
               (SELECT true FROM threads t
                JOIN deliveries d ON d.thread_id = t.id AND d.agent_id = q.sender_id
                WHERE t.project_id = q.project_id AND t.key_lower = lower(q.thread_key COLLATE "C")
                  AND d.sender_id = q.recipient_id LIMIT 1) IS NOT NULL AS is_answer
        FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::text[])
            WITH ORDINALITY AS q (sender_id, recipient_id, project_id, thread_key, place)
        LEFT JOIN agents s ON s.id = q.sender_id
        LEFT JOIN agents r ON r.id = q.recipient_id
        ORDER BY q.place
        """,
        [pair.sender_id for pair in asked_for],
        [pair.recipient_id for pair in asked_for],
        [pair.thread[0] if pair.thread else None for pair in asked_for],
        [pair.thread[1] if pair.thread else None for pair in asked_for],
    )
    return {
        pair: Acquaintance(
            row["is_blocked"],
            tie(row["asked_recipient"], row["asked_sender"]),
            row["is_same_product"],
            row["is_answer"],
        )
        for pair, row in zip(asked_for, rows, strict=True)
    }
