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

from agent_mail_core.acquiring import acquire_build_slot
from agent_mail_core.activity import list_activity
from agent_mail_core.agent_changes import retire_agent, transfer_agent, update_agent
from agent_mail_core.agent_details import whois
from agent_mail_core.agents import list_agents
from agent_mail_core.archive_reading import archive_log, archive_show
from agent_mail_core.attachments import add_attachment, get_attachment
from agent_mail_core.broadcasting import broadcast_message
from agent_mail_core.build_slots import list_slots
from agent_mail_core.contact_book import (
    add_contact,
    block_contact,
    list_contacts,
    respond_contact,
    set_contact_policy,
    unblock_contact,
)
from agent_mail_core.dead_jobs import drop_job, list_dead_jobs, retry_job
from agent_mail_core.fields import Request, Result
from agent_mail_core.hand_off import hand_off
from agent_mail_core.health import health, metrics, ready
from agent_mail_core.holding import force_release_file, release_file, renew_file
from agent_mail_core.legal_holds import list_legal_holds, set_legal_hold
from agent_mail_core.mailboxes import check_inbox
from agent_mail_core.marking import acknowledge_message, mark_read
from agent_mail_core.message_search import search_messages
from agent_mail_core.messages import get_message, list_outbox
from agent_mail_core.overseer import send_overseer_message
from agent_mail_core.path_checks import check_paths
from agent_mail_core.pending_acks import list_pending_acks
from agent_mail_core.ports import Role
from agent_mail_core.product_inbox import product_inbox
from agent_mail_core.products import ensure_product, link_project, list_products, unlink_project
from agent_mail_core.project_deletion import delete_project
from agent_mail_core.project_details import get_project
from agent_mail_core.project_export import export_project
from agent_mail_core.projects import ensure_project, list_projects
from agent_mail_core.registering import register_agent, suggest_agent_names
from agent_mail_core.reservations import list_reservations
from agent_mail_core.reserving import reserve_file
from agent_mail_core.review_requests import request_review
from agent_mail_core.reviewing import cancel_review, claim_review, complete_review
from agent_mail_core.reviews import get_review, list_reviews
from agent_mail_core.sending import reply_message, send_message
from agent_mail_core.session_start import start_session
from agent_mail_core.slot_holding import release_build_slot, renew_build_slot, set_slot_capacity
from agent_mail_core.summarizing import summarize_thread
from agent_mail_core.thread_preparation import prepare_thread
from agent_mail_core.threads import get_thread, list_threads
from agent_mail_core.waiting import wait_for_messages
from agent_mail_core.webhook_adding import add_webhook
from agent_mail_core.webhook_calls import list_webhook_deliveries, redeliver_webhook, test_webhook
from agent_mail_core.webhooks import list_webhooks, remove_webhook

