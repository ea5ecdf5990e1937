"""Delivering a message in SQLite: the facts that the rule needs, then every row of it, in one savepoint of the writer.

Nothing here awaits: the writer calls it when its turn has come, and no other transaction runs until it returns.
"""

from collections.abc import Iterable

import orjson

from agent_mail_core.agents import AgentRecord
from agent_mail_core.clock import from_microseconds
from agent_mail_core.delivery import (
    Delivered,
    Draft,
    Outgoing,
    Parent,
    SendFacts,
    SentMessage,
    decide,
    idempotency_scope,
)
from agent_mail_core.events import NewEvent
from agent_mail_core.fields import RECIPIENT_KINDS, PriorityRank, name_key
from agent_mail_core.ids import MessageId, ProjectId, TeamId, ThreadId
from agent_mail_core.ports import Clock
from agent_mail_core.search_text import encode
from agent_mail_store.sqlite.agents import agent_record
from agent_mail_store.sqlite.events import add_event
from agent_mail_store.sqlite.idempotency import keep_answer, stored_answer
from agent_mail_store.sqlite.messages import PRIORITY_WORDS
from agent_mail_store.sqlite.projects import find_project
from agent_mail_store.sqlite.statements import Statements
from agent_mail_store.sqlite.writing import Writing

INDEX_TEXT = "INSERT INTO message_text (rowid, subject, body, wholes) VALUES (?, ?, ?, ?)"


def deliver(statements: Writing, clock: Clock, send: Outgoing) -> Delivered:
    """Decide the send and store what was decided. Raises what `decide` raises."""
    now = clock.microseconds()
    decided = decide(send, _facts(statements, send, now))
    if isinstance(decided, SentMessage):
        return Delivered(decided)
    return _store(statements, decided, now)


# --- the facts --------------------------------------------------------------------------------------------------------


def _facts(statements: Statements, send: Outgoing, now: int) -> SendFacts:
    project = find_project(statements, send.team_id, send.project_ref)
    if project is None:
        return SendFacts(None, {}, None, None)
    agents = _agents(statements, project.id, send.names)
    sender = agents.get(name_key(send.sender_name))
    scope = idempotency_scope(send, sender) if sender is not None else None
    return SendFacts(
        project=project,
        agents=agents,
        parent=_parent(statements, send.team_id, send.parent_id) if send.parent_id is not None else None,
        answer=stored_answer(statements, scope, now) if scope is not None else None,
    )


def _agents(statements: Statements, project_id: ProjectId, names: Iterable[str]) -> dict[str, AgentRecord]:
    rows = statements.rows(
        """
        SELECT id, project_id, name, program, model, task_description, contact_policy, owner, registered_at,
            last_active_at, retired_at
        FROM agents WHERE project_id = ? AND name IN (SELECT value FROM json_each(?))
        """,
        (project_id, orjson.dumps(list(names)).decode()),
    )
    return {row[2].lower(): agent_record(row) for row in rows}


def _parent(statements: Statements, team_id: TeamId, message_id: MessageId) -> Parent | None:
    found = statements.row(
        """
        SELECT m.project_id, m.thread_id, t.key, m.subject, m.priority,
            a.id, a.project_id, a.name, a.program, a.model, a.task_description, a.contact_policy, a.owner,
            a.registered_at, a.last_active_at, a.retired_at
        FROM messages m CROSS JOIN threads t ON t.id = m.thread_id CROSS JOIN agents a ON a.id = m.sender_id
        WHERE m.id = ? AND m.team_id = ?
        """,
        (message_id, team_id),
    )
    if found is None:
        return None
    recipients = statements.rows(
        """
        SELECT a.id, a.project_id, a.name, a.program, a.model, a.task_description, a.contact_policy, a.owner,
            a.registered_at, a.last_active_at, a.retired_at, d.kind
        FROM deliveries d CROSS JOIN agents a ON a.id = d.agent_id
        WHERE d.message_id = ? ORDER BY d.place
        """,
        (message_id,),
    )
    project_id, thread_id, thread_key, subject, priority, *sender = found
    return Parent(
        id=message_id,
        project_id=project_id,
        thread_id=thread_id,
        thread_key=thread_key,
        subject=subject,
        priority=PRIORITY_WORDS[priority],
        sender=agent_record(tuple(sender)),
        recipients=tuple((agent_record(row), RECIPIENT_KINDS[row[11]]) for row in recipients),
    )


