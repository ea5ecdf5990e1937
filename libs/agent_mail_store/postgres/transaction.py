"""The nouns of one transaction, made when they are first asked for."""

from functools import cached_property

from agent_mail_core.ports import Transaction
from agent_mail_store.postgres.agents import PostgresAgents
from agent_mail_store.postgres.events import PostgresEvents
from agent_mail_store.postgres.idempotency import PostgresIdempotency
from agent_mail_store.postgres.mailboxes import PostgresMailboxes
from agent_mail_store.postgres.message_search import PostgresMessageSearch
from agent_mail_store.postgres.messages import PostgresMessages
from agent_mail_store.postgres.products import PostgresProducts
from agent_mail_store.postgres.projects import PostgresProjects
from agent_mail_store.postgres.statements import Statements
from agent_mail_store.postgres.threads import PostgresThreads


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
