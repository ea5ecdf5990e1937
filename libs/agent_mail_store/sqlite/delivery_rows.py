"""The rows of a delivery in SQLite: all that a message adds and changes."""

from agent_mail_core.clock import from_microseconds
from agent_mail_core.delivery import Delivered, Draft
from agent_mail_core.errors import TransactionConflict
from agent_mail_core.events import NewEvent
from agent_mail_core.fields import RECIPIENT_KINDS, PriorityRank
from agent_mail_core.ids import MessageId, ThreadId
from agent_mail_core.search_text import encode
from agent_mail_store.sqlite.attachments import link_attachments
from agent_mail_store.sqlite.events import add_event
from agent_mail_store.sqlite.idempotency import keep_answer
from agent_mail_store.sqlite.writing import Writing

INDEX_TEXT = "INSERT INTO message_text (rowid, subject, body, wholes) VALUES (?, ?, ?, ?)"


def store_message(statements: Writing, draft: Draft, now: int) -> Delivered:
    """Store it. TransactionConflict if the key that was drawn for its thread is taken."""
    thread_id, thread_key = _thread(statements, draft, now)
    message_id = MessageId(
        statements.insert(
            """
            INSERT INTO messages (team_id, project_id, thread_id, sender_id, parent_id, subject, body_md, priority,
                ack_required, created_at)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
            """,
            (
                draft.team_id,
                draft.project_id,
                thread_id,
                draft.sender.agent.id,
                draft.parent_id,
                draft.subject,
                draft.body_md,
                PriorityRank[draft.priority].value,
                draft.ack_required,
                now,
            ),
        )
    )
    statements.insert("UPDATE threads SET last_message_id = ? WHERE id = ?", (message_id, thread_id))
    _store_deliveries(statements, draft, thread_id, message_id, now)
    _store_participants(statements, draft, thread_id)
    if draft.attachments:
        link_attachments(statements, message_id, draft.attachments)
    statements.postpone(INDEX_TEXT, (message_id, *_index_columns(draft)))
    data = {**draft.event_data, "thread_id": thread_key}
    event = NewEvent("message.sent", draft.team_id, draft.project_id, draft.sender.agent.id, message_id, data)
    add_event(statements, event, now)
    sent = draft.sent(message_id, thread_key, from_microseconds(now))
    if draft.scope is not None:
        keep_answer(statements, draft.scope, draft.fingerprint, sent.model_dump_json(), now)
    return Delivered(sent, tuple(actor.agent.id for actor, _ in draft.recipients), draft.missing)


def _thread(statements: Writing, draft: Draft, now: int) -> tuple[ThreadId, str]:
    """The thread, which is made if it is new, and its key as it is spelled; counts the message."""
    if draft.thread_id is not None:
        statements.insert(
            "UPDATE threads SET message_count = message_count + 1, last_message_at = ? WHERE id = ?",
            (now, draft.thread_id),
        )
        return draft.thread_id, draft.thread_key
    if draft.begins_thread:
        return _begun_thread(statements, draft, now), draft.thread_key
    rows = statements.many(
        """
        INSERT INTO threads (team_id, project_id, key, subject, message_count, last_message_at, created_at)
        VALUES (?1, ?2, ?3, ?4, 1, ?5, ?5)
        ON CONFLICT (project_id, key) DO UPDATE
        SET message_count = message_count + 1, last_message_at = excluded.last_message_at
        RETURNING id, key
        """,
        [(draft.team_id, draft.project_id, draft.thread_key, draft.subject, now)],
    )
    return rows[0][0], rows[0][1]


def _begun_thread(statements: Writing, draft: Draft, now: int) -> ThreadId:
    row = statements.row(
        """
        INSERT INTO threads (team_id, project_id, key, subject, message_count, last_message_at, created_at)
        VALUES (?1, ?2, ?3, ?4, 1, ?5, ?5) ON CONFLICT (project_id, key) DO NOTHING RETURNING id
        """,
        (draft.team_id, draft.project_id, draft.thread_key, draft.subject, now),
    )
    if row is None:
        raise TransactionConflict
    return ThreadId(row[0])


def _store_deliveries(statements: Writing, draft: Draft, thread_id: ThreadId, message_id: MessageId, now: int) -> None:
    positions = statements.many(
        "UPDATE mailboxes SET position = position + 1, unread = unread + 1 WHERE agent_id = ? RETURNING position",
        [(actor.agent.id,) for actor, _ in draft.recipients],
    )
    statements.many(
        """
        INSERT INTO deliveries (agent_id, position, message_id, project_id, sender_id, thread_id, kind, place, priority,
            ack_required, created_at)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
        """,
        [
            (
                actor.agent.id,
                position,
                message_id,
                draft.project_id,
                draft.sender.agent.id,
                thread_id,
                RECIPIENT_KINDS.index(kind),
                place,
                PriorityRank[draft.priority].value,
                draft.ack_required,
                now,
            )
            for place, ((actor, kind), (position,)) in enumerate(zip(draft.recipients, positions, strict=True))
        ],
    )


def _store_participants(statements: Writing, draft: Draft, thread_id: ThreadId) -> None:
    """Whoever was only bcc until now, and is visible in this message, is no longer hidden."""
    statements.many(
        """
        INSERT INTO thread_participants (thread_id, agent_id, is_hidden) VALUES (?, ?, ?)
        ON CONFLICT DO UPDATE SET is_hidden = 0 WHERE is_hidden AND NOT excluded.is_hidden
        """,
        [(thread_id, draft.sender.agent.id, 0)]
        + [(thread_id, actor.agent.id, int(kind == "bcc")) for actor, kind in draft.recipients],
    )


def _index_columns(draft: Draft) -> tuple[str, str, str]:
    index = draft.index
    return _parts_column(index.subject_parts), _parts_column(index.body_parts), " ".join(map(encode, index.wholes))


def _parts_column(parts: list[str]) -> str:
    text = " ".join(parts)
    # Parts in ASCII are letters and digits alone, which encode as they are.
    return text if text.isascii() else " ".join(map(encode, parts))
