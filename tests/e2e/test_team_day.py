"""The day of a twelve-agent team: `loadtests.team_day` runs, on three workers; servers that break a promise end it."""

import json
import subprocess
import sys
from pathlib import Path

import apsw
import pytest

from loadtests import evening, team_day
from loadtests.staff import Day, Wrong
from tests.e2e.serving import ROOT, agent_mail, clean_environment, started
from tests.servers import free_port

BROKEN = {
    "wake-ups get lost": """
from agent_mail_cluster.memory import wakeups
async def publish(self, topics):
    pass
wakeups.MemoryWakeups.publish = publish
""",
    "a send is stored twice": """
from dataclasses import replace
from agent_mail_store.sqlite import store
deliver = store.SqliteStore.deliver
async def twice(self, send):
    await deliver(self, replace(send, idempotency_key=None))
    return await deliver(self, send)
store.SqliteStore.deliver = twice
""",
    "a wait shows once more what was seen": """
from agent_mail_store.sqlite import mailboxes
after = mailboxes.SqliteMailboxes.after
async def from_one_before(self, agent_id, position, *more):
    return await after(self, agent_id, max(position - 1, 0), *more)
mailboxes.SqliteMailboxes.after = from_one_before
""",
}
"""What is done to a server before it starts."""

FORGETFUL = {
    "a delivery is lost": (
        "AFTER INSERT ON deliveries WHEN NEW.position = 4",
        "DELETE FROM deliveries WHERE agent_id = NEW.agent_id AND position = NEW.position",
        "was due",
    ),
    "two hold one file": (
        "AFTER INSERT ON reservations WHEN NEW.pattern = 'src/hot.py'",
        "UPDATE reservations SET expires_at = granted_at WHERE id = NEW.id",
        "holders of one file",
    ),
    "a hand-off copies": (
        "AFTER UPDATE ON reservations WHEN NEW.release_kind = 'transferred'",
        "UPDATE reservations SET released_at = NULL, release_kind = NULL WHERE id = NEW.id",
        "kept by who handed over",
    ),
    "a reservation is left behind": (
        "AFTER INSERT ON events WHEN NEW.kind = 'reservation.released'",
        "UPDATE reservations SET released_at = NULL, release_kind = NULL WHERE pattern = 'src/hot.py'"
        " AND release_kind = 'released'",
        "reservations left in the shop",
    ),
    "several claim one review": (
        "AFTER UPDATE ON reviews WHEN NEW.claim_expires_at > NEW.claimed_at",
        "UPDATE reviews SET claim_expires_at = claimed_at WHERE id = NEW.id",
        "claims of one review",
    ),
    "an event tells something else": (
        "AFTER INSERT ON events WHEN NEW.kind = 'review.claimed'",
        "UPDATE events SET kind = 'review.requested' WHERE id = NEW.id",
        "review.requested: 2",
    ),
}
"""When a database loses what it was given, what it does then, and what ends the day."""


@pytest.mark.postgres
@pytest.mark.valkey
def test_the_day_ends_with_the_counts_that_it_should(tmp_path: Path) -> None:
    environment = clean_environment(tmp_path, {})
    ended = subprocess.run(
        [sys.executable, "-m", "loadtests.team_day"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    counts = json.loads(ended.stdout)
    assert counts["messages read back"] == evening.MAIL == 51
    assert counts["messages of the product"] == 22
    assert counts["holders of one file"] == counts["claims of one review"] == 1
    assert counts["holders of a slot for three"] == 3
    assert counts["woken by mail"] == 12
    assert counts["workers that took part"] == 3


async def test_the_day_ends_well_on_one_embedded_server_and_the_next_one_too(fresh_sqlite: str) -> None:
    first, second = await lived(fresh_sqlite, days=2)
    assert first == second
    assert first["messages read back"] == 51


@pytest.mark.parametrize("what", BROKEN)
async def test_a_server_that_breaks_its_word_ends_the_day(fresh_sqlite: str, what: str) -> None:
    wrong = await went_wrong(fresh_sqlite, BROKEN[what])
    assert ("nothing woke it" if what == "wake-ups get lost" else "woken") in wrong


@pytest.mark.parametrize("what", FORGETFUL)
async def test_a_database_that_loses_something_ends_the_day(fresh_sqlite: str, what: str) -> None:
    when, then, found = FORGETFUL[what]
    connection = apsw.Connection(fresh_sqlite.removeprefix("sqlite:///"))
    connection.execute(f"CREATE TRIGGER fault {when} BEGIN {then}; END")
    connection.close()
    assert found in await went_wrong(fresh_sqlite)


def test_a_count_that_is_not_due_ends_the_day() -> None:
    with pytest.raises(Wrong, match="2, and 1 were due"):
        Day("shop", "store", "Day", []).count("holders of one file", 2, 1)


async def lived(database_url: str, patch: str = "", days: int = 1) -> list[dict[str, int]]:
    """The counts of days on one server of its own."""
    command = [sys.executable, "-c", patch + agent_mail()[2], "serve"]
    port = free_port()
    settings = {"DATABASE_URL": database_url, "PORT": str(port), "LOG_LEVEL": "warning", "DRAIN_SECONDS": "0"}
    with started(command, port, settings) as server:
        return [await team_day.live([server.url], token="") for _ in range(days)]


async def went_wrong(database_url: str, patch: str = "") -> str:
    """What the day said when it ended too early."""
    with pytest.raises(ExceptionGroup) as raised:
        await lived(database_url, patch)
    [wrong] = team_day.leaves(raised.value)
    assert isinstance(wrong, Wrong)
    return str(wrong)
