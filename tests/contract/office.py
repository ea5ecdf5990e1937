"""A project as one caller works in it, so that a test reads as what happens: `await office.send("Ann", ["Bob"])`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from agent_mail_core.agent_changes import RetireAgent, UpdateAgent, retire_agent, update_agent
from agent_mail_core.agent_details import AgentDetails, Whois, whois
from agent_mail_core.agents import Agent, AgentPage, AgentRecord, ListAgents, list_agents
from agent_mail_core.delivery import SentMessage
from agent_mail_core.ids import Principal, TeamId
from agent_mail_core.mailboxes import CheckInbox, Inbox, check_inbox
from agent_mail_core.marking import (
    Acknowledged,
    AcknowledgeMessage,
    MarkedRead,
    MarkRead,
    acknowledge_message,
    mark_read,
)
from agent_mail_core.message_search import SearchMessages, SearchPage, search_messages
from agent_mail_core.messages import GetMessage, ListOutbox, MessageDetails, MessagePage, get_message, list_outbox
from agent_mail_core.pending_acks import ListPendingAcks, PendingAckPage, list_pending_acks
from agent_mail_core.ports import App, Caller, Role
from agent_mail_core.project_details import GetProject, ProjectDetails, get_project
from agent_mail_core.projects import (
    EnsuredProject,
    EnsureProject,
    ListProjects,
    ProjectPage,
    ensure_project,
    list_projects,
)
from agent_mail_core.registering import (
    AgentNames,
    RegisterAgent,
    RegisteredAgent,
    SuggestAgentNames,
    register_agent,
    suggest_agent_names,
)
from agent_mail_core.sending import ReplyMessage, SendMessage, reply_message, send_message
from agent_mail_core.threads import GetThread, ListThreads, ThreadMessages, ThreadPage, get_thread, list_threads
from agent_mail_core.waiting import WaitedMessages, WaitForMessages, wait_for_messages
from agent_mail_server.operations import BY_NAME

T = TypeVar("T")
TEAM = TeamId(1)


def caller(principal: str = "local", role: Role = Role.writer, team_id: TeamId = TEAM) -> Caller:
    """Who asks."""
    return Caller(team_id, Principal(principal), role, "test")


@dataclass(frozen=True)
class Office:
    """Each method calls the use case of that name for `caller` in the project `slug`; what is dull has defaults."""

    app: App
    caller: Caller
    slug: str

    def of(self, principal: str, role: Role = Role.writer, team_id: TeamId | None = None) -> Office:
        """The same project, asked by somebody else."""
        return replace(self, caller=caller(principal, role, team_id or self.caller.team_id))

    def at(self, app: App) -> Office:
        """The same project on another worker."""
        return replace(self, app=app)

    async def call(self, operation: str, **arguments: Any) -> Any:
        """An operation by its name, with its arguments and nothing by default."""
        row = BY_NAME[operation]
        return await row.use_case(self.app, self.caller, row.request_type(**arguments))

    async def ensure(self, human_key: str, **more: Any) -> EnsuredProject:
        return await ensure_project(self.app, self.caller, EnsureProject(human_key=human_key, **more))

    async def projects(self, **more: Any) -> ProjectPage:
        return await list_projects(self.app, self.caller, ListProjects(**more))

    async def project(self) -> ProjectDetails:
        return await get_project(self.app, self.caller, GetProject(project_slug=self.slug))

    async def register(self, name: str | None = None, **more: Any) -> RegisteredAgent:
        fields = {"project_slug": self.slug, "program": "shell", "model": "m-1", "name": name, **more}
        return await register_agent(self.app, self.caller, RegisterAgent(**fields))

    async def agents(self, **more: Any) -> AgentPage:
        return await list_agents(self.app, self.caller, ListAgents(project_slug=self.slug, **more))

    async def whois(self, name: str) -> AgentDetails:
        return await whois(self.app, self.caller, Whois(project_slug=self.slug, agent_name=name))

    async def update(self, name: str, **more: Any) -> Agent:
        return await update_agent(self.app, self.caller, UpdateAgent(project_slug=self.slug, agent_name=name, **more))

    async def retire(self, name: str) -> Agent:
        return await retire_agent(self.app, self.caller, RetireAgent(project_slug=self.slug, agent_name=name))

    async def suggest(self, **more: Any) -> AgentNames:
        return await suggest_agent_names(self.app, self.caller, SuggestAgentNames(project_slug=self.slug, **more))

    async def send(self, sender: str, to: Iterable[str] = (), **more: Any) -> SentMessage:
        """Give `cc`, `bcc` and `body` as short names of the fields."""
        fields: dict[str, Any] = {
            "project_slug": self.slug,
            "sender_name": sender,
            "recipient_names": list(to),
            "cc_names": list(more.pop("cc", ())),
            "bcc_names": list(more.pop("bcc", ())),
            "subject": "Hello",
            "body_md": more.pop("body", "How are you?"),
            **more,
        }
        return await send_message(self.app, self.caller, SendMessage(**fields))

    async def reply(self, sender: str, message_id: int, **more: Any) -> SentMessage:
        fields: dict[str, Any] = {"body_md": "Fine.", **more}
        return await reply_message(
            self.app,
            self.caller,
            ReplyMessage(project_slug=self.slug, sender_name=sender, message_id=message_id, **fields),
        )

    async def get(self, message_id: int, agent_name: str | None = None, **more: Any) -> MessageDetails:
        request = GetMessage(message_id=message_id, agent_name=agent_name, **more)
        return await get_message(self.app, self.caller, request)

    async def outbox(self, agent_name: str, **more: Any) -> MessagePage:
        return await list_outbox(
            self.app, self.caller, ListOutbox(project_slug=self.slug, agent_name=agent_name, **more)
        )

    async def inbox(self, agent_name: str, **more: Any) -> Inbox:
        return await check_inbox(
            self.app, self.caller, CheckInbox(project_slug=self.slug, agent_name=agent_name, **more)
        )

    async def wait(self, agent_name: str, **more: Any) -> WaitedMessages:
        return await wait_for_messages(
            self.app, self.caller, WaitForMessages(project_slug=self.slug, agent_name=agent_name, **more)
        )

    async def mark_read(self, agent_name: str, *message_ids: int) -> MarkedRead:
        request = MarkRead(project_slug=self.slug, agent_name=agent_name, message_ids=list(message_ids))
        return await mark_read(self.app, self.caller, request)

    async def acknowledge(self, agent_name: str, message_id: int) -> Acknowledged:
        request = AcknowledgeMessage(project_slug=self.slug, agent_name=agent_name, message_id=message_id)
        return await acknowledge_message(self.app, self.caller, request)

    async def pending(self, agent_name: str | None = None, **more: Any) -> PendingAckPage:
        return await list_pending_acks(
            self.app, self.caller, ListPendingAcks(project_slug=self.slug, agent_name=agent_name, **more)
        )

    async def search(self, query: str, **more: Any) -> SearchPage:
        """In this project; elsewhere with `project_slug`, everywhere with `project_slug=None`."""
        fields = {"project_slug": self.slug, **more}
        return await search_messages(self.app, self.caller, SearchMessages(query=query, **fields))

    async def threads(self, **more: Any) -> ThreadPage:
        return await list_threads(self.app, self.caller, ListThreads(project_slug=self.slug, **more))

    async def thread(self, thread_id: str, **more: Any) -> ThreadMessages:
        return await get_thread(self.app, self.caller, GetThread(project_slug=self.slug, thread_id=thread_id, **more))

    async def record(self, name: str) -> AgentRecord:
        """The agent as the store has it."""
        async with self.app.store.read() as db:
            _, agent = await db.agents.find(TEAM, self.slug, name)
        assert agent is not None
        return agent


async def pages(ask: Callable[..., Awaitable[T]], **arguments: Any) -> AsyncIterator[T]:
    """The pages of a list, to the end; a list that does not end within 200 pages fails."""
    cursor: str | None = None
    for _ in range(200):
        page = await ask(cursor=cursor, **arguments)
        yield page
        cursor = getattr(page, "next_cursor")  # noqa: B009 - every page has it, no common class says so
        if cursor is None:
            return
    raise AssertionError("the list has no end")


def subjects(messages: Iterable[Any]) -> list[str]:
    """The subjects of messages, hits or acknowledgements, in order."""
    return [message.subject for message in messages]


async def fill(office: Office, count: int, **more: Any) -> list[int]:
    """Messages S0, S1, … from Ann to Bob."""
    return [(await office.send("Ann", ["Bob"], subject=f"S{number}", **more)).message_id for number in range(count)]
