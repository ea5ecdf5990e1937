"""The errors that operations answer with: their tree, and those of no noun with a file of its own (`*_errors`).

    AgentMailError
    ├── Invalid          the caller's input cannot be right, whatever the state
    ├── Unauthenticated  no credential, or one that does not hold
    ├── Forbidden        known caller, not allowed
    ├── NotFound         no such thing, or none that this caller may see (the two look the same)
    ├── Conflict         right in itself, refused because of what is stored
    ├── Gone             was right once
    ├── TooLarge         over a stated limit
    ├── Limited          too often
    └── Unavailable      try again; nothing is known to have been stored

A class fixes `code`, which never changes meaning and is never reused, and inherits `kind`, which the transports map to
a status. Facts go into `data`; `data["suggestion"]`, by default that of `SUGGESTIONS`, says what to call next. The
docstring is the default message.
"""

import inspect
from typing import Any, ClassVar

from agent_mail_core.error_suggestions import SUGGESTIONS


class AgentMailError(Exception):
    """The operation failed."""

    kind: ClassVar[str] = "internal"
    code: ClassVar[str] = "internal"

    def __init__(self, message: str | None = None, **data: Any) -> None:
        super().__init__(message or inspect.getdoc(type(self)) or self.code)
        self.data: dict[str, Any] = {key: value for key, value in data.items() if value is not None}
        self.data.setdefault("suggestion", SUGGESTIONS[self.code])

    @property
    def message(self) -> str:
        """One sentence for the caller."""
        return str(self.args[0])


class Invalid(AgentMailError):
    """The request is not valid."""

    kind = "invalid"
    code = "invalid_arguments"


class Unauthenticated(AgentMailError):
    """A valid credential is needed: send it as `Authorization: Bearer …`."""

    kind = "unauthenticated"
    code = "unauthenticated"


class Forbidden(AgentMailError):
    """This credential does not allow that."""

    kind = "forbidden"
    code = "forbidden"


class NotFound(AgentMailError):
    """There is no such thing here."""

    kind = "not_found"
    code = "not_found"


class Conflict(AgentMailError):
    """What is stored does not allow that."""

    kind = "conflict"
    code = "conflict"


class Gone(AgentMailError):
    """That is no longer valid."""

    kind = "gone"
    code = "gone"


class TooLarge(AgentMailError):
    """The request is larger than this server accepts."""

    kind = "too_large"
    code = "too_large"


class Limited(AgentMailError):
    """Too many requests: wait, then try again."""

    kind = "limited"
    code = "rate_limited"


class Unavailable(AgentMailError):
    """The service cannot answer now; try again, with the same idempotency_key if it was a write."""

    kind = "unavailable"
    code = "unavailable"


# --- the request itself -----------------------------------------------------------------------------------------------


class MalformedRequest(Invalid):
    """The body is not valid JSON in UTF-8."""

    kind = "malformed"
    code = "malformed_request"


class InvalidCursor(Invalid):
    """This cursor does not belong to this list: start again without one."""

    code = "invalid_cursor"


class EmptyQuery(Invalid):
    """The query holds nothing that can be searched for."""

    code = "empty_query"


class ModeUnavailable(Invalid):
    """This search mode needs embeddings, which this server does not have: use mode=text."""

    code = "mode_unavailable"


class SearchTooWide(Invalid):
    """There is more mail here than a search by meaning looks through: name a project, or use mode=text."""

    code = "search_too_wide"


class MeaningUnavailable(Unavailable):
    """The embedding model does not answer now: try again, or use mode=text."""

    code = "meaning_unavailable"


class InvalidPath(Invalid):
    """This path or pattern cannot be used."""

    code = "invalid_path"


class UnknownOperation(NotFound):
    """There is no such operation."""

    code = "unknown_operation"


class MethodNotAllowed(Invalid):
    """This path does not take that method: the Allow header names those it takes."""

    kind = "method_not_allowed"
    code = "method_not_allowed"


class UnknownHost(Invalid):
    """The Host header names another server: add the name to ALLOWED_HOSTS if it is this one."""

    kind = "misdirected"
    code = "unknown_host"


class ForbiddenOrigin(Forbidden):
    """Pages of this origin may not call this server: add it to ALLOWED_ORIGINS if they should."""

    code = "forbidden_origin"


# --- projects and agents ----------------------------------------------------------------------------------------------


class ProjectNotFound(NotFound):
    """No such project: list_projects shows those there are, ensure_project makes one."""

    code = "project_not_found"


class SlugTaken(Conflict):
    """Another project goes by this name, as its slug or its human_key: choose another slug or human_key."""

    code = "slug_taken"


class ProjectOnHold(Conflict):
    """This project is on legal hold, so nothing of it goes: set_legal_hold with on_hold=false lifts that."""

    code = "project_on_hold"


