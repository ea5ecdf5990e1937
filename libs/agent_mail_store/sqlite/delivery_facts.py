"""What a delivery in SQLite must know before it is decided. Most sends need one statement."""

from collections.abc import Collection

import orjson

from agent_mail_core.addresses import Address
from agent_mail_core.agents import Actor, AgentRecord
from agent_mail_core.attachments import AttachmentRecord
from agent_mail_core.delivery import ForeignThread, Outgoing, Parent, SendFacts, idempotency_scope
from agent_mail_core.fields import RECIPIENT_KINDS, name_key
from agent_mail_core.ids import AgentId, MessageId, TeamId
from agent_mail_core.projects import ProjectRecord
from agent_mail_store.sqlite.agents import agent_record
from agent_mail_store.sqlite.attachments import attachment_record, linkable_rows
from agent_mail_store.sqlite.idempotency import stored_answer
from agent_mail_store.sqlite.messages import PRIORITY_WORDS
from agent_mail_store.sqlite.projects import project_record
from agent_mail_store.sqlite.statements import Row, Statements

Found = tuple[ProjectRecord, dict[str, AgentRecord]]


def facts_of(statements: Statements, send: Outgoing, now: int) -> SendFacts:
    """What the database says about the send, but for what `decide` asks for."""
    blockers: set[AgentId] = set()
    found = _agents(statements, send.team_id, send.project_ref, send.names, blockers)
    if found is None:
        return SendFacts(None, {}, None, None)
    project, agents = found
    sender = agents.get(name_key(send.sender_name))
    scope = idempotency_scope(send, sender) if sender is not None else None
    foreign = _foreign(statements, send, project, blockers)
    parent = _parent(statements, send.team_id, send.parent_id, blockers) if send.parent_id is not None else None
    files: list[AttachmentRecord] = []
    if sender is not None and send.attachment_ids:
        files = [attachment_record(row) for row in linkable_rows(statements, sender.id, send.attachment_ids)]
    return SendFacts(
        project=project,
        agents=agents,
        parent=parent,
        answer=stored_answer(statements, scope, now) if scope is not None else None,
        blockers=frozenset(blockers),
        foreign=foreign,
        foreign_thread=(
            _thread(statements, send.team_id, send.thread, sender.id)
            if sender is not None and send.thread is not None and not send.thread.is_in(project.slug)
            else None
        ),
        attachments=files,
    )


def _agents(
    statements: Statements, team_id: TeamId, ref: str, names: Collection[str], blockers: set[AgentId]
) -> Found | None:
    """A project by slug, else by key, and its agents of these names; adds those that blocked somebody to `blockers`."""
    rows = statements.rows(
        # The second half of `found` only runs when the first finds nothing.
        """
        WITH found AS (
            SELECT id, team_id, slug, human_key, description, created_at
            FROM projects WHERE team_id = ?1 AND slug = ?2
            UNION ALL
            SELECT id, team_id, slug, human_key, description, created_at
            FROM projects WHERE team_id = ?1 AND human_key = ?2
            LIMIT 1
        )
        SELECT found.*,
            a.id, a.project_id, a.name, a.program, a.model, a.task_description, a.contact_policy, a.owner,
            a.registered_at, a.last_active_at, a.retired_at, EXISTS (SELECT 1 FROM blocks b WHERE b.agent_id = a.id)
        FROM found LEFT JOIN agents a ON a.project_id = found.id AND a.name IN (SELECT value FROM json_each(?3))
        """,
        (team_id, ref, orjson.dumps(list(names)).decode()),
    )
    if not rows:
        return None
    blockers.update(row[6] for row in rows if row[17])
    agents = {row[8].lower(): agent_record(row[6:]) for row in rows if row[6] is not None}
    return project_record(rows[0]), agents


