"""The schema: what the database itself refuses, and what goes when a row goes, alike on both engines."""

import pytest

from agent_mail_core.fields import BODY_LIMIT
from tests.migrations.schemas import Refused, Schema, a_row_of_each, insert

KEPT = {"facts", "schema_migrations"}


def test_every_table_is_known_here(migrated: Schema) -> None:
    assert set(migrated.tables()) == {*a_row_of_each(migrated), *KEPT}


def test_every_foreign_key_says_what_happens_on_delete(migrated: Schema) -> None:
    keys = migrated.foreign_keys()
    assert len(keys) >= 20
    assert [key for key in keys if key.on_delete not in ("CASCADE", "SET NULL")] == []
    pointing_back = [(key.table, key.target) for key in keys if key.on_delete == "SET NULL"]
    assert sorted(pointing_back) == [
        *[("events", "agents"), ("messages", "messages"), ("reviews", "agents"), ("reviews", "messages")]
    ]


def test_every_row_of_a_team_belongs_to_it_by_a_foreign_key(migrated: Schema) -> None:
    """Directly, or through something that does."""
    reached = {"teams"}
    keys = migrated.foreign_keys()
    for _ in keys:
        reached |= {key.table for key in keys if key.target in reached and key.on_delete == "CASCADE"}
    assert reached == set(a_row_of_each(migrated))


CHECKED: list[tuple[str, str, str]] = [
    ("projects", "human_key", "''"),
    ("projects", "human_key", f"'{'x' * 1025}'"),
    ("projects", "slug", "''"),
    ("projects", "slug", "'A'"),
    ("projects", "slug", "'a_b'"),
    ("projects", "slug", "'é'"),
    ("projects", "slug", f"'{'x' * 101}'"),
    ("agents", "name", "''"),
    ("agents", "name", "'_a'"),
    ("agents", "name", "'a b'"),
    ("agents", "name", "'é'"),
    ("agents", "name", f"'{'x' * 65}'"),
    ("agents", "contact_policy", "'sometimes'"),
    ("mailboxes", "position", "-1"),
    ("mailboxes", "unread", "-1"),
    ("threads", "key", "''"),
    ("threads", "key", "'.a'"),
    ("threads", "key", "'a b'"),
    ("threads", "key", f"'{'x' * 129}'"),
    ("messages", "subject", "''"),
    ("messages", "subject", f"'{'x' * 201}'"),
    ("messages", "body_md", f"'{'é' * (BODY_LIMIT // 2 + 1)}'"),
    ("messages", "priority", "3"),
    ("messages", "priority", "-2"),
    ("deliveries", "position", "0"),
    ("deliveries", "kind", "3"),
    ("deliveries", "kind", "-1"),
    ("contacts", "status", "'blocked'"),
    ("lease_counters", "fence", "-1"),
    ("reservations", "pattern", "''"),
    ("reservations", "pattern", f"'{'é' * 513}'"),
    ("reservations", "fence", "0"),
    ("build_slots", "capacity", "0"),
    ("build_slots", "capacity", "101"),
    ("build_slots", "name", "''"),
    ("lease_tickets", "kind", "'review'"),
    ("reviews", "state", "'open'"),
    ("reviews", "verdict", "'maybe'"),
    ("products", "name", f"'{'x' * 101}'"),
    ("attachments", "file_name", "''"),
    ("team_usage", "blob_bytes", "-1"),
    ("jobs", "state", "'done'"),
    ("jobs", "attempts", "-1"),
    ("webhooks", "url", "''"),
    ("webhooks", "attempts", "-1"),
    ("webhook_deliveries", "state", "'sent'"),
    ("webhook_deliveries", "attempts", "0"),
]


@pytest.mark.parametrize("table, column, value", CHECKED, ids=lambda value: str(value)[:20])
def test_a_value_that_cannot_be_is_refused(migrated: Schema, table: str, column: str, value: str) -> None:
    rows = a_row_of_each(migrated)
    for parent in rows:
        if parent == table:
            break
        insert(migrated, parent, rows[parent])
    with pytest.raises(Refused, match="check"):
        insert(migrated, table, {**rows[table], column: value})
    insert(migrated, table, rows[table])


