"""Delivering: one transaction that decides several sends of a team and stores those that may be stored.

Locks are taken in the order of DESIGN 5: idempotency keys, threads, mailboxes. Ids and time are taken below them, so
that ids in a thread and positions in a mailbox become visible in order. What turns out to have changed since the facts
were read raises TransactionConflict: the caller rolls back and runs its sends again.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TypeAlias

from agent_mail_core.deciding import decide
from agent_mail_core.delivery import Delivered, Draft, Outgoing, Questions, SentMessage
from agent_mail_core.errors import AgentMailError, TransactionConflict
from agent_mail_core.events import ARCHIVE_TOPIC
from agent_mail_core.fields import RECIPIENT_KINDS
from agent_mail_core.idempotency import StoredAnswer
from agent_mail_core.ids import AgentId, MessageId, ProjectId, TeamId, ThreadId
from agent_mail_core.search_text import phrase_text
from agent_mail_store.postgres.attachments import PostgresAttachments
from agent_mail_store.postgres.contacts import acquaintances
from agent_mail_store.postgres.delivery_facts import facts_of
from agent_mail_store.postgres.idempotency import stored_answers, take_keys
from agent_mail_store.postgres.mailboxes import lock_mailboxes
from agent_mail_store.postgres.message_search import StoredBody, stored_words
from agent_mail_store.postgres.messages import PRIORITY_RANKS
from agent_mail_store.postgres.statements import Statements
from agent_mail_store.postgres.threads import lock_threads

Outcome: TypeAlias = Delivered | AgentMailError


@dataclass(frozen=True, slots=True)
class Parcel:
    """A send and what is stored of its body."""

    send: Outgoing
    body: StoredBody


async def deliver_together(db: Statements, team_id: TeamId, parcels: Sequence[Parcel]) -> list[Outcome]:
    """Decide and store sends of one team, no two with one idempotency key; their outcomes, good once committed."""
    facts = await facts_of(db, team_id, [parcel.send for parcel in parcels])
    outcomes: dict[int, Outcome] = {}
    drafts: dict[int, Draft] = {}
    questions: dict[int, Questions] = {}

    def settle(number: int) -> None:
        try:
            decided = decide(parcels[number].send, facts[number])
        except AgentMailError as error:
            outcomes[number] = error
            return
        if isinstance(decided, SentMessage):
            outcomes[number] = Delivered(decided)
        elif isinstance(decided, Questions):
            questions[number] = decided
        else:
            drafts[number] = decided

    for number in range(len(parcels)):
        settle(number)
    if questions:
        known = await acquaintances(db, {pair for question in questions.values() for pair in question.pairs})
        for number in questions:
            facts[number] = replace(facts[number], known=known)
            settle(number)
    for number, answer in (await _answers_of_racers(db, team_id, drafts)).items():
        del drafts[number]
        facts[number] = replace(facts[number], answer=answer)
        settle(number)
    if drafts:
        numbers = list(drafts)
        stored = await _store(db, team_id, list(drafts.values()), [parcels[number].body for number in numbers])
        outcomes.update(zip(numbers, stored, strict=True))
    return [outcomes[number] for number in range(len(parcels))]


async def _answers_of_racers(db: Statements, team_id: TeamId, drafts: Mapping[int, Draft]) -> dict[int, StoredAnswer]:
    """Take the drafts' keys; what is stored under those that somebody took since the facts were read."""
    keyed = {draft.scope: number for number, draft in drafts.items() if draft.scope is not None}
    if not keyed:
        return {}
    taken = await take_keys(db, team_id, [(scope, drafts[number].fingerprint) for scope, number in keyed.items()])
    lost = [scope for scope in keyed if scope not in taken]
    if not lost:
        return {}
    answers = await stored_answers(db, team_id, lost)
    if len(answers) < len(lost):
        raise TransactionConflict
    return {keyed[scope]: answers[scope] for scope in lost}


# --- storing ----------------------------------------------------------------------------------------------------------


async def _store(
    db: Statements, team_id: TeamId, drafts: Sequence[Draft], bodies: Sequence[StoredBody]
) -> list[Delivered]:
    threads = await _threads(db, team_id, drafts)
    recipients = list({actor.agent.id: None for draft in drafts for actor, _ in draft.recipients})
    positions = await lock_mailboxes(db, recipients)
    ids, created_at = await _ids_and_time(db, drafts)
    if len(positions) < len(recipients):
        raise TransactionConflict
    drafts = [replace(draft, thread_key=key) for draft, (_, key) in zip(drafts, threads, strict=True)]
    messages = [
        _Message(MessageId(message_id), thread_id, draft, body)
        for message_id, (thread_id, _), draft, body in zip(ids, threads, drafts, bodies, strict=True)
    ]
    answers = [message.draft.sent(message.id, message.draft.thread_key, created_at) for message in messages]
    await _insert(db, team_id, messages, answers, positions, created_at)
    for message in messages:
        if message.draft.attachments:
            await PostgresAttachments(db).link(message.id, message.draft.attachments)
    return [
        Delivered(answer, tuple(actor.agent.id for actor, _ in message.draft.recipients), message.draft.missing)
        for answer, message in zip(answers, messages, strict=True)
    ]


