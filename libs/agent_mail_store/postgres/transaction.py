"""The nouns of one transaction, made when they are first asked for."""

from functools import cached_property

from agent_mail_core.delivery import Delivered, Outgoing
from agent_mail_core.errors import AgentMailError
from agent_mail_core.ports import Transaction
from agent_mail_store.postgres.agents import PostgresAgents
from agent_mail_store.postgres.archives import PostgresArchives
from agent_mail_store.postgres.attachments import PostgresAttachments
from agent_mail_store.postgres.build_slots import PostgresBuildSlots
from agent_mail_store.postgres.contacts import PostgresContacts
from agent_mail_store.postgres.delivery import Parcel, deliver_together
from agent_mail_store.postgres.embeddings import PostgresEmbeddings
from agent_mail_store.postgres.events import PostgresEvents
from agent_mail_store.postgres.idempotency import PostgresIdempotency
from agent_mail_store.postgres.jobs import PostgresJobs
from agent_mail_store.postgres.leases import PostgresLeases
from agent_mail_store.postgres.mailboxes import PostgresMailboxes
from agent_mail_store.postgres.message_search import PostgresMessageSearch, stored_body
from agent_mail_store.postgres.messages import PostgresMessages
from agent_mail_store.postgres.products import PostgresProducts
from agent_mail_store.postgres.project_deletion import PostgresProjectDeletions
from agent_mail_store.postgres.project_export import PostgresProjectExports
from agent_mail_store.postgres.projects import PostgresProjects
from agent_mail_store.postgres.reservations import PostgresReservations
from agent_mail_store.postgres.retention import PostgresRetention
from agent_mail_store.postgres.reviews import PostgresReviews
from agent_mail_store.postgres.statements import Statements
from agent_mail_store.postgres.summaries import PostgresSummaries
from agent_mail_store.postgres.sweeps import PostgresSweeps
from agent_mail_store.postgres.threads import PostgresThreads
from agent_mail_store.postgres.webhooks import PostgresWebhooks


class PostgresTransaction(Transaction):
    def __init__(self, db: Statements) -> None:
        self._db = db

    @cached_property
    def projects(self) -> PostgresProjects:
        return PostgresProjects(self._db)

    @cached_property
    def agents(self) -> PostgresAgents:
        return PostgresAgents(self._db)

    @cached_property
    def contacts(self) -> PostgresContacts:
        return PostgresContacts(self._db)

    @cached_property
    def messages(self) -> PostgresMessages:
        return PostgresMessages(self._db)

    @cached_property
    def mailboxes(self) -> PostgresMailboxes:
        return PostgresMailboxes(self._db)

    @cached_property
    def threads(self) -> PostgresThreads:
        return PostgresThreads(self._db)

    @cached_property
    def message_search(self) -> PostgresMessageSearch:
        return PostgresMessageSearch(self._db)

    @cached_property
    def events(self) -> PostgresEvents:
        return PostgresEvents(self._db)

    @cached_property
    def idempotency(self) -> PostgresIdempotency:
        return PostgresIdempotency(self._db)

    @cached_property
    def products(self) -> PostgresProducts:
        return PostgresProducts(self._db)

    @cached_property
    def attachments(self) -> PostgresAttachments:
        return PostgresAttachments(self._db)

    @cached_property
    def project_deletions(self) -> PostgresProjectDeletions:
        return PostgresProjectDeletions(self._db)

    @cached_property
    def project_exports(self) -> PostgresProjectExports:
        return PostgresProjectExports(self._db)

    @cached_property
    def jobs(self) -> PostgresJobs:
        return PostgresJobs(self._db)

    @cached_property
    def sweeps(self) -> PostgresSweeps:
        return PostgresSweeps(self._db)

    @cached_property
    def leases(self) -> PostgresLeases:
        return PostgresLeases(self._db)

    @cached_property
    def reservations(self) -> PostgresReservations:
        return PostgresReservations(self._db)

    @cached_property
    def build_slots(self) -> PostgresBuildSlots:
        return PostgresBuildSlots(self._db)

    @cached_property
    def reviews(self) -> PostgresReviews:
        return PostgresReviews(self._db)

    @cached_property
    def summaries(self) -> PostgresSummaries:
        return PostgresSummaries(self._db)

    @cached_property
    def retention(self) -> PostgresRetention:
        return PostgresRetention(self._db)

    @cached_property
    def archives(self) -> PostgresArchives:
        return PostgresArchives(self._db)

    @cached_property
    def webhooks(self) -> PostgresWebhooks:
        return PostgresWebhooks(self._db)

    @cached_property
    def embeddings(self) -> PostgresEmbeddings:
        return PostgresEmbeddings(self._db)

    async def deliver(self, send: Outgoing) -> Delivered:
        parcel = Parcel(send, stored_body(send.body_index))
        (outcome,) = await deliver_together(self._db, send.team_id, [parcel])
        if isinstance(outcome, AgentMailError):
            raise outcome
        return outcome