def _foreign(
    statements: Statements, send: Outgoing, own: ProjectRecord, blockers: set[AgentId]
) -> dict[tuple[str, str], Actor]:
    """The agents that are named with the slug of another project."""
    names: dict[str, set[str]] = {}
    for slug, name in send.foreign:
        if slug != own.slug:
            names.setdefault(slug, set()).add(name)
    actors: dict[tuple[str, str], Actor] = {}
    for slug, wanted in names.items():
        found = _agents(statements, send.team_id, slug, wanted, blockers)
        if found is not None and found[0].slug == slug:  # and not a project of that key
            actors |= {(slug, name): Actor(found[0], agent) for name, agent in found[1].items()}
    return actors


def _parent(statements: Statements, team_id: TeamId, message_id: MessageId, blockers: set[AgentId]) -> Parent | None:
    """The message as what a send answers. Projects of agents are read where they are not its own."""
    found = statements.row(
        """
        SELECT a.id, a.project_id, a.name, a.program, a.model, a.task_description, a.contact_policy, a.owner,
            a.registered_at, a.last_active_at, a.retired_at, EXISTS (SELECT 1 FROM blocks b WHERE b.agent_id = a.id),
            p.id, p.team_id, p.slug, p.human_key, p.description, p.created_at,
            h.id, h.team_id, h.slug, h.human_key, h.description, h.created_at,
            m.thread_id, t.key, m.subject, m.priority
        FROM messages m
        CROSS JOIN projects h ON h.id = m.project_id AND h.deleted_at IS NULL
        CROSS JOIN threads t ON t.id = m.thread_id
        CROSS JOIN agents a ON a.id = m.sender_id
        LEFT JOIN projects p ON p.id = a.project_id AND a.project_id <> m.project_id
        WHERE m.id = ? AND m.team_id = ?
        """,
        (message_id, team_id),
    )
    if found is None:
        return None
    recipients = statements.rows(
        """
        SELECT a.id, a.project_id, a.name, a.program, a.model, a.task_description, a.contact_policy, a.owner,
            a.registered_at, a.last_active_at, a.retired_at, EXISTS (SELECT 1 FROM blocks b WHERE b.agent_id = a.id),
            p.id, p.team_id, p.slug, p.human_key, p.description, p.created_at, d.kind
        FROM deliveries d CROSS JOIN agents a ON a.id = d.agent_id
        LEFT JOIN projects p ON p.id = a.project_id AND a.project_id <> d.project_id
        WHERE d.message_id = ? ORDER BY d.place
        """,
        (message_id,),
    )
    blockers.update(row[0] for row in (found, *recipients) if row[11])
    home = project_record(found[18:24])
    thread_id, thread_key, subject, priority = found[24:28]
    return Parent(
        id=message_id,
        project=home,
        thread_id=thread_id,
        thread_key=thread_key,
        subject=subject,
        priority=PRIORITY_WORDS[priority],
        sender=_actor(found, home),
        recipients=tuple((_actor(row, home), RECIPIENT_KINDS[row[18]]) for row in recipients),
    )


def _actor(row: Row, home: ProjectRecord) -> Actor:
    """The agent and then its project, which is `home` when it was not read."""
    return Actor(home if row[12] is None else project_record(row[12:18]), agent_record(row))


def _thread(statements: Statements, team_id: TeamId, asked: Address, sender_id: AgentId) -> ForeignThread | None:
    row = statements.row(
        """
        SELECT p.id, p.team_id, p.slug, p.human_key, p.description, p.created_at, t.id, t.key,
            EXISTS (SELECT 1 FROM thread_participants q WHERE q.thread_id = t.id AND q.agent_id = ?4)
        FROM projects p CROSS JOIN threads t ON t.project_id = p.id AND t.key = ?3
        WHERE p.team_id = ?1 AND p.slug = ?2
        """,
        (team_id, asked.slug, asked.name, sender_id),
    )
    return ForeignThread(row[6], project_record(row), row[7], bool(row[8])) if row is not None else None