@dataclass(frozen=True, slots=True)
class _Message:
    id: MessageId
    thread_id: ThreadId
    draft: Draft
    body: StoredBody


async def _threads(db: Statements, team_id: TeamId, drafts: Sequence[Draft]) -> list[tuple[ThreadId, str]]:
    """Lock each draft's thread, making it if it is new; its id and its key as it is spelled."""
    known = {draft.thread_id for draft in drafts if draft.thread_id is not None}
    wanted: dict[tuple[ProjectId, str], tuple[str, str]] = {}
    for draft in drafts:
        if draft.thread_id is None:
            wanted.setdefault((draft.project_id, draft.thread_key.lower()), (draft.thread_key, draft.subject))
    locked = await lock_threads(db, team_id, known, wanted)
    by_id = {thread_id: (thread_id, key) for thread_id, _, key in locked}
    by_key = {(project_id, key.lower()): (thread_id, key) for thread_id, project_id, key in locked}
    found = []
    for draft in drafts:
        if draft.thread_id is not None:
            thread = by_id.get(draft.thread_id)
        else:
            thread = by_key.get((draft.project_id, draft.thread_key.lower()))
        if thread is None:
            raise TransactionConflict
        found.append(thread)
    return found


async def _ids_and_time(db: Statements, drafts: Sequence[Draft]) -> tuple[list[int], datetime]:
    """New message ids and the time, by a statement that begins under the locks and sees who has left, or has blocked.

    Whoever leaves or blocks holds its mailbox, so that nothing reaches it once it has been answered.
    """
    agent_ids = {draft.sender.agent.id for draft in drafts}
    agent_ids.update(actor.agent.id for draft in drafts for actor, _ in draft.recipients)
    row = await db.the_row(
        """
        SELECT ARRAY (SELECT nextval('messages_id_seq') FROM unnest($1::smallint[])) AS ids, clock_timestamp() AS now,
               (SELECT count(*) FROM agents WHERE id = ANY ($2::bigint[]) AND retired_at IS NULL) AS present,
               -- Not by pairs: what it costs to plan must not hang on how many there are, see $1.
               ARRAY (SELECT ARRAY[agent_id, blocked_id] FROM blocks
                      WHERE agent_id = ANY ($2::bigint[]) AND blocked_id = ANY ($2::bigint[])) AS blocks
        """,
        # Not a number for generate_series(): it would be planned for that number, each time.
        list(range(len(drafts))),
        list(agent_ids),
    )
    blocks = {(agent_id, blocked_id) for agent_id, blocked_id in row["blocks"]}
    if row["present"] < len(agent_ids) or any(
        (actor.agent.id, draft.sender.agent.id) in blocks
        for draft in drafts
        if blocks and not draft.sender.agent.is_service
        for actor, _ in draft.recipients
    ):
        raise TransactionConflict
    return sorted(row["ids"]), row["now"]


