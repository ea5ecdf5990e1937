"""The operations table: the whole system on one page.

A row names the use case, its REST routes and who may call it. REST routes, MCP tools, OpenAPI, and the docs table are
derived from here and from the use case itself: its name, its docstring, its request and result models.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, get_type_hints

from agent_mail_core.agents import (
    list_agents,
    register_agent,
    retire_agent,
    suggest_agent_names,
    update_agent,
    whois,
)
from agent_mail_core.fields import Request, Result
from agent_mail_core.health import health, metrics, ready
from agent_mail_core.mailboxes import acknowledge_message, check_inbox, mark_read
from agent_mail_core.message_search import search_messages
from agent_mail_core.messages import get_message, list_outbox
from agent_mail_core.pending_acks import list_pending_acks
from agent_mail_core.ports import Role
from agent_mail_core.product_inbox import product_inbox
from agent_mail_core.products import ensure_product, link_project, list_products, unlink_project
from agent_mail_core.project_details import get_project
from agent_mail_core.projects import ensure_project, list_projects
from agent_mail_core.sending import reply_message, send_message
from agent_mail_core.threads import get_thread, list_threads
from agent_mail_core.waiting import wait_for_messages

UseCase = Callable[[Any, Any, Any], Awaitable[Result]]
READ, WRITE = Role.reader, Role.writer


@dataclass(frozen=True)
class Operation:
    """One row. Role, rate budget and `readOnlyHint` follow `role`, never the HTTP method."""

    use_case: UseCase
    routes: tuple[str, ...]
    """`METHOD /path/{field}`; the first is the one that documents it."""
    role: Role
    status: int = 200
    is_core: bool = False
    """Also in the MCP endpoint's short list of tools."""
    is_public: bool = False
    """Answers without a credential."""
    is_waiting: bool = False
    """May wait for long: no request deadline, and a stream on MCP."""
    is_repeatable: bool = False
    """A write that, called again with the same arguments, changes nothing more."""

    @cached_property
    def name(self) -> str:
        """The use case's name: the tool's, and the operation's everywhere."""
        return str(self.use_case.__name__)

    @cached_property
    def title(self) -> str:
        """The name for people."""
        return self.name.replace("_", " ").capitalize()

    @cached_property
    def description(self) -> str:
        """What it is for, in a sentence or two."""
        return inspect.getdoc(self.use_case) or ""

    @cached_property
    def request_type(self) -> type[Request]:
        """Its arguments."""
        request: type[Request] = self._hints["request"]
        return request

    @cached_property
    def result_type(self) -> type[Result]:
        """Its answer."""
        result: type[Result] = self._hints["return"]
        return result

    @cached_property
    def _hints(self) -> dict[str, Any]:
        return get_type_hints(self.use_case)

    @property
    def is_write(self) -> bool:
        """Whether it changes anything."""
        return self.role > READ

    @cached_property
    def takes_key(self) -> bool:
        """Whether it takes an idempotency key."""
        return "idempotency_key" in self.request_type.model_fields

    @staticmethod
    def path_fields(route: str) -> list[str]:
        """The request fields that stand in a route's path."""
        return re.findall(r"\{(\w+)\}", route)


OPERATIONS: tuple[Operation, ...] = (
    # The server
    Operation(health, ("GET /health", "GET /api/health"), READ, is_public=True),
    Operation(ready, ("GET /ready", "GET /api/ready"), READ, is_public=True),
    Operation(metrics, ("GET /api/metrics",), READ),
    # Projects
    Operation(ensure_project, ("POST /api/project/ensure",), WRITE, is_core=True, is_repeatable=True),
    Operation(list_projects, ("GET /api/project/list",), READ),
    Operation(get_project, ("GET /api/project/{project_slug}",), READ),
    # Agents
    Operation(register_agent, ("POST /api/agent/register",), WRITE, is_core=True),
    Operation(list_agents, ("GET /api/agent/list",), READ, is_core=True),
    Operation(whois, ("GET /api/agent/whois",), READ),
    Operation(update_agent, ("POST /api/agent/update",), WRITE, is_repeatable=True),
    Operation(retire_agent, ("POST /api/agent/retire",), WRITE, is_repeatable=True),
    Operation(suggest_agent_names, ("GET /api/agent/names",), READ),
    # Mail
    Operation(send_message, ("POST /api/message/send",), WRITE, status=201, is_core=True),
    Operation(reply_message, ("POST /api/message/reply",), WRITE, status=201, is_core=True),
    Operation(check_inbox, ("GET /api/inbox",), READ, is_core=True),
    Operation(wait_for_messages, ("GET /api/inbox/wait",), READ, is_core=True, is_waiting=True),
    Operation(list_outbox, ("GET /api/outbox",), READ),
    Operation(mark_read, ("POST /api/message/read",), WRITE, is_core=True, is_repeatable=True),
    Operation(acknowledge_message, ("POST /api/message/acknowledge",), WRITE, is_core=True, is_repeatable=True),
    Operation(list_pending_acks, ("GET /api/message/pending-acks",), READ),
    Operation(search_messages, ("GET /api/message/search",), READ, is_core=True),
    Operation(get_message, ("GET /api/message/{message_id}",), READ, is_core=True),
    # Threads
    Operation(list_threads, ("GET /api/thread/list",), READ),
    Operation(get_thread, ("GET /api/thread/{thread_id}",), READ, is_core=True),
    # Products
    Operation(ensure_product, ("POST /api/product/ensure",), WRITE, is_repeatable=True),
    Operation(link_project, ("POST /api/product/link",), WRITE, is_repeatable=True),
    Operation(unlink_project, ("POST /api/product/unlink",), WRITE, is_repeatable=True),
    Operation(product_inbox, ("GET /api/product/inbox",), READ),
    Operation(list_products, ("GET /api/product/list",), READ),
)

BY_NAME: dict[str, Operation] = {operation.name: operation for operation in OPERATIONS}
