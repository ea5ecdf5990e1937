"""One transaction by noun. The nouns keep nothing between calls, so each is made when asked for."""

from agent_mail_core.ports import Clock, Transaction
from agent_mail_store.sqlite.agents import SqliteAgents
from agent_mail_store.sqlite.events import SqliteEvents
from agent_mail_store.sqlite.idempotency import SqliteIdempotency
from agent_mail_store.sqlite.mailboxes import SqliteMailboxes
from agent_mail_store.sqlite.message_search import SqliteMessageSearch
from agent_mail_store.sqlite.messages import SqliteMessages
from agent_mail_store.sqlite.products import SqliteProducts
from agent_mail_store.sqlite.projects import SqliteProjects
from agent_mail_store.sqlite.statements import Statements
from agent_mail_store.sqlite.threads import SqliteThreads


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
