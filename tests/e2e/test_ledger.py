"""A short round of the ledger: a cluster keeps what it acknowledges; and builds that do not are found out."""

import sys
from dataclasses import replace

import pytest

from loadtests.faults import FAULTS
from loadtests.ledger import Plan, run
from loadtests.verdict import Verdict
from tests.e2e.serving import agent_mail

SHORT = Plan(rounds=1, seconds=8, workers=2, writers=4, readers=3, rate=40)

BROKEN = {
    "commits that a crash forgets": """
from agent_mail_store.postgres import connections
durable = connections.connection_arguments
def forgetful(settings):
    arguments = durable(settings)
    arguments["server_settings"]["synchronous_commit"] = "off"
    return arguments
connections.connection_arguments = forgetful
""",
    "idempotency keys that are ignored": """
from agent_mail_core import deciding as core
from agent_mail_store.postgres import delivery_facts as store
core.idempotency_scope = store.idempotency_scope = lambda *ignored: None
""",
    "pages in another order": """
from agent_mail_store.postgres import mailboxes
after = mailboxes.PostgresMailboxes.after
async def shuffled(*arguments):
    found = await after(*arguments)
    found.items[:-1] = reversed(found.items[:-1])
    return found
mailboxes.PostgresMailboxes.after = shuffled
""",
}
"""What each does to a server before it starts."""


def all_found(plan: Plan) -> Verdict:
    """The counts of a round and of the last read-back, together."""
    rounds, found = run(plan)
    for each in rounds:
        assert each.acknowledged > 100
        found = found + each.verdict
    return found


def broken(what: str, *faults: str) -> Verdict:
    """What the ledger finds with such a server."""
    command = (sys.executable, "-c", BROKEN[what] + agent_mail()[2], "serve")
    return all_found(replace(SHORT, seconds=3, workers=1, faults=faults, command=command))


@pytest.mark.postgres
@pytest.mark.valkey
@pytest.mark.timeout(240)
def test_nothing_is_lost_doubled_or_out_of_order_whatever_fails() -> None:
    found = all_found(replace(SHORT, faults=tuple(FAULTS)))
    assert found.is_clean, found


@pytest.mark.postgres
@pytest.mark.valkey
def test_a_server_that_acknowledges_before_it_keeps_is_found_out() -> None:
    assert broken("commits that a crash forgets", "crash-postgres").lost > 0


@pytest.mark.postgres
@pytest.mark.valkey
def test_a_server_that_stores_a_retry_twice_is_found_out() -> None:
    found = broken("idempotency keys that are ignored")
    assert found.unreplayed > 0
    assert found.duplicated > 0


@pytest.mark.postgres
@pytest.mark.valkey
def test_a_server_that_changes_the_order_is_found_out() -> None:
    found = broken("pages in another order")
    assert found.reordered > 0
    assert found.inconsistent > 0
