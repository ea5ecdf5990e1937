"""What a use case may ask of the world: the caller it acts for, and the ports behind `App`.

Adapters implement the protocols; `main.py` of a service builds them. The protocols of the store live with their nouns
(`projects.Projects`, `agents.Agents`, …); `Transaction` gathers them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Protocol

from agent_mail_core.ids import AgentId, Principal, TeamId
from agent_mail_core.job_queue import JobQueue, NoJobQueue

if TYPE_CHECKING:
    from datetime import datetime

    from agent_mail_core.agents import Agents
    from agent_mail_core.archive import Archive, ArchiveReader, Archives
    from agent_mail_core.attachments import Attachments
    from agent_mail_core.build_slots import BuildSlots
    from agent_mail_core.contacts import Contacts
    from agent_mail_core.delivery import Delivered, Outgoing
    from agent_mail_core.embeddings import Embeddings
    from agent_mail_core.events import Events
    from agent_mail_core.health import MetricsSnapshot
    from agent_mail_core.idempotency import Idempotency
    from agent_mail_core.jobs import Jobs
    from agent_mail_core.leases import Leases
    from agent_mail_core.limits import Limits
    from agent_mail_core.mailboxes import Mailboxes
    from agent_mail_core.message_search import MessageSearch
    from agent_mail_core.messages import Messages
    from agent_mail_core.outbound import Outbound
    from agent_mail_core.products import Products
    from agent_mail_core.project_deletion import ProjectDeletions
    from agent_mail_core.project_export import ProjectExports
    from agent_mail_core.projects import Projects
    from agent_mail_core.query_vectors import QueryVectors
    from agent_mail_core.replies import Replies
    from agent_mail_core.reservations import Reservations
    from agent_mail_core.retention import Retention
    from agent_mail_core.reviews import Reviews
    from agent_mail_core.sessions import Sessions
    from agent_mail_core.settings import Settings
    from agent_mail_core.signals import Signals
    from agent_mail_core.stream_log import StreamLog
    from agent_mail_core.subscriptions import Subscriptions
    from agent_mail_core.summaries import Summaries, Summarizer
    from agent_mail_core.sweeps import Sweeps
    from agent_mail_core.threads import Threads
    from agent_mail_core.webhooks import Webhooks


class Role(IntEnum):
    """What a credential may do; each includes those before it."""

    reader = 1
    writer = 2
    overseer = 3
    admin = 4


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks. Made in one place of the server, from the credential alone."""

    team_id: TeamId
    principal: Principal
    role: Role
    request_id: str
    counts_for: str | None = None
    """Whose calls its calls count among: a principal, or a client's address; None: they are not limited."""


class Transaction(Protocol):
    """One transaction of the store, by noun. Inside it only the store is awaited."""

    @property
    def projects(self) -> Projects: ...
    @property
    def agents(self) -> Agents: ...
    @property
    def contacts(self) -> Contacts: ...
    @property
    def messages(self) -> Messages: ...
    @property
    def mailboxes(self) -> Mailboxes: ...
    @property
    def threads(self) -> Threads: ...
    @property
    def message_search(self) -> MessageSearch: ...
    @property
    def events(self) -> Events: ...
    @property
    def idempotency(self) -> Idempotency: ...
    @property
    def leases(self) -> Leases: ...
    @property
    def jobs(self) -> Jobs: ...
    @property
    def sweeps(self) -> Sweeps: ...
    @property
    def reservations(self) -> Reservations: ...
    @property
    def build_slots(self) -> BuildSlots: ...
    @property
    def reviews(self) -> Reviews: ...
    @property
    def attachments(self) -> Attachments: ...
    @property
    def project_deletions(self) -> ProjectDeletions: ...
    @property
    def project_exports(self) -> ProjectExports: ...
    @property
    def products(self) -> Products: ...
    @property
    def archives(self) -> Archives: ...
    @property
    def summaries(self) -> Summaries: ...
    @property
    def retention(self) -> Retention: ...
    @property
    def webhooks(self) -> Webhooks: ...
    @property
    def embeddings(self) -> Embeddings: ...

    async def deliver(self, send: Outgoing) -> Delivered:
        """Decide one send with `deciding.decide` and store it as a part of this transaction.

        Raises what `decide` raises, having stored nothing of the send. Take no lock of DESIGN 5's order before it
        that comes after the idempotency key. What is a send alone goes through `Store.deliver`, which shares commits.
        """
        ...


@dataclass(frozen=True, slots=True)
class StoreIdentity:
    """Facts that a database carries for its whole life.

    `epoch` changes when it is restored or promoted, so that inbox cursors from before expire. `cursor_key` is the
    secret that all workers sign cursors with.
    """

    epoch: str
    cursor_key: bytes


