"""One transaction by noun. The nouns keep nothing between calls, so each is made when asked for."""

from agent_mail_core.delivery import Delivered, Outgoing
from agent_mail_core.ports import Clock, Transaction
from agent_mail_store.sqlite.agents import SqliteAgents
from agent_mail_store.sqlite.archives import SqliteArchives
from agent_mail_store.sqlite.attachments import SqliteAttachments
from agent_mail_store.sqlite.build_slots import SqliteBuildSlots
from agent_mail_store.sqlite.contacts import SqliteContacts
from agent_mail_store.sqlite.delivery import deliver
from agent_mail_store.sqlite.embeddings import SqliteEmbeddings
from agent_mail_store.sqlite.events import SqliteEvents
from agent_mail_store.sqlite.idempotency import SqliteIdempotency
from agent_mail_store.sqlite.jobs import SqliteJobs
from agent_mail_store.sqlite.leases import SqliteLeases
from agent_mail_store.sqlite.mailboxes import SqliteMailboxes
from agent_mail_store.sqlite.message_search import SqliteMessageSearch
from agent_mail_store.sqlite.messages import SqliteMessages
from agent_mail_store.sqlite.products import SqliteProducts
from agent_mail_store.sqlite.project_deletion import SqliteProjectDeletions
from agent_mail_store.sqlite.project_export import SqliteProjectExports
from agent_mail_store.sqlite.projects import SqliteProjects
from agent_mail_store.sqlite.reservations import SqliteReservations
from agent_mail_store.sqlite.retention import SqliteRetention
from agent_mail_store.sqlite.reviews import SqliteReviews
from agent_mail_store.sqlite.statements import Statements
from agent_mail_store.sqlite.summaries import SqliteSummaries
from agent_mail_store.sqlite.sweeps import SqliteSweeps
from agent_mail_store.sqlite.threads import SqliteThreads
from agent_mail_store.sqlite.webhooks import SqliteWebhooks
from agent_mail_store.sqlite.writing import Writing


class SqliteTransaction(Transaction):
    """The nouns above one connection."""

    __slots__ = ("_clock", "_statements")

    def __init__(self, statements: Statements, clock: Clock) -> None:
        self._statements = statements
        self._clock = clock

    @property
    def projects(self) -> SqliteProjects:
        return SqliteProjects(self._statements, self._clock)

    @property
    def agents(self) -> SqliteAgents:
        return SqliteAgents(self._statements, self._clock)

    @property
    def contacts(self) -> SqliteContacts:
        return SqliteContacts(self._statements, self._clock)

    @property
    def messages(self) -> SqliteMessages:
        return SqliteMessages(self._statements)

    @property
    def mailboxes(self) -> SqliteMailboxes:
        return SqliteMailboxes(self._statements, self._clock)

    @property
    def threads(self) -> SqliteThreads:
        return SqliteThreads(self._statements)

    @property
    def message_search(self) -> SqliteMessageSearch:
        return SqliteMessageSearch(self._statements)

    @property
    def events(self) -> SqliteEvents:
        return SqliteEvents(self._statements, self._clock)

    @property
    def idempotency(self) -> SqliteIdempotency:
        return SqliteIdempotency(self._statements, self._clock)

    @property
    def products(self) -> SqliteProducts:
        return SqliteProducts(self._statements, self._clock)

    @property
    def attachments(self) -> SqliteAttachments:
        return SqliteAttachments(self._statements, self._clock)

    @property
    def project_deletions(self) -> SqliteProjectDeletions:
        return SqliteProjectDeletions(self._statements, self._clock)

    @property
    def project_exports(self) -> SqliteProjectExports:
        return SqliteProjectExports(self._statements)

    @property
    def jobs(self) -> SqliteJobs:
        return SqliteJobs(self._statements, self._clock)

    @property
    def sweeps(self) -> SqliteSweeps:
        return SqliteSweeps(self._statements, self._clock)

    @property
    def leases(self) -> SqliteLeases:
        return SqliteLeases(self._statements, self._clock)

    @property
    def reservations(self) -> SqliteReservations:
        return SqliteReservations(self._statements, self._clock)

    @property
    def build_slots(self) -> SqliteBuildSlots:
        return SqliteBuildSlots(self._statements, self._clock)

    @property
    def reviews(self) -> SqliteReviews:
        return SqliteReviews(self._statements, self._clock)

    @property
    def summaries(self) -> SqliteSummaries:
        return SqliteSummaries(self._statements, self._clock)

    @property
    def retention(self) -> SqliteRetention:
        return SqliteRetention(self._statements, self._clock)

    @property
    def archives(self) -> SqliteArchives:
        return SqliteArchives(self._statements, self._clock)

    @property
    def webhooks(self) -> SqliteWebhooks:
        return SqliteWebhooks(self._statements, self._clock)

    @property
    def embeddings(self) -> SqliteEmbeddings:
        return SqliteEmbeddings(self._statements, self._clock)

    async def deliver(self, send: Outgoing) -> Delivered:
        if not isinstance(self._statements, Writing):
            raise RuntimeError("a change inside store.read()")
        return deliver(self._statements, self._clock, send)
