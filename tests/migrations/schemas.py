"""Both engines' databases as migrations see them: empty at first, with a catalog, and rows as SQL literals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import apsw
import asyncpg

from agent_mail_core.database_urls import Engine
from tests.servers import query

Row = dict[str, str]
"""Column → SQL literal."""


class Refused(Exception):
    """The database did not take a row; says which constraint stood against it: check, unique, foreign key, not null."""


@dataclass(frozen=True)
class ForeignKey:
    table: str
    target: str
    on_delete: str


class Schema(Protocol):
    """A database that may not have been migrated yet."""

    engine: Engine
    url: str
    now: str
    more_of_a_message: ClassVar[Row]

    def run(self, statement: str) -> list[tuple[Any, ...]]:
        """The rows of one statement; Refused when a constraint stands against it."""
        ...

    def tables(self) -> list[str]:
        """Names of all tables that hold rows of ours."""
        ...

    def foreign_keys(self) -> list[ForeignKey]:
        """All of them."""
        ...


class SqliteSchema(Schema):
    engine: Engine = "sqlite"
    now = "0"
    more_of_a_message: ClassVar[Row] = {}

    def __init__(self, url: str) -> None:
        self.url = url

    def run(self, statement: str) -> list[tuple[Any, ...]]:
        connection = apsw.Connection(self.url.removeprefix("sqlite:///"))
        try:
            connection.execute("PRAGMA foreign_keys = ON")
            return [tuple(row) for row in connection.execute(statement)]
        except apsw.ConstraintError as error:
            raise Refused(str(error).lower()) from error
        finally:
            connection.close()

    def tables(self) -> list[str]:
        rows = self.run("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY 1")
        return [row[0] for row in rows if not row[0].startswith("message_text")]

    def foreign_keys(self) -> list[ForeignKey]:
        return [
            ForeignKey(table, row[0], row[1])
            for table in self.tables()
            for row in self.run(f"SELECT \"table\", on_delete FROM pragma_foreign_key_list('{table}')")
        ]


class PostgresSchema(Schema):
    engine: Engine = "postgres"
    now = "now()"
    more_of_a_message: ClassVar[Row] = {"words": "''", "subject_phrases": "''", "body_phrases": "''"}

    def __init__(self, url: str) -> None:
        self.url = url

    def run(self, statement: str) -> list[tuple[Any, ...]]:
        try:
            return [tuple(row) for row in query(self.url, statement)]
        except asyncpg.IntegrityConstraintViolationError as error:
            raise Refused(str(error).lower()) from error

    def tables(self) -> list[str]:
        rows = self.run(
            "SELECT relname::text FROM pg_class"
            " WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace ORDER BY relname"
        )
        return [row[0] for row in rows]

    def foreign_keys(self) -> list[ForeignKey]:
        actions = "CASE confdeltype WHEN 'a' THEN 'NO ACTION' WHEN 'c' THEN 'CASCADE' WHEN 'n' THEN 'SET NULL' END"
        rows = self.run(
            f"SELECT conrelid::regclass::text, confrelid::regclass::text, {actions} FROM pg_constraint"
            " WHERE contype = 'f' ORDER BY 1, 2"
        )
        return [ForeignKey(*row) for row in rows]


def a_row_of_each(schema: Schema) -> dict[str, Row]:
    """One valid row for every table, parents first."""
    at = {"created_at": schema.now}
    return {
        "teams": {"id": "7", "name": "'team'", **at},
        "projects": {"id": "7", "team_id": "7", "human_key": "'/code/a'", "slug": "'a-b1'", **at},
        "agents": {
            "id": "7",
            "team_id": "7",
            "project_id": "7",
            "name": "'Ann'",
            "program": "'p'",
            "model": "'m'",
            "contact_policy": "'auto'",
            "owner": "'local'",
            "registered_at": schema.now,
            "last_active_at": schema.now,
        },
        "mailboxes": {"agent_id": "7", "position": "1", "unread": "1"},
        "threads": {
            "id": "7",
            "team_id": "7",
            "project_id": "7",
            "key": "'Feat-1'",
            "subject": "'s'",
            "last_message_at": schema.now,
            **at,
        },
        "thread_participants": {"thread_id": "7", "agent_id": "7", "is_hidden": "FALSE"},
        "messages": {
            "id": "7",
            "team_id": "7",
            "project_id": "7",
            "thread_id": "7",
            "sender_id": "7",
            "subject": "'s'",
            "body_md": "'b'",
            "priority": "0",
            "ack_required": "FALSE",
            **at,
            **schema.more_of_a_message,
        },
        "deliveries": {
            "agent_id": "7",
            "position": "1",
            "message_id": "7",
            "project_id": "7",
            "sender_id": "7",
            "thread_id": "7",
            "kind": "0",
            "place": "0",
            "priority": "0",
            "ack_required": "FALSE",
            **at,
        },
        "events": {"id": "7", "team_id": "7", "project_id": "7", "kind": "'message.sent'", "agent_id": "7", **at},
        "outbox": {"id": "7", "event_id": "7", "topic": "'archive'", **at},
        "idempotency_keys": {
            "team_id": "7",
            "principal": "'local'",
            "agent_id": "7",
            "operation": "'o'",
            "key": "'k'",
            "fingerprint": "'\\x00'" if schema.engine == "postgres" else "x'00'",
            "response": "'{}'",
            **at,
        },
        **_coordination(schema, at),
    }


def _coordination(schema: Schema, at: Row) -> dict[str, Row]:
    """What came after 0001."""
    now = schema.now
    digest = "'\\x" + "00" * 32 + "'" if schema.engine == "postgres" else f"x'{'00' * 32}'"
    empty = "''" if schema.engine == "postgres" else "x''"
    vector, code = ("'{1}'", "B'1'") if schema.engine == "postgres" else ("x'0000803f'", "x'80'")
    own = {"id": "7", "team_id": "7", "project_id": "7"}
    return {
        "contacts": {
            "id": "7",
            "team_id": "7",
            "agent_id": "7",
            "contact_id": "7",
            "status": "'pending'",
            "requested_at": now,
        },
        "blocks": {"agent_id": "7", "blocked_id": "7", "blocked_at": now},
        "lease_counters": {"project_id": "7", "fence": "1", "version": "1"},
        "reservations": {
            **own,
            "agent_id": "7",
            "pattern": "'src/*.py'",
            "fence": "1",
            "is_literal": "FALSE",
            "is_exclusive": "TRUE",
            "is_advisory": "FALSE",
            "granted_at": now,
            "renewed_at": now,
            "expires_at": now,
        },
        "build_slots": {**own, "name": "'frontend'", "type": "'build'", "capacity": "1", **at},
        "slot_leases": {
            "id": "7",
            "slot_id": "7",
            "agent_id": "7",
            "fence": "1",
            "acquired_at": now,
            "renewed_at": now,
            "expires_at": now,
        },
        "lease_tickets": {
            "id": "7",
            "project_id": "7",
            "agent_id": "7",
            "kind": "'slot'",
            "wanted": "'{}'",
            "asked_at": now,
            **at,
        },
        "reviews": {
            **own,
            "thread_id": "7",
            "message_id": "7",
            "requester_id": "7",
            "state": "'requested'",
            "paths": "'[]'",
            **at,
        },
        "review_reviewers": {"review_id": "7", "agent_id": "7", "place": "0"},
        "products": {"id": "7", "team_id": "7", "name": "'Shop'", **at},
        "product_projects": {"product_id": "7", "project_id": "7", "linked_at": now},
        "blobs": {"team_id": "7", "sha256": digest, "size": "0", "content": empty, **at},
        "attachments": {
            **own,
            "public_id": "'x'",
            "uploader_id": "7",
            "file_name": "'a.txt'",
            "media_type": "'text/plain'",
            "size": "0",
            "sha256": digest,
            **at,
        },
        "message_attachments": {"message_id": "7", "attachment_id": "7", "place": "0"},
        "team_usage": {"team_id": "7", "blob_bytes": "0"},
        "jobs": {"kind": "'archive'", "subject_id": "7", "team_id": "7", "state": "'waiting'", "run_at": now, **at},
        "archives": {
            "project_id": "7",
            "head": "'abc'",
            "tree": "'def'",
            "position_xact": "0",
            "position_id": "7",
            "updated_at": now,
        },
        "summaries": {
            "thread_id": "7",
            "engine": "'extractive'",
            "up_to_message_id": "7",
            "message_count": "1",
            "content": "'{}'",
            "notes": "'{}'",
            "made_at": now,
        },
        "legal_holds": {"project_id": "7", "placed_by": "'local'", "placed_at": now},
        "webhooks": {
            **own,
            "url": "'https://a.example/'",
            "kinds": "'[]'",
            "secret": "'whsec_'",
            "position_xact": "0",
            "position_id": "7",
            **at,
        },
        "webhook_deliveries": {
            "id": "7",
            "webhook_id": "7",
            "position_xact": "0",
            "event_id": "7",
            "kind": "'message.sent'",
            "state": "'delivered'",
            "attempts": "1",
            "attempted_at": now,
            **at,
        },
        "embedding_models": {"id": "7", "team_id": "7", "name": "'m'", "dimensions": "8", "used_at": now},
        "embedding_positions": {"model_id": "7", "project_id": "7", "message_id": "7"},
        "message_vectors": {"message_id": "7", "model_id": "7", "vector": vector},
        "message_codes": {
            "model_id": "7",
            "project_id": "7",
            "message_id": "7",
            "sender_id": "7",
            "thread_id": "7",
            "code": code,
            **at,
        },
    }


def insert(schema: Schema, table: str, row: Row) -> None:
    """Add a row."""
    schema.run(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({', '.join(row.values())})")