class Store(Protocol):
    """The database. Every method raises `DatabaseUnavailable` when it is away, locked or past its deadline."""

    @property
    def identity(self) -> StoreIdentity:
        """Read once when the store was opened."""
        ...

    @property
    def engine(self) -> str:
        """`sqlite` or `postgres`, for people and metrics only: no rule asks it."""
        ...

    def read(self) -> AbstractAsyncContextManager[Transaction]:
        """Reading only. Each method call sees one consistent state; two calls may see two. Never waits for a writer."""
        ...

    def write(self) -> AbstractAsyncContextManager[Transaction]:
        """One atomic, durable transaction: leaving the block commits, an exception rolls back.

        No answer, not even the block's own exception, leaves before the commit that it rests on is durable. Nesting
        raises RuntimeError. A lost race raises `TransactionConflict`: nothing was stored, run the use case again.
        Once the block has begun, cancellation does not undo it.
        """
        ...

    async def deliver(self, send: Outgoing) -> Delivered:
        """Decide one send with `deciding.decide` and store it, in a transaction that other sends may share.

        Atomic and durable like `write`. Message, deliveries, positions, counters, thread, text index, idempotency
        record, event and outbox row are committed together. Positions of one mailbox become visible in order. Raises
        what `deciding.decide` raises, having stored nothing.
        """
        ...

    async def check(self) -> None:
        """Return when the database answers and its schema serves this version.

        Else `DatabaseUnavailable` or `SchemaTooOld`.
        """
        ...

    async def close(self) -> None:
        """Finish what runs, then let go of every connection."""
        ...


class Wakeups(Protocol):
    """Tells waiting calls, on whichever worker, that a topic has news.

    May lose any of it: waiters look again by themselves.
    """

    def subscribe(self, topic: str) -> AbstractAsyncContextManager[Wakeup]:
        """Listen to a topic: what is published after the block was entered wakes it."""
        ...

    async def publish(self, topics: Iterable[str]) -> None:
        """Wake everyone who listens to one of the topics. Call it after the commit; never raises."""
        ...


class Wakeup(Protocol):
    """One listener's view of its topic."""

    async def wait(self, timeout: float) -> bool:
        """True when the topic was published since the last call, or is within `timeout` seconds; else False."""
        ...


class Presence(Protocol):
    """Remembers when agents were last active.

    Writes it in batches, outside request transactions, at most every 30 s each.
    """

    def saw(self, agent_id: AgentId) -> None:
        """The agent made a call, or still waits or streams."""
        ...

    def last_seen(self, agent_id: AgentId) -> datetime | None:
        """When this worker last saw it, if that is not in the database yet."""
        ...


class Waiters(Protocol):
    """Bounds how many calls of a team wait at a time."""

    def place(self, team_id: TeamId) -> AbstractAsyncContextManager[None]:
        """Hold a place while waiting; `TooManyWaiters` when there is none."""
        ...


class Metrics(Protocol):
    """Counters of the whole service."""

    def snapshot(self) -> MetricsSnapshot:
        """The figures as the metrics operation answers them."""
        ...


class Clock(Protocol):
    """Time, see `clock.SystemClock`."""

    def now(self) -> datetime: ...
    def microseconds(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Dependency:
    """A part that `ready` asks beside the database: its name, and how to ask it. Without it the service is degraded."""

    name: str
    check: Callable[[], Awaitable[None]]
    """Returns when the part answers; else raises AgentMailError."""


@dataclass(frozen=True, slots=True)
class App:
    """Everything that a use case may ask of the world."""

    store: Store
    wakeups: Wakeups
    presence: Presence
    waiters: Waiters
    sessions: Sessions
    signals: Signals
    replies: Replies
    stream_log: StreamLog
    subscriptions: Subscriptions
    limits: Limits
    metrics: Metrics
    clock: Clock
    settings: Settings
    version: str
    started_at: datetime
    is_draining: Callable[[], bool]
    """Whether calls that wait, and streams, end now."""
    is_leaving: Callable[[], bool] = lambda: False
    """Whether new requests should be sent elsewhere."""
    is_database_away: Callable[[], bool] = lambda: False
    """Whether a call that needs the database would wait in vain."""
    dependencies: Sequence[Dependency] = ()
    jobs: JobQueue = field(default_factory=NoJobQueue)
    """Tells job workers that there is work; the work itself is `Transaction.jobs`."""
    archive: Archive | None = None
    """The git repositories; None where this process keeps none."""
    archive_reader: ArchiveReader | None = None
    """Who looks into them for operations, where that is not `archive`: a server of a cluster asks a job worker."""
    summarizer: Summarizer | None = None
    """Makes summaries; None where no jobs are done."""
    outbound: Outbound | None = None
    """Calls addresses outside; None where nobody does."""
    query_vectors: QueryVectors | None = None
    """Makes vectors of queries with the model that mail is embedded with; None without a model."""
    long_turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held by the one long computation that takes its slice of the event loop."""


INBOX = "inbox:"


def inbox_topic(agent_id: AgentId) -> str:
    """The wake-up topic of one agent's inbox."""
    return f"{INBOX}{agent_id}"


def inbox_of(topic: str) -> AgentId | None:
    """Whose inbox a wake-up topic is about; None for other topics."""
    return AgentId(int(topic[len(INBOX) :])) if topic.startswith(INBOX) else None


def inbox_topics(agent_ids: Sequence[AgentId]) -> list[str]:
    """The topics of several."""
    return [inbox_topic(agent_id) for agent_id in agent_ids]
