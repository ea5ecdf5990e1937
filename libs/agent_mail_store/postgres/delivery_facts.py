"""What a delivery on PostgreSQL must know before it is decided: a few statements for all sends of a batch.

Whether an agent blocked anybody is asked without EXISTS: that is planned, for many agents, as a hash of all blocks.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from agent_mail_core.agents import Actor, AgentRecord
from agent_mail_core.delivery import ForeignThread, Outgoing, Parent, SendFacts, idempotency_scope
from agent_mail_core.fields import RECIPIENT_KINDS, RecipientKind, name_key
from agent_mail_core.idempotency import IdempotencyScope
from agent_mail_core.ids import AgentId, MessageId, ProjectId, TeamId
from agent_mail_core.projects import ProjectRecord
from agent_mail_store.postgres.agents import AGENT_FIELDS
from agent_mail_store.postgres.attachments import PostgresAttachments
from agent_mail_store.postgres.connections import Row
from agent_mail_store.postgres.idempotency import stored_answers
from agent_mail_store.postgres.messages import PRIORITY_WORDS
from agent_mail_store.postgres.projects import named_projects
from agent_mail_store.postgres.statements import Statements

_PROJECT_FIELDS = 6


async def facts_of(db: Statements, team_id: TeamId, sends: Sequence[Outgoing]) -> list[SendFacts]:
    """What the database says about each send, but for what `decide` asks for."""
    projects = await named_projects(db, team_id, list({ref for send in sends for ref in send.refs}))
    pairs = {pair for send in sends for pair in _pairs(send, projects)}
    blockers: set[AgentId] = set()
    agents = await _agents(db, pairs, blockers) if pairs else {}
    parent_ids = {send.parent_id for send in sends if send.parent_id is not None}
    parents = await _parents(db, team_id, list(parent_ids), blockers) if parent_ids else {}
    found = frozenset(blockers)
    facts = []
    for send in sends:
        project = projects.get(send.project_ref)
        facts.append(
            SendFacts(
                project=project,
                agents=agents.get(project.id, {}) if project else {},
                parent=parents.get(send.parent_id) if send.parent_id is not None else None,
                answer=None,
                blockers=found,
                foreign={
                    (slug, name): Actor(there, agent)
                    for slug, name in send.foreign
                    if (there := _addressed(slug, projects)) and (agent := agents.get(there.id, {}).get(name))
                },
            )
        )
    return await _with_sender(db, team_id, sends, facts, projects)


def _addressed(slug: str, projects: Mapping[str, ProjectRecord]) -> ProjectRecord | None:
    """The project that an address names: by its slug only."""
    project = projects.get(slug)
    return project if project is not None and project.slug == slug else None


def _pairs(send: Outgoing, projects: Mapping[str, ProjectRecord]) -> list[tuple[ProjectId, str]]:
    """Project and lower-cased name of every agent that the rule needs."""
    project = projects.get(send.project_ref)
    if project is None:
        return []
    own = [(project.id, name) for name in send.names]
    return own + [(there.id, name) for slug, name in send.foreign if (there := _addressed(slug, projects))]


async def _with_sender(
    db: Statements,
    team_id: TeamId,
    sends: Sequence[Outgoing],
    facts: Sequence[SendFacts],
    projects: Mapping[str, ProjectRecord],
) -> list[SendFacts]:
    """The facts with what hangs on the sender: stored answers, then threads of other projects and attachments."""
    senders = [fact.agents.get(name_key(send.sender_name)) for send, fact in zip(sends, facts, strict=True)]
    scopes: dict[int, IdempotencyScope] = {}
    for number, (send, sender) in enumerate(zip(sends, senders, strict=True)):
        scope = idempotency_scope(send, sender) if sender else None
        if scope is not None:
            scopes[number] = scope
    answers = await stored_answers(db, team_id, list(scopes.values())) if scopes else {}
    found = list(facts)
    for number, (send, sender) in enumerate(zip(sends, senders, strict=True)):
        if number in scopes and scopes[number] in answers:
            found[number] = replace(found[number], answer=answers[scopes[number]])
            continue
        slug = send.thread.slug if send.thread is not None else None
        there = _addressed(slug, projects) if slug is not None else None
        if sender is not None and send.thread is not None and there is not None:
            thread = await _thread(db, there, send.thread.name, sender.id)
            found[number] = replace(found[number], foreign_thread=thread)
        if sender is not None and send.attachment_ids:
            files = await PostgresAttachments(db).linkable(sender.id, send.attachment_ids)
            found[number] = replace(found[number], attachments=files)
    return found


async def _agents(
    db: Statements, pairs: Collection[tuple[ProjectId, str]], blockers: set[AgentId]
) -> dict[ProjectId, dict[str, AgentRecord]]:
    """The agents of these projects and lower-cased names, by both; adds those that blocked somebody to `blockers`."""
    rows = await db.rows(
        """
        SELECT a.id, a.project_id, a.name, a.program, a.model, a.task_description, a.contact_policy, a.owner,
               a.registered_at, a.last_active_at, a.retired_at, a.name_key,
               (SELECT true FROM blocks b WHERE b.agent_id = a.id LIMIT 1) IS NOT NULL AS has_blocks
        FROM unnest($1::bigint[], $2::text[]) AS wanted (project_id, name_key)
        JOIN agents a ON a.project_id = wanted.project_id AND a.name_key = wanted.name_key
        """,
        [project_id for project_id, _ in pairs],
        [name for _, name in pairs],
    )
    found: dict[ProjectId, dict[str, AgentRecord]] = {}
    for row in rows:
        found.setdefault(row["project_id"], {})[row["name_key"]] = AgentRecord(*row[:AGENT_FIELDS])
        if row["has_blocks"]:
            blockers.add(row["id"])
    return found


async def _parents(
    db: Statements, team_id: TeamId, message_ids: Sequence[MessageId], blockers: set[AgentId]
) -> dict[MessageId, Parent]:
    """Those messages of the team, as what a send answers. Projects of agents are read where they are not its own."""
    recipient_rows = await db.rows(
        """
        SELECT a.id, a.project_id, a.name, a.program, a.model, a.task_description, a.contact_policy, a.owner,
               a.registered_at, a.last_active_at, a.retired_at,
               p.id, p.team_id, p.slug, p.human_key, p.description, p.created_at,
               d.message_id, d.kind,
               (SELECT true FROM blocks b WHERE b.agent_id = a.id LIMIT 1) IS NOT NULL AS has_blocks
        FROM unnest($1::bigint[]) AS wanted (message_id)
        JOIN deliveries d ON d.message_id = wanted.message_id
        JOIN agents a ON a.id = d.agent_id
        LEFT JOIN projects p ON p.id = a.project_id AND a.project_id <> d.project_id
        ORDER BY d.message_id, d.place
        """,
        message_ids,
    )
    rows = await db.rows(
        """
        SELECT a.id, a.project_id, a.name, a.program, a.model, a.task_description, a.contact_policy, a.owner,
               a.registered_at, a.last_active_at, a.retired_at,
               p.id, p.team_id, p.slug, p.human_key, p.description, p.created_at,
               h.id, h.team_id, h.slug, h.human_key, h.description, h.created_at,
               m.id AS message_id, m.thread_id, t.key, m.subject, m.priority,
               (SELECT true FROM blocks b WHERE b.agent_id = a.id LIMIT 1) IS NOT NULL AS has_blocks
        FROM unnest($2::bigint[]) AS wanted (message_id)
        JOIN messages m ON m.id = wanted.message_id
        JOIN projects h ON h.id = m.project_id AND h.deleted_at IS NULL
        JOIN threads t ON t.id = m.thread_id
        JOIN agents a ON a.id = m.sender_id
        LEFT JOIN projects p ON p.id = a.project_id AND a.project_id <> m.project_id
        WHERE m.team_id = $1
        """,
        team_id,
        message_ids,
    )
    blockers.update(AgentId(row[0]) for row in (*recipient_rows, *rows) if row["has_blocks"])
    homes = {row["message_id"]: ProjectRecord(*row[17:23]) for row in rows}
    recipients: dict[MessageId, list[tuple[Actor, RecipientKind]]] = {message_id: [] for message_id in homes}
    for row in recipient_rows:
        if row["message_id"] in homes:
            recipient = _actor(row, homes[row["message_id"]]), RECIPIENT_KINDS[row["kind"]]
            recipients[row["message_id"]].append(recipient)
    return {
        row["message_id"]: Parent(
            id=row["message_id"],
            project=homes[row["message_id"]],
            thread_id=row["thread_id"],
            thread_key=row["key"],
            subject=row["subject"],
            priority=PRIORITY_WORDS[row["priority"]],
            sender=_actor(row, homes[row["message_id"]]),
            recipients=tuple(recipients[row["message_id"]]),
        )
        for row in rows
    }


def _actor(row: Row, home: ProjectRecord) -> Actor:
    """The agent and then its project, which is `home` when it was not read."""
    agent = AgentRecord(*row[:AGENT_FIELDS])
    project = row[AGENT_FIELDS : AGENT_FIELDS + _PROJECT_FIELDS]
    return Actor(home if project[0] is None else ProjectRecord(*project), agent)


async def _thread(db: Statements, project: ProjectRecord, key: str, sender_id: AgentId) -> ForeignThread | None:
    row = await db.row(
        """
        SELECT t.id, t.key,
               EXISTS (SELECT FROM thread_participants p WHERE p.thread_id = t.id AND p.agent_id = $3) AS is_party
        FROM threads t WHERE t.project_id = $1 AND t.key_lower = lower($2 COLLATE "C")
        """,
        project.id,
        key,
        sender_id,
    )
    return ForeignThread(row["id"], project, row["key"], row["is_party"]) if row is not None else None
