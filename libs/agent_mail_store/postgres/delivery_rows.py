"""The rows of a delivery in Postgres: all that a batch of messages adds and changes, in one statement."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias

import orjson

from agent_mail_core.delivery import Draft, SentMessage
from agent_mail_core.events import ARCHIVE_TOPIC
from agent_mail_core.fields import RECIPIENT_KINDS
from agent_mail_core.ids import AgentId, MessageId, TeamId, ThreadId
from agent_mail_core.search_text import phrase_text
from agent_mail_store.postgres.message_search import StoredBody, stored_words
from agent_mail_store.postgres.messages import PRIORITY_RANKS
from agent_mail_store.postgres.statements import Statements

Columns: TypeAlias = list[list[Any]]


@dataclass(frozen=True, slots=True)
class NewMessage:
    """A message with its id and its thread, and what its sender will be told."""

    id: MessageId
    thread_id: ThreadId
    thread_key: str
    """As the thread spells it."""
    draft: Draft
    body: StoredBody
    answer: SentMessage


async def insert_messages(
    db: Statements,
    team_id: TeamId,
    messages: Sequence[NewMessage],
    positions: Mapping[AgentId, int],
    created_at: datetime,
) -> None:
    """Store them below the locks that `delivery` holds. `positions` are the last ones of all recipients' mailboxes.

    TransactionConflict if the key that was drawn for a thread is taken: its message then has no thread to refer to.
    """
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
        ), happened AS (
            INSERT INTO events (team_id, project_id, kind, agent_id, message_id, data, created_at)
            SELECT $1, project_id, 'message.sent', sender_id, id, data::jsonb, $2
            FROM unnest($3::bigint[], $4::bigint[], $6::bigint[], $15::text[]) AS n (id, project_id, sender_id, data)
            ORDER BY id
            RETURNING id
        ), posted AS (
            INSERT INTO outbox (event_id, topic) SELECT id, $16 FROM happened ORDER BY id
        ), delivered AS (
            INSERT INTO deliveries (agent_id, position, message_id, project_id, sender_id, thread_id, kind, place,
                                    priority, ack_required, created_at)
            SELECT n.agent_id, n.position, m.id, m.project_id, m.sender_id, m.thread_id, n.kind, n.place,
                   m.priority, m.ack_required, $2
            FROM unnest($17::bigint[], $18::bigint[], $19::bigint[], $20::smallint[], $21::smallint[])
                AS n (message_id, agent_id, position, kind, place)
            JOIN stored m ON m.id = n.message_id
            ORDER BY n.agent_id, n.position
        ), moved AS (
            UPDATE mailboxes b SET position = b.position + n.added, unread = b.unread + n.added
            FROM unnest($22::bigint[], $23::bigint[]) AS n (agent_id, added)
            WHERE b.agent_id = n.agent_id
        ), begun AS (
            INSERT INTO threads (id, team_id, project_id, key, subject, message_count, last_message_id, last_message_at,
                                 created_at)
            SELECT id, $1, project_id, key, subject, 1, message_id, $2, $2
            FROM unnest($24::bigint[], $25::bigint[], $26::text[], $27::text[], $28::bigint[])
                AS n (id, project_id, key, subject, message_id)
            ON CONFLICT (project_id, key_lower) DO NOTHING
        ), counted AS (
            UPDATE threads t
            SET message_count = t.message_count + n.added, last_message_id = n.last_id, last_message_at = $2,
                created_at = CASE WHEN t.message_count = 0 THEN $2 ELSE t.created_at END
            FROM unnest($29::bigint[], $30::bigint[], $31::bigint[]) AS n (thread_id, added, last_id)
            WHERE t.id = n.thread_id
        ), joined AS (
            INSERT INTO thread_participants (thread_id, agent_id, is_hidden)
            SELECT thread_id, agent_id, is_hidden
            FROM unnest($32::bigint[], $33::bigint[], $34::boolean[]) AS n (thread_id, agent_id, is_hidden)
            WHERE NOT EXISTS (
                SELECT FROM thread_participants p
                WHERE p.thread_id = n.thread_id AND p.agent_id = n.agent_id AND (n.is_hidden OR NOT p.is_hidden)
            )
            ON CONFLICT (thread_id, agent_id) DO UPDATE SET is_hidden = false
        )
        UPDATE idempotency_keys k SET response = n.response
        FROM unnest($35::text[], $36::bigint[], $37::text[], $38::text[], $39::text[])
            AS n (principal, agent_id, operation, key, response)
        WHERE k.team_id = $1 AND k.principal = n.principal AND k.agent_id = n.agent_id
          AND k.operation = n.operation AND k.key = n.key
        """,
        team_id,
        created_at,
        *_messages(messages),
        [_event_data(message) for message in messages],
        ARCHIVE_TOPIC,
        *_deliveries(messages, positions),
        *_mailboxes(messages),
        *_begun_threads(messages),
        *_grown_threads(messages),
        *_participants(messages),
        *_answers(messages),
    )


