"""The reads that requests ask together."""

from __future__ import annotations

from functools import partial

from agent_mail_store.postgres.agents import AgentQuestion, FoundAgent, find_together
from agent_mail_store.postgres.connections import Connections, Row
from agent_mail_store.postgres.grouped_reads import GroupedReads
from agent_mail_store.postgres.mailboxes import Order, PageQuestion, pages_together


class Together:
    """One of each kind, for all requests of this worker."""

    def __init__(self, connections: Connections) -> None:
        self.agents: GroupedReads[AgentQuestion, FoundAgent] = GroupedReads(connections, find_together)
        orders: tuple[Order, ...] = ("ASC", "DESC")
        self.pages: dict[Order, GroupedReads[PageQuestion, list[Row]]] = {
            order: GroupedReads(connections, partial(pages_together, order)) for order in orders
        }
