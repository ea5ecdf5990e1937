"""Delivering a message in SQLite: the facts that the rule needs, then every row of it, in one savepoint of the writer.

Nothing here awaits: the writer calls it when its turn has come, and no other transaction runs until it returns.
"""

from dataclasses import replace

from agent_mail_core.deciding import decide
from agent_mail_core.delivery import Delivered, OpenPairs, Outgoing, SentMessage
from agent_mail_core.ports import Clock
from agent_mail_store.sqlite.contacts import acquaintances
from agent_mail_store.sqlite.delivery_facts import facts_of
from agent_mail_store.sqlite.delivery_rows import store_message
from agent_mail_store.sqlite.writing import Writing


def deliver(statements: Writing, clock: Clock, send: Outgoing) -> Delivered:
    """Decide the send and store what was decided. Raises what `decide` raises."""
    now = clock.microseconds()
    facts = facts_of(statements, send, now)
    decided = decide(send, facts)
    if isinstance(decided, OpenPairs):
        decided = decide(send, replace(facts, known=acquaintances(statements, decided.pairs, now)))
    assert not isinstance(decided, OpenPairs)
    if isinstance(decided, SentMessage):
        return Delivered(decided)
    return store_message(statements, decided, now)
