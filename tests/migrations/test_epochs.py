"""Beginning an epoch: what is ahead of its PostgreSQL comes before all that it will number, in its order."""

import pytest

from agent_mail_migrations.runner import begin_epoch
from tests.migrations.schemas import PostgresSchema, a_row_of_each, insert

EVENTS = 300


def next_id(schema: PostgresSchema) -> int:
    """The transaction id that the server gives out next."""
    return int(schema.run("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint")[0][0])


@pytest.fixture
def transplanted(fresh_postgres: str) -> PostgresSchema:
    """Events of far later transactions than the server's, the ids of every two of them crosswise."""
    schema = PostgresSchema(fresh_postgres)
    for table, row in a_row_of_each(schema).items():
        insert(schema, table, row)
    schema.run("DELETE FROM outbox")
    schema.run("DELETE FROM events")
    schema.run(
        f"""
        INSERT INTO events (id, xact, team_id, project_id, kind)
        SELECT 1001 + n - 2 * (n % 2), (7000000000 + 2 * n)::text::xid8, 7, 7, 'agent.updated'
        FROM generate_series(0, {EVENTS - 1}) AS n
        """
    )
    return schema


def in_order(schema: PostgresSchema) -> list[int]:
    """The events' ids, as followers get them."""
    return [row[0] for row in schema.run("SELECT id FROM events ORDER BY xact, id")]


async def test_events_keep_their_order_and_come_before_new_ones(transplanted: PostgresSchema) -> None:
    before = in_order(transplanted)
    assert before != sorted(before)
    await begin_epoch(transplanted.url)
    assert in_order(transplanted) == before
    highest = transplanted.run("SELECT xact::text::bigint FROM events ORDER BY xact DESC LIMIT 1")[0][0]
    assert highest < next_id(transplanted)


async def test_positions_stay_between_the_same_events(transplanted: PostgresSchema) -> None:
    """One at an event, one behind an event of the same transaction, one between transactions, one before all."""
    before = in_order(transplanted)
    transplanted.run("DELETE FROM webhook_deliveries")
    transplanted.run("DELETE FROM webhooks")
    positions = [(7000000000, before[0]), (7000000008, 5000), (7000000101, 0), (6999999999, 9), (7900000000, 0)]
    for number, (xact, event_id) in enumerate(positions):
        transplanted.run(
            "INSERT INTO webhooks (id, team_id, project_id, url, kinds, secret, position_xact, position_id)"
            f" VALUES ({100 + number}, 7, 7, 'https://a.test', '[]', 's', {xact}, {event_id})"
        )
    transplanted.run(f"UPDATE archives SET position_xact = 7000000004, position_id = {before[2]}")
    transplanted.run(f"INSERT INTO facts (name, value) VALUES ('events_forgotten', '[7000000006, {before[3]}]')")
    await begin_epoch(transplanted.url)
    behind = """
        SELECT (SELECT count(*) FROM events e WHERE (e.xact, e.id) > (x::bigint::text::xid8, i::bigint))
        FROM ({}) AS p (x, i)
    """
    of_webhooks = transplanted.run(behind.format("SELECT position_xact, position_id FROM webhooks ORDER BY id LIMIT 9"))
    assert [row[0] for row in of_webhooks] == [EVENTS - 1, EVENTS - 5, EVENTS - 51, EVENTS, 0]
    of_archive = transplanted.run(behind.format("SELECT position_xact, position_id FROM archives"))
    assert of_archive[0][0] == EVENTS - 3
    of_fact = "SELECT value::json ->> 0, value::json ->> 1 FROM facts WHERE name = 'events_forgotten'"
    assert transplanted.run(behind.format(of_fact))[0][0] == EVENTS - 4


async def test_ids_are_used_up_where_the_order_needs_more(transplanted: PostgresSchema) -> None:
    transplanted.run("DELETE FROM events")
    count = next_id(transplanted) + 2000
    transplanted.run(
        f"""
        INSERT INTO events (id, xact, team_id, project_id, kind)
        SELECT 9000000 - n, (7000000000 + n)::text::xid8, 7, 7, 'agent.updated' FROM generate_series(1, {count}) AS n
        """
    )
    before = in_order(transplanted)
    await begin_epoch(transplanted.url)
    assert in_order(transplanted) == before
    assert next_id(transplanted) > count


async def test_events_that_are_behind_stay_as_they_are(transplanted: PostgresSchema) -> None:
    transplanted.run("UPDATE events SET xact = '5' WHERE id % 2 = 0")
    transplanted.run("UPDATE events SET xact = '6' WHERE id % 2 = 1")
    transplanted.run("UPDATE archives SET position_xact = 5")
    transplanted.run("UPDATE webhooks SET position_xact = 6")
    transplanted.run("UPDATE webhook_deliveries SET position_xact = 6")
    before = transplanted.run("SELECT * FROM events ORDER BY id")
    await begin_epoch(transplanted.url)
    assert transplanted.run("SELECT * FROM events ORDER BY id") == before
