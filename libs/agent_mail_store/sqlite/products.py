"""Products in SQLite."""

from collections.abc import Sequence

import orjson

from agent_mail_core.agents import AgentRecord
from agent_mail_core.clock import from_microseconds
from agent_mail_core.errors import ProductFull
from agent_mail_core.ids import LARGEST_INTEGER, AgentId, MessageId, ProductId, TeamId
from agent_mail_core.messages import MessageRecord
from agent_mail_core.ports import Clock
from agent_mail_core.products import ProductRecord, Products
from agent_mail_core.projects import ProjectRecord
from agent_mail_store.sqlite.agents import agent_record
from agent_mail_store.sqlite.messages import message_record
from agent_mail_store.sqlite.projects import project_record
from agent_mail_store.sqlite.statements import Row, Statements


class SqliteProducts(Products):
    __slots__ = ("_clock", "_statements")

    def __init__(self, statements: Statements, clock: Clock) -> None:
        self._statements = statements
        self._clock = clock

    async def ensure(self, team_id: TeamId, name: str, description: str | None) -> tuple[ProductRecord, bool]:
        existing = await self.find(team_id, name)
        if existing is None:
            rows = self._statements.many(
                """
                INSERT INTO products (team_id, name, description, created_at) VALUES (?, ?, ?, ?)
                RETURNING id, team_id, name, description, created_at
                """,
                [(team_id, name, description, self._clock.microseconds())],
            )
            return _record(rows[0]), True
        rows = self._statements.many(
            """
            UPDATE products SET description = coalesce(?, description) WHERE id = ?
            RETURNING id, team_id, name, description, created_at
            """,
            [(description, existing.id)],
        )
        return _record(rows[0]), False

    async def find(self, team_id: TeamId, name: str) -> ProductRecord | None:
        row = self._statements.row(
            "SELECT id, team_id, name, description, created_at FROM products WHERE team_id = ? AND name = ?",
            (team_id, name),
        )
        return _record(row) if row else None

    async def link(self, product: ProductRecord, project: ProjectRecord, limit: int) -> bool:
        linked = {known.id for known in (await self.projects([product.id])).get(product.id, [])}
        if project.id in linked:
            return False
        if len(linked) >= limit:
            raise ProductFull(product_name=product.name, limit=limit, suggestion="unlink_project")
        self._statements.many(
            "INSERT INTO product_projects (product_id, project_id, linked_at) VALUES (?, ?, ?)",
            [(product.id, project.id, self._clock.microseconds())],
        )
        return True

    async def unlink(self, product: ProductRecord, project: ProjectRecord) -> bool:
        rows = self._statements.many(
            "DELETE FROM product_projects WHERE product_id = ? AND project_id = ? RETURNING 1",
            [(product.id, project.id)],
        )
        return bool(rows)

    async def page(self, team_id: TeamId, after_name: str | None, limit: int) -> list[ProductRecord]:
        rows = self._statements.rows(
            """
            SELECT id, team_id, name, description, created_at FROM products
            WHERE team_id = ? AND name > ? ORDER BY name LIMIT ?
            """,
            (team_id, after_name or "", limit),
        )
        return [_record(row) for row in rows]

    async def names(self, team_id: TeamId, limit: int) -> list[str]:
        rows = self._statements.rows(
            "SELECT name FROM products WHERE team_id = ? ORDER BY id DESC LIMIT ?", (team_id, limit)
        )
        return [row[0] for row in rows]

    async def projects(self, product_ids: Sequence[ProductId]) -> dict[ProductId, list[ProjectRecord]]:
        rows = self._statements.rows(
            """
            SELECT l.product_id, p.id, p.team_id, p.slug, p.human_key, p.description, p.created_at
            FROM product_projects l CROSS JOIN projects p ON p.id = l.project_id
            WHERE l.product_id IN (SELECT value FROM json_each(?)) AND p.deleted_at IS NULL ORDER BY p.slug
            """,
            (orjson.dumps(product_ids).decode(),),
        )
        found: dict[ProductId, list[ProjectRecord]] = {}
        for row in rows:
            found.setdefault(row[0], []).append(project_record(row[1:]))
        return found

    async def agents_named(self, product_id: ProductId, name: str) -> list[AgentRecord]:
        rows = self._statements.rows(
            """
            SELECT a.id, a.project_id, a.name, a.program, a.model, a.task_description, a.contact_policy, a.owner,
                a.registered_at, a.last_active_at, a.retired_at
            FROM product_projects l
            CROSS JOIN projects p ON p.id = l.project_id AND p.deleted_at IS NULL
            CROSS JOIN agents a ON a.project_id = l.project_id AND a.name = ?
            WHERE l.product_id = ?
            """,
            (name, product_id),
        )
        return [agent_record(row) for row in rows]

    async def messages(self, product_id: ProductId, before: MessageId | None, limit: int) -> list[MessageRecord]:
        def work(statements: Statements) -> list[Row]:
            projects = statements.rows(
                """
                SELECT l.project_id FROM product_projects l
                CROSS JOIN projects p ON p.id = l.project_id AND p.deleted_at IS NULL WHERE l.product_id = ?
                """,
                (product_id,),
            )
            ids: list[int] = []
            for (project_id,) in projects:  # an index walk each, where one statement would sort all their messages
                ids += _first_column(
                    statements.rows(
                        "SELECT id FROM messages WHERE project_id = ? AND id < ? ORDER BY id DESC LIMIT ?",
                        (project_id, LARGEST_INTEGER if before is None else before, limit),
                    )
                )
            return _newest(statements, ids, limit)

        return [message_record(row) for row in await self._statements.apart(work)]

    async def received(self, agent_ids: Sequence[AgentId], before: MessageId | None, limit: int) -> list[MessageRecord]:
        def work(statements: Statements) -> list[Row]:
            ids: set[int] = set()
            for agent_id in agent_ids:  # in a mailbox positions and message ids grow together
                ids.update(
                    _first_column(
                        statements.rows(
                            """
                            SELECT message_id FROM deliveries WHERE agent_id = ? AND message_id < ?
                            ORDER BY position DESC LIMIT ?
                            """,
                            (agent_id, LARGEST_INTEGER if before is None else before, limit),
                        )
                    )
                )
            return _newest(statements, ids, limit)

        return [message_record(row) for row in await self._statements.apart(work)]


def _newest(statements: Statements, ids: Sequence[int] | set[int], limit: int) -> list[Row]:
    """The newest of these messages, but for those of deleted projects."""
    return statements.rows(
        """
        SELECT m.id, m.team_id, m.project_id, p.slug, m.thread_id, t.key, m.parent_id, m.sender_id, a.name,
            m.subject, NULL, m.priority, m.ack_required, m.created_at,
            CASE WHEN a.project_id <> m.project_id THEN (SELECT slug FROM projects WHERE id = a.project_id) END
        FROM json_each(?) wanted
        CROSS JOIN messages m ON m.id = wanted.value
        CROSS JOIN projects p ON p.id = m.project_id AND p.deleted_at IS NULL
        CROSS JOIN threads t ON t.id = m.thread_id
        CROSS JOIN agents a ON a.id = m.sender_id
        ORDER BY m.id DESC
        """,
        (orjson.dumps(sorted(ids, reverse=True)[:limit]).decode(),),
    )


def _first_column(rows: list[Row]) -> list[int]:
    return [row[0] for row in rows]


def _record(row: Row) -> ProductRecord:
    return ProductRecord(row[0], row[1], row[2], row[3], from_microseconds(row[4]))
