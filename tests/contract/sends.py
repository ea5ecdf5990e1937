"""Sends as the store gets them, for tests below the use cases."""

from collections.abc import Iterable
from typing import Any

from agent_mail_core.agents import AgentRecord, NewAgent
from agent_mail_core.delivery import Outgoing
from agent_mail_core.ids import Principal, TeamId
from agent_mail_core.ports import Store
from agent_mail_core.projects import ProjectRecord
from agent_mail_core.search_text import index_text
from agent_mail_core.slugs import project_slug

TEAM = TeamId(1)
LOCAL = Principal("local")


def a_send(project: str, sender: str, to: Iterable[str] = (), **more: Any) -> Outgoing:
    """A send with defaults for what is dull; `more` are fields of Outgoing."""
    body = more.pop("body_md", "How are you?")
    fields: dict[str, Any] = {
        "team_id": TEAM,
        "principal": LOCAL,
        "is_admin": False,
        "operation": "send_message",
        "project_ref": project,
        "sender_name": sender,
        "to": tuple(to),
        "cc": (),
        "bcc": (),
        "subject": "Hello",
        "body_md": body,
        "body_index": index_text("", body),
        "thread_key": None,
        "parent_id": None,
        "reply_all": False,
        "priority": "normal",
        "ack_required": False,
        "allow_partial": False,
        "idempotency_key": None,
        "fingerprint": b"fingerprint",
        **more,
    }
    return Outgoing(**fields)


async def a_project(store: Store, key: str, *names: str) -> tuple[ProjectRecord, dict[str, AgentRecord]]:
    """A project with these agents, made if it is new."""
    async with store.write() as db:
        project, _ = await db.projects.ensure(TEAM, key, [project_slug(key)], False, None)
        new = NewAgent(TEAM, project.id, LOCAL, "shell", "m-1", None, None)
        agents = {name: (await db.agents.register(name, new, False))[0] for name in names}
    return project, agents