UNIQUE: list[tuple[str, dict[str, str]]] = [
    ("teams", {"id": "8"}),
    ("projects", {"id": "8", "slug": "'other'"}),
    ("projects", {"id": "8", "human_key": "'other'"}),
    ("agents", {"id": "8", "name": "'aNN'"}),
    ("mailboxes", {}),
    ("threads", {"id": "8", "key": "'fEAT-1'"}),
    ("thread_participants", {}),
    ("deliveries", {"position": "2"}),
    ("idempotency_keys", {"response": "'x'"}),
    ("contacts", {"id": "8", "status": "'accepted'"}),
    ("blocks", {}),
    ("lease_counters", {}),
    ("reservations", {"id": "8", "pattern": "'other'"}),
    ("build_slots", {"id": "8", "capacity": "2"}),
    ("slot_leases", {"id": "8", "fence": "2"}),
    ("lease_tickets", {"id": "8"}),
    ("review_reviewers", {"place": "1"}),
    ("products", {"id": "8"}),
    ("product_projects", {}),
    ("blobs", {"size": "1"}),
    ("attachments", {"id": "8", "file_name": "'b'"}),
    ("message_attachments", {"place": "1"}),
    ("team_usage", {}),
    ("jobs", {"state": "'dead'"}),
    ("archives", {"head": "'x'"}),
    ("legal_holds", {"reason": "'x'"}),
    ("summaries", {"engine": "'llm'"}),
    ("webhook_deliveries", {"id": "8", "state": "'failed'"}),
]


@pytest.mark.parametrize("table, changes", UNIQUE, ids=[f"{table}-{len(changes)}" for table, changes in UNIQUE])
def test_there_is_one_of_each(filled: Schema, table: str, changes: dict[str, str]) -> None:
    with pytest.raises(Refused, match="unique"):
        insert(filled, table, {**a_row_of_each(filled)[table], **changes})


def test_two_deliveries_never_have_one_position(filled: Schema) -> None:
    rows = a_row_of_each(filled)
    insert(filled, "messages", {**rows["messages"], "id": "8"})
    with pytest.raises(Refused, match="unique"):
        insert(filled, "deliveries", {**rows["deliveries"], "message_id": "8"})


@pytest.mark.parametrize(
    "table, column",
    [
        *(("projects", "team_id"), ("agents", "project_id"), ("mailboxes", "agent_id"), ("threads", "project_id")),
        *(
            ("messages", "thread_id"),
            ("messages", "sender_id"),
            ("messages", "parent_id"),
            ("deliveries", "message_id"),
        ),
        *(("thread_participants", "agent_id"), ("events", "project_id"), ("outbox", "event_id")),
    ],
)
def test_nothing_points_at_what_is_not_there(migrated: Schema, table: str, column: str) -> None:
    rows = a_row_of_each(migrated)
    for parent in rows:
        if parent == table:
            break
        insert(migrated, parent, rows[parent])
    with pytest.raises(Refused, match="foreign key"):
        insert(migrated, table, {**rows[table], column: "987654321"})


def left(schema: Schema) -> dict[str, int]:
    """How many rows each table has, but for the first team's."""
    counts = {table: schema.run(f"SELECT count(*) FROM {table}")[0][0] for table in schema.tables()}
    return {table: count - (table == "teams") for table, count in counts.items() if table not in KEPT}


def test_a_team_goes_with_all_that_belongs_to_it(filled: Schema) -> None:
    assert set(left(filled).values()) == {1}
    filled.run("DELETE FROM teams WHERE id = 7")
    assert set(left(filled).values()) == {0}


def test_a_project_goes_with_all_that_belongs_to_it(filled: Schema) -> None:
    filled.run("DELETE FROM projects WHERE id = 7")
    counts = left(filled)
    of_the_team = [
        counts.pop(table)
        for table in ("teams", "idempotency_keys", "products", "blobs", "team_usage", "jobs", "embedding_models")
    ]
    assert set(of_the_team) == {1}
    assert set(counts.values()) == {0}


def test_a_message_goes_with_its_deliveries_and_leaves_its_answers(filled: Schema) -> None:
    rows = a_row_of_each(filled)
    insert(filled, "messages", {**rows["messages"], "id": "8", "parent_id": "7"})
    filled.run("DELETE FROM messages WHERE id = 7")
    assert filled.run("SELECT id, parent_id FROM messages") == [(8, None)]
    assert filled.run("SELECT * FROM deliveries") == []
    assert len(filled.run("SELECT * FROM threads")) == 1


def test_ids_are_not_used_again(filled: Schema) -> None:
    filled.run("DELETE FROM teams WHERE id = 7")
    filled.run(f"INSERT INTO teams (name, created_at) VALUES ('a', {filled.now})")
    first = filled.run("SELECT max(id) FROM teams")[0][0]
    filled.run(f"DELETE FROM teams WHERE id = {first}")
    filled.run(f"INSERT INTO teams (name, created_at) VALUES ('b', {filled.now})")
    assert filled.run("SELECT max(id) FROM teams")[0][0] > first