async def _insert(
    db: Statements,
    team_id: TeamId,
    messages: Sequence[_Message],
    answers: Sequence[SentMessage],
    positions: Mapping[AgentId, int],
    created_at: datetime,
) -> None:
    next_position = dict(positions)
    deliveries: list[tuple[MessageId, AgentId, int, int, int]] = []
    participants: dict[tuple[ThreadId, AgentId], bool] = {}
    threads: dict[ThreadId, tuple[int, MessageId]] = {}
    for message in messages:
        count, _ = threads.get(message.thread_id, (0, 0))
        threads[message.thread_id] = count + 1, message.id
        participants[message.thread_id, message.draft.sender.agent.id] = False
        for place, (actor, kind) in enumerate(message.draft.recipients):
            agent_id = actor.agent.id
            next_position[agent_id] += 1
            deliveries.append((message.id, agent_id, next_position[agent_id], RECIPIENT_KINDS.index(kind), place))
            key = message.thread_id, agent_id
            participants[key] = participants.get(key, True) and kind == "bcc"
    kept = [
        (message.draft.scope, answer)
        for message, answer in zip(messages, answers, strict=True)
        if message.draft.scope is not None
    ]
    drafts = [message.draft for message in messages]
    await db.rows(
        """
        WITH stored AS (
            INSERT INTO messages (id, team_id, project_id, thread_id, sender_id, parent_id, subject, body_md, priority,
                                  ack_required, created_at, words, subject_phrases, body_phrases)
            SELECT id, $1, project_id, thread_id, sender_id, parent_id, subject, body_md, priority,
                   ack_required, $2, words::tsvector, subject_phrases, body_phrases
            FROM unnest($3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::text[], $9::text[],
                        $10::smallint[], $11::boolean[], $12::text[], $13::text[], $14::text[])
                AS n (id, project_id, thread_id, sender_id, parent_id, subject, body_md, priority, ack_required, words,
                      subject_phrases, body_phrases)
            ORDER BY id
            RETURNING id, project_id, thread_id, sender_id, priority, ack_required
        ), delivered AS (
            INSERT INTO deliveries (agent_id, position, message_id, project_id, sender_id, thread_id, kind, place,
                                    priority, ack_required, created_at)
            SELECT n.agent_id, n.position, m.id, m.project_id, m.sender_id, m.thread_id, n.kind, n.place,
                   m.priority, m.ack_required, $2
            FROM unnest($15::bigint[], $16::bigint[], $17::bigint[], $18::smallint[], $19::smallint[])
                AS n (message_id, agent_id, position, kind, place)
            JOIN stored m ON m.id = n.message_id
            ORDER BY n.agent_id, n.position
        ), moved AS (
            UPDATE mailboxes b SET position = b.position + n.added, unread = b.unread + n.added
            FROM unnest($20::bigint[], $21::bigint[]) AS n (agent_id, added)
            WHERE b.agent_id = n.agent_id
        ), counted AS (
            UPDATE threads t
            SET message_count = t.message_count + n.added, last_message_id = n.last_id, last_message_at = $2,
                created_at = CASE WHEN t.message_count = 0 THEN $2 ELSE t.created_at END
            FROM unnest($22::bigint[], $23::bigint[], $24::bigint[]) AS n (thread_id, added, last_id)
            WHERE t.id = n.thread_id
        ), joined AS (
            INSERT INTO thread_participants (thread_id, agent_id, is_hidden)
            SELECT thread_id, agent_id, is_hidden
            FROM unnest($25::bigint[], $26::bigint[], $27::boolean[]) AS n (thread_id, agent_id, is_hidden)
            WHERE NOT EXISTS (
                SELECT FROM thread_participants p
                WHERE p.thread_id = n.thread_id AND p.agent_id = n.agent_id AND (n.is_hidden OR NOT p.is_hidden)
            )
            ON CONFLICT (thread_id, agent_id) DO UPDATE SET is_hidden = false
        ), happened AS (
            INSERT INTO events (team_id, project_id, kind, agent_id, message_id, data, created_at)
            SELECT $1, project_id, 'message.sent', sender_id, id, data::jsonb, $2
            FROM unnest($3::bigint[], $4::bigint[], $6::bigint[], $28::text[]) AS n (id, project_id, sender_id, data)
            ORDER BY id
            RETURNING id
        ), posted AS (
            INSERT INTO outbox (event_id, topic) SELECT id, $29 FROM happened ORDER BY id
        )
        UPDATE idempotency_keys k SET response = n.response
        FROM unnest($30::text[], $31::bigint[], $32::text[], $33::text[], $34::text[])
            AS n (principal, agent_id, operation, key, response)
        WHERE k.team_id = $1 AND k.principal = n.principal AND k.agent_id = n.agent_id
          AND k.operation = n.operation AND k.key = n.key
        """,
        team_id,
        created_at,
        [message.id for message in messages],
        [draft.project_id for draft in drafts],
        [message.thread_id for message in messages],
        [draft.sender.agent.id for draft in drafts],
        [draft.parent_id for draft in drafts],
        [draft.subject for draft in drafts],
        [draft.body_md for draft in drafts],
        [PRIORITY_RANKS[draft.priority] for draft in drafts],
        [draft.ack_required for draft in drafts],
        [stored_words(message.draft.index, message.body) for message in messages],
        [phrase_text(draft.index.subject_parts) for draft in drafts],
        [message.body.phrases for message in messages],
        *_columns(deliveries, 5),
        list(positions),
        [next_position[agent_id] - last for agent_id, last in positions.items()],
        list(threads),
        [count for count, _ in threads.values()],
        [last_id for _, last_id in threads.values()],
        [thread_id for thread_id, _ in participants],
        [agent_id for _, agent_id in participants],
        list(participants.values()),
        [json.dumps(draft.event_data) for draft in drafts],
        ARCHIVE_TOPIC,
        [scope.principal for scope, _ in kept],
        [scope.agent_id for scope, _ in kept],
        [scope.operation for scope, _ in kept],
        [scope.key for scope, _ in kept],
        [answer.model_dump_json() for _, answer in kept],
    )


def _columns(rows: Sequence[tuple[object, ...]], width: int) -> list[list[object]]:
    """Rows turned into columns, also when there are none."""
    return [[row[number] for row in rows] for number in range(width)]