UseCase = Callable[[Any, Any, Any], Awaitable[Result]]
READ, WRITE, OVERSEE, ADMINISTRATE = Role.reader, Role.writer, Role.overseer, Role.admin
WAIT_FIELDS = ("wait_seconds", "timeout_seconds")


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
    is_tool: bool = True
    """Over MCP too."""
    file_types: tuple[str, ...] = ()
    """REST answers with a file, of one of these media types, where MCP answers with JSON."""
    is_public: bool = False
    """Answers without a credential."""
    is_waiting: bool = False
    """May wait for long: no request deadline, and a stream on MCP."""
    is_repeatable: bool = False
    """A write that, called again with the same arguments, changes nothing more."""
    is_destructive: bool = False
    """A write that takes away what others have or count on: clients may ask their user first."""

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

    def waits(self, request: Request) -> bool:
        """Whether this call of it may wait for long: it is said by the time that the request is ready to wait."""
        if not self.is_waiting:
            return False
        seconds = [getattr(request, field) for field in WAIT_FIELDS if field in self.request_type.model_fields]
        return not seconds or seconds[0] > 0

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
    Operation(delete_project, ("DELETE /api/project/{project_slug}",), ADMINISTRATE, is_tool=False),
    # Agents
    Operation(register_agent, ("POST /api/agent/register",), WRITE, is_core=True),
    Operation(list_agents, ("GET /api/agent/list",), READ, is_core=True),
    Operation(whois, ("GET /api/agent/whois",), READ),
    Operation(update_agent, ("POST /api/agent/update",), WRITE, is_repeatable=True),
    Operation(retire_agent, ("POST /api/agent/retire",), WRITE, is_repeatable=True, is_destructive=True),
    Operation(transfer_agent, ("POST /api/agent/transfer",), ADMINISTRATE, is_repeatable=True, is_tool=False),
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
    Operation(summarize_thread, ("POST /api/thread/summarize",), READ, is_waiting=True),
    # Contacts
    Operation(add_contact, ("POST /api/contact/add",), WRITE, is_repeatable=True),
    Operation(respond_contact, ("POST /api/contact/respond",), WRITE, is_repeatable=True),
    Operation(list_contacts, ("GET /api/contact/list",), READ),
    Operation(block_contact, ("POST /api/contact/block",), WRITE, is_repeatable=True),
    Operation(unblock_contact, ("POST /api/contact/unblock",), WRITE, is_repeatable=True),
    Operation(set_contact_policy, ("POST /api/contact/policy",), WRITE, is_repeatable=True),
    # File reservations
    Operation(reserve_file, ("POST /api/file/reserve",), WRITE, is_core=True, is_waiting=True),
    Operation(release_file, ("POST /api/file/release",), WRITE, is_core=True, is_repeatable=True),
    Operation(renew_file, ("POST /api/file/renew",), WRITE),
    Operation(check_paths, ("POST /api/file/check", "GET /api/file/check"), READ),
    Operation(list_reservations, ("GET /api/file/list",), READ),
    Operation(force_release_file, ("POST /api/file/force-release",), WRITE, is_repeatable=True, is_destructive=True),
    # Build slots
    Operation(acquire_build_slot, ("POST /api/build/acquire",), WRITE, is_waiting=True),
    Operation(renew_build_slot, ("POST /api/build/renew",), WRITE),
    Operation(release_build_slot, ("POST /api/build/release",), WRITE, is_repeatable=True),
    Operation(list_slots, ("GET /api/build/list",), READ),
    Operation(set_slot_capacity, ("POST /api/build/capacity",), ADMINISTRATE, is_repeatable=True, is_tool=False),
    # Products
    Operation(ensure_product, ("POST /api/product/ensure",), WRITE, is_repeatable=True),
    Operation(link_project, ("POST /api/product/link",), WRITE, is_repeatable=True),
    Operation(unlink_project, ("POST /api/product/unlink",), WRITE, is_repeatable=True, is_destructive=True),
    Operation(product_inbox, ("GET /api/product/inbox",), READ),
    Operation(list_products, ("GET /api/product/list",), READ),
    # Sessions
    Operation(prepare_thread, ("POST /api/session/prepare-thread",), READ, is_waiting=True),
    # Working together
    Operation(start_session, ("POST /api/session/start",), WRITE, is_core=True),
    Operation(hand_off, ("POST /api/session/hand-off",), WRITE, status=201),
    Operation(request_review, ("POST /api/review/request",), WRITE, status=201),
    Operation(claim_review, ("POST /api/review/claim",), WRITE),
    Operation(complete_review, ("POST /api/review/complete",), WRITE),
    Operation(cancel_review, ("POST /api/review/cancel",), WRITE, is_repeatable=True, is_destructive=True),
    Operation(get_review, ("GET /api/review/get",), READ),
    Operation(list_reviews, ("GET /api/review/list",), READ),
    Operation(broadcast_message, ("POST /api/message/broadcast",), WRITE, status=201),
    Operation(send_overseer_message, ("POST /api/overseer/send",), OVERSEE, status=201, is_tool=False),
    # Files, activity, export
    Operation(add_attachment, ("POST /api/attachment/add",), WRITE, status=201),
    Operation(
        get_attachment, ("GET /api/attachment/{attachment_id}",), READ, file_types=("application/octet-stream", "*/*")
    ),
    Operation(list_activity, ("GET /api/activity/list",), READ),
    Operation(archive_log, ("GET /api/archive/log",), READ),
    Operation(archive_show, ("GET /api/archive/show",), READ),
    Operation(
        export_project,
        ("GET /api/project/{project_slug}/export",),
        READ,
        is_tool=False,
        file_types=("application/json", "text/markdown", "text/html", "text/csv"),
    ),
    # Webhooks
    Operation(add_webhook, ("POST /api/webhook/add",), ADMINISTRATE, status=201, is_tool=False),
    Operation(remove_webhook, ("POST /api/webhook/remove",), ADMINISTRATE, is_tool=False),
    Operation(list_webhooks, ("GET /api/webhook/list",), ADMINISTRATE, is_tool=False),
    Operation(list_webhook_deliveries, ("GET /api/webhook/deliveries",), ADMINISTRATE, is_tool=False),
    Operation(test_webhook, ("POST /api/webhook/test",), ADMINISTRATE, is_tool=False, is_waiting=True),
    Operation(redeliver_webhook, ("POST /api/webhook/redeliver",), ADMINISTRATE, is_tool=False, is_waiting=True),
    # Administration
    Operation(set_legal_hold, ("POST /api/admin/hold/set",), ADMINISTRATE, is_repeatable=True, is_tool=False),
    Operation(list_legal_holds, ("GET /api/admin/hold/list",), ADMINISTRATE, is_tool=False),
    Operation(list_dead_jobs, ("GET /api/admin/job/dead",), ADMINISTRATE, is_tool=False),
    Operation(retry_job, ("POST /api/admin/job/retry",), ADMINISTRATE, is_repeatable=True, is_tool=False),
    Operation(drop_job, ("POST /api/admin/job/drop",), ADMINISTRATE, is_repeatable=True, is_tool=False),
)

BY_NAME: dict[str, Operation] = {operation.name: operation for operation in OPERATIONS}