# --- the rows ---------------------------------------------------------------------------------------------------------


def _store(statements: Writing, draft: Draft, now: int) -> Delivered:
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
                draft.sender.id,
                draft.parent_id,
                draft.subject,
                draft.body_md,
                PriorityRank[draft.priority].value,
                draft.ack_required,
                now,
            ),
        )
    )
    statements.insert(
        """
        UPDATE threads SET message_count = message_count + 1, last_message_id = ?, last_message_at = ? WHERE id = ?
        """,
        (message_id, now, thread_id),
    )
    _store_deliveries(statements, draft, thread_id, message_id, now)
    _store_participants(statements, draft, thread_id)
    statements.postpone(INDEX_TEXT, (message_id, *_index_columns(draft)))
    data = {**draft.event_data, "thread_id": thread_key}
    event = NewEvent("message.sent", draft.team_id, draft.project_id, draft.sender.id, message_id, data)
    add_event(statements, event, now)
    sent = draft.sent(message_id, thread_key, from_microseconds(now))
    if draft.scope is not None:
        keep_answer(statements, draft.scope, draft.fingerprint, sent.model_dump_json(), now)
    return Delivered(sent, tuple(agent.id for agent, _ in draft.recipients))


def _thread(statements: Writing, draft: Draft, now: int) -> tuple[ThreadId, str]:
    if draft.thread_id is not None:
        return draft.thread_id, draft.thread_key
    row = statements.row(
        "SELECT id, key FROM threads WHERE project_id = ? AND key = ?", (draft.project_id, draft.thread_key)
    )
    if row is not None:
        return row[0], row[1]
    thread_id = statements.insert(
        """
        INSERT INTO threads (team_id, project_id, key, subject, last_message_at, created_at) VALUES (?, ?, ?, ?, ?, ?)
        """,
        (draft.team_id, draft.project_id, draft.thread_key, draft.subject, now, now),
    )
    return ThreadId(thread_id), draft.thread_key


def _store_deliveries(statements: Writing, draft: Draft, thread_id: ThreadId, message_id: MessageId, now: int) -> None:
    positions = statements.many(
        "UPDATE mailboxes SET position = position + 1, unread = unread + 1 WHERE agent_id = ? RETURNING position",
        [(agent.id,) for agent, _ in draft.recipients],
    )
    statements.many(
        """
        INSERT INTO deliveries (agent_id, position, message_id, project_id, sender_id, thread_id, kind, place, priority,
            ack_required, created_at)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
        """,
        [
            (
                agent.id,
                position,
                message_id,
                draft.project_id,
                draft.sender.id,
                thread_id,
                RECIPIENT_KINDS.index(kind),
                place,
                PriorityRank[draft.priority].value,
                draft.ack_required,
                now,
            )
            for place, ((agent, kind), (position,)) in enumerate(zip(draft.recipients, positions, strict=True))
        ],
    )


def _store_participants(statements: Writing, draft: Draft, thread_id: ThreadId) -> None:
    """Whoever was only bcc until now, and is visible in this message, is no longer hidden."""
    statements.many(
        """
        INSERT INTO thread_participants (thread_id, agent_id, is_hidden) VALUES (?, ?, ?)
        ON CONFLICT DO UPDATE SET is_hidden = 0 WHERE is_hidden AND NOT excluded.is_hidden
        """,
        [(thread_id, draft.sender.id, 0)]
        + [(thread_id, agent.id, int(kind == "bcc")) for agent, kind in draft.recipients],
    )


def _index_columns(draft: Draft) -> tuple[str, str, str]:
    index = draft.index
    return _parts_column(index.subject_parts), _parts_column(index.body_parts), " ".join(map(encode, index.wholes))


def _parts_column(parts: list[str]) -> str:
    text = " ".join(parts)
    # Parts in ASCII are letters and digits alone, which encode as they are.
    return text if text.isascii() else " ".join(map(encode, parts))