def _messages(messages: Sequence[NewMessage]) -> Columns:
    drafts = [message.draft for message in messages]
    return [
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
    ]


def _event_data(message: NewMessage) -> str:
    return orjson.dumps({**message.draft.event_data, "thread_id": message.thread_key}).decode()


def _deliveries(messages: Sequence[NewMessage], positions: Mapping[AgentId, int]) -> Columns:
    """Message, recipient, position, kind, place; a recipient's positions follow the order of the messages."""
    last, rows = dict(positions), []
    for message in messages:
        for place, (actor, kind) in enumerate(message.draft.recipients):
            last[actor.agent.id] += 1
            rows.append((message.id, actor.agent.id, last[actor.agent.id], RECIPIENT_KINDS.index(kind), place))
    return _columns(rows, 5)


def _mailboxes(messages: Sequence[NewMessage]) -> Columns:
    added = Counter(actor.agent.id for message in messages for actor, _ in message.draft.recipients)
    return [list(added), list(added.values())]


def _begun_threads(messages: Sequence[NewMessage]) -> Columns:
    rows = [
        (message.thread_id, message.draft.project_id, message.thread_key, message.draft.subject, message.id)
        for message in messages
        if message.draft.begins_thread
    ]
    return _columns(rows, 5)


def _grown_threads(messages: Sequence[NewMessage]) -> Columns:
    """Threads that were locked, how many messages each gets, and the last one."""
    grown = [message for message in messages if not message.draft.begins_thread]
    added, last = Counter(message.thread_id for message in grown), {each.thread_id: each.id for each in grown}
    return [list(added), list(added.values()), [last[thread_id] for thread_id in added]]


def _participants(messages: Sequence[NewMessage]) -> Columns:
    """Thread, agent, and whether it takes part as a bcc recipient alone."""
    hidden: dict[tuple[ThreadId, AgentId], bool] = {}
    for message in messages:
        hidden[message.thread_id, message.draft.sender.agent.id] = False
        for actor, kind in message.draft.recipients:
            key = message.thread_id, actor.agent.id
            hidden[key] = hidden.get(key, True) and kind == "bcc"
    return _columns([(*key, is_hidden) for key, is_hidden in hidden.items()], 3)


def _answers(messages: Sequence[NewMessage]) -> Columns:
    """What is kept under idempotency keys."""
    rows = [
        (scope.principal, scope.agent_id, scope.operation, scope.key, message.answer.model_dump_json())
        for message in messages
        if (scope := message.draft.scope) is not None
    ]
    return _columns(rows, 5)


def _columns(rows: Sequence[tuple[Any, ...]], width: int) -> Columns:
    """Rows turned into columns, also when there are none."""
    return [[row[number] for row in rows] for number in range(width)]