class AgentNotFound(NotFound):
    """No such agent in this project: list_agents shows those there are."""

    code = "agent_not_found"


class AgentNameTaken(Conflict):
    """Another principal registered this name: choose another, or leave name out to be given one."""

    code = "agent_name_taken"


class AgentNotYours(Forbidden):
    """That agent belongs to another principal: only the one that registered it may act as it."""

    code = "agent_not_yours"


class AgentRetired(Conflict):
    """That agent is retired: register_agent with its name brings it back."""

    code = "agent_retired"


class ProductNotFound(NotFound):
    """No such product: list_products shows those there are, ensure_product makes one."""

    code = "product_not_found"


class ProductFull(Conflict):
    """This product has as many projects as one may have: unlink_project one, or make another product."""

    code = "product_full"


# --- contacts ---------------------------------------------------------------------------------------------------------


class ContactNotFound(NotFound):
    """That agent asked nothing of this one, or so long ago that it has expired."""

    code = "contact_not_found"


class ContactRefused(Forbidden):
    """That agent takes neither mail nor requests from this one; asking again will not help."""

    code = "contact_refused"


class ContactBlocked(Conflict):
    """This agent blocked that one: unblock_contact first."""

    code = "contact_blocked"


class InvalidContact(Invalid):
    """An agent cannot be its own contact, nor that of Overseer or System, which need none."""

    code = "invalid_contact"


# --- messages ---------------------------------------------------------------------------------------------------------


class MessageNotFound(NotFound):
    """No such message."""

    code = "message_not_found"


class ThreadNotFound(NotFound):
    """No such thread in this project: list_threads shows those there are."""

    code = "thread_not_found"


class RecipientsUnknown(NotFound):
    """Nothing was sent: some recipients do not exist. `data.recipients` names each problem."""

    code = "recipients_unknown"


class RecipientsRefused(Forbidden):
    """Nothing was sent: some recipients cannot be written to. `data.recipients` names each problem."""

    code = "recipients_refused"

    missing: tuple[tuple[Any, Any], ...] = ()
    """Sender and recipient where a contact is required and may be asked for (`agents.Actor`s); not for the caller."""


class ContactRequired(RecipientsRefused):
    """Nothing was sent: the recipients have been asked (`data.contact_ids`). Send again once they have accepted."""

    code = "contact_required"


class NoRecipients(Invalid):
    """Nothing was sent: nobody is left to send it to."""

    code = "no_recipients"

    missing: tuple[tuple[Any, Any], ...] = ()
    """As RecipientsRefused has it."""


class TooManyRecipients(Forbidden):
    """Nothing was sent: more agents are active than one broadcast may reach."""

    code = "too_many_recipients"


class DuplicateRecipient(Invalid):
    """Nothing was sent: somebody is named twice. Name each agent once over to, cc and bcc."""

    code = "duplicate_recipient"


class ThreadMismatch(Invalid):
    """parent_id belongs to another thread than thread_id: leave thread_id out, or give that thread."""

    code = "thread_mismatch"


class BccReplyAll(Forbidden):
    """You got this message as bcc: reply_all would reveal you. Reply to the sender, or send a new message."""

    code = "bcc_reply_all"


class NotARecipient(Forbidden):
    """That message was not sent to this agent."""

    code = "not_a_recipient"


class IdempotencyConflict(Conflict):
    """This idempotency_key was used within the last 24 hours for a request with other content."""

    code = "idempotency_conflict"


# --- the service ------------------------------------------------------------------------------------------------------


class CursorExpired(Gone):
    """This cursor is from before the database was restored: call check_inbox without a cursor."""

    code = "cursor_expired"


class TooManyWaiters(Limited):
    """Too many calls of this team are waiting: call again without waiting, or wait with fewer."""

    code = "too_many_waiters"


class TooManyStreams(Limited):
    """This principal holds too many event streams open: close one, or follow a project instead of each agent."""

    code = "too_many_streams"


class DatabaseUnavailable(Unavailable):
    """The database did not answer in time; try again, with the same idempotency_key if it was a write."""

    code = "unavailable"


class TransactionConflict(DatabaseUnavailable):
    """The transaction lost a race and was rolled back; it is safe to run it again."""


class Overloaded(Unavailable):
    """The server is overloaded and did not start this request; try again shortly."""

    code = "overloaded"


class ServerAlreadyRunning(Unavailable):
    """Another server holds this database, and without Redis there can be only one: stop it, or use another database."""

    code = "server_already_running"


class SchemaTooOld(Unavailable):
    """The database has not been migrated to the schema that this version needs: run `agent-mail migrate`."""

    code = "schema_too_old"


class RestoreUnfinished(Unavailable):
    """The database was restored into another PostgreSQL: stop all servers and run `agent-mail migrate --restored`."""

    code = "restore_unfinished"
