"""Products on PostgreSQL."""

from collections.abc import Sequence

from agent_mail_core.agents import AgentRecord
from agent_mail_core.errors import ProductFull
from agent_mail_core.fields import name_key
from agent_mail_core.ids import LARGEST_INTEGER, AgentId, MessageId, ProductId, TeamId
from agent_mail_core.messages import MessageRecord
from agent_mail_core.products import ProductRecord, Products
from agent_mail_core.projects import ProjectRecord
from agent_mail_store.postgres.messages import message_record
from agent_mail_store.postgres.statements import Statements


class PostgresProducts(Products):
    def __init__(self, db: Statements) -> None:
        self._db = db

    async def ensure(self, team_id: TeamId, name: str, description: str | None) -> tuple[ProductRecord, bool]:
        made = await self._db.row(
            """
            INSERT INTO products (team_id, name, description) VALUES ($1, $2, $3)
            ON CONFLICT (team_id, name) DO NOTHING
            RETURNING id, team_id, name, description, created_at
            """,
            team_id,
            name,
            description,
        )
        if made is not None:
            return ProductRecord(*made), True
        row = await self._db.the_row(
            """
            UPDATE products SET description = coalesce($3, description) WHERE team_id = $1 AND name = $2
            RETURNING id, team_id, name, description, created_at
            """,
            team_id,
            name,
            description,
        )
        return ProductRecord(*row), False

    async def find(self, team_id: TeamId, name: str) -> ProductRecord | None:
        row = await self._db.row(
            "SELECT id, team_id, name, description, created_at FROM products WHERE team_id = $1 AND name = $2",
            team_id,
            name,
        )
        return ProductRecord(*row) if row else None

    async def link(self, product: ProductRecord, project: ProjectRecord, limit: int) -> bool:
        await self._db.the_row("SELECT 1 FROM products WHERE id = $1 FOR NO KEY UPDATE", product.id)
        row = await self._db.the_row(
            """
            SELECT count(*) AS linked, count(*) FILTER (WHERE project_id = $2) AS present
            FROM product_projects JOIN projects p ON p.id = project_id AND p.deleted_at IS NULL
            WHERE product_id = $1
            """,
            product.id,
            project.id,
        )
        if row["present"]:
            return False
        if row["linked"] >= limit:
            raise ProductFull(product_name=product.name, limit=limit, suggestion="unlink_project")
        await self._db.rows(
            "INSERT INTO product_projects (product_id, project_id) VALUES ($1, $2)", product.id, project.id
        )
        return True

    async def unlink(self, product: ProductRecord, project: ProjectRecord) -> bool:
        rows = await self._db.rows(
            "DELETE FROM product_projects WHERE product_id = $1 AND project_id = $2 RETURNING 1",
            product.id,
            project.id,
        )
        return bool(rows)

    async def page(self, team_id: TeamId, after_name: str | None, limit: int) -> list[ProductRecord]:
        rows = await self._db.rows(
            """
            SELECT id, team_id, name, description, created_at FROM products
            WHERE team_id = $1 AND name > coalesce($2, '') ORDER BY name LIMIT $3
            """,
            team_id,
            after_name,
            limit,
        )
        return [ProductRecord(*row) for row in rows]

    async def names(self, team_id: TeamId, limit: int) -> list[str]:
        rows = await self._db.rows(
            "SELECT name FROM products WHERE team_id = $1 ORDER BY id DESC LIMIT $2", team_id, limit
        )
        return [row["name"] for row in rows]

    async def projects(self, product_ids: Sequence[ProductId]) -> dict[ProductId, list[ProjectRecord]]:
        rows = await self._db.rows(
            """
            SELECT l.product_id, p.id, p.team_id, p.slug, p.human_key, p.description, p.created_at
            FROM product_projects l JOIN projects p ON p.id = l.project_id AND p.deleted_at IS NULL
            WHERE l.product_id = ANY ($1::bigint[]) ORDER BY p.slug
            """,
            product_ids,
        )
        found: dict[ProductId, list[ProjectRecord]] = {}
        for row in rows:
            found.setdefault(row[0], []).append(ProjectRecord(*row[1:]))
        return found

    async def agents_named(self, product_id: ProductId, name: str) -> list[AgentRecord]:
        rows = await self._db.rows(
            """
            SELECT a.id, a.project_id, a.name, a.program, a.model, a.task_description, a.contact_policy, a.owner,
                   a.registered_at, a.last_active_at, a.retired_at
            FROM product_projects l
            JOIN projects p ON p.id = l.project_id AND p.deleted_at IS NULL
            JOIN agents a ON a.project_id = l.project_id AND a.name_key = $2
            WHERE l.product_id = $1
            """,
            product_id,
            name_key(name),
        )
        return [AgentRecord(*row) for row in rows]

    async def messages(self, product_id: ProductId, before: MessageId | None, limit: int) -> list[MessageRecord]:
        rows = await self._db.rows(
            """
            WITH newest AS (
                SELECT m.id FROM product_projects l
                JOIN projects p ON p.id = l.project_id AND p.deleted_at IS NULL
                CROSS JOIN LATERAL (
                    SELECT id FROM messages WHERE project_id = l.project_id AND id < $2
                    ORDER BY id DESC LIMIT $3
                ) m
                WHERE l.product_id = $1
                ORDER BY m.id DESC LIMIT $3
            )
            SELECT m.id, m.team_id, m.project_id, p.slug, m.thread_id, t.key, m.parent_id, m.sender_id, s.name,
                   m.subject, NULL AS body_md, m.priority, m.ack_required, m.created_at,
                   CASE WHEN s.project_id <> m.project_id THEN (SELECT slug FROM projects WHERE id = s.project_id) END
            FROM newest JOIN messages m USING (id)
            JOIN projects p ON p.id = m.project_id JOIN threads t ON t.id = m.thread_id
            JOIN agents s ON s.id = m.sender_id
            ORDER BY m.id DESC
            """,
            product_id,
            LARGEST_INTEGER if before is None else before,
            limit,
        )
        return [message_record(row) for row in rows]

    async def received(self, agent_ids: Sequence[AgentId], before: MessageId | None, limit: int) -> list[MessageRecord]:
        rows = await self._db.rows(
            # In a mailbox positions and message ids grow together: both are given under its lock.
            """
            WITH newest AS (
                SELECT DISTINCT d.message_id AS id FROM unnest($1::bigint[]) AS own (agent_id)
                CROSS JOIN LATERAL (
                    SELECT message_id FROM deliveries
                    WHERE agent_id = own.agent_id AND message_id < $2
                    ORDER BY position DESC LIMIT $3
                ) d
                ORDER BY 1 DESC LIMIT $3
            )
            SELECT m.id, m.team_id, m.project_id, p.slug, m.thread_id, t.key, m.parent_id, m.sender_id, s.name,
                   m.subject, NULL AS body_md, m.priority, m.ack_required, m.created_at,
                   CASE WHEN s.project_id <> m.project_id THEN (SELECT slug FROM projects WHERE id = s.project_id) END
            FROM newest JOIN messages m USING (id)
            JOIN projects p ON p.id = m.project_id AND p.deleted_at IS NULL JOIN threads t ON t.id = m.thread_id
            JOIN agents s ON s.id = m.sender_id
            ORDER BY m.id DESC
            """,
            agent_ids,
            LARGEST_INTEGER if before is None else before,
            limit,
        )
        return [message_record(row) for row in rows]
