"""Embeddings on PostgreSQL. None of it needs an extension."""

from collections.abc import Sequence
from datetime import timedelta

import asyncpg

from agent_mail_core.embeddings import (
    TEXT_CHARACTERS,
    EmbeddingModel,
    Embeddings,
    ModelId,
    NewVector,
    UnembeddedMessage,
    Vector,
    code_of,
)
from agent_mail_core.ids import ProjectId, TeamId
from agent_mail_store.postgres.statements import Statements

_MODEL = "SELECT id, dimensions, is_ready FROM embedding_models WHERE team_id = $1 AND name = $2 AND dimensions = $3"
_USE = """
    INSERT INTO embedding_models (team_id, name, dimensions, used_at) VALUES ($1, $2, $3, clock_timestamp())
    ON CONFLICT (team_id, name, dimensions) DO UPDATE SET used_at = excluded.used_at
    RETURNING id, dimensions, is_ready
"""
# Neither joins another table: so the messages are read from the position on by an index, and each is looked up by
# itself. Of a join the planner makes a walk through all mail and all vectors, every time: 330 ms of 100,000 messages.
_POSITION = """coalesce((SELECT message_id FROM embedding_positions WHERE model_id = $1 AND project_id = $2), 0)"""
_HAS_NONE = "(SELECT true FROM message_vectors v WHERE v.message_id = m.id AND v.model_id = $1) IS NULL"
_MISSING = """
    SELECT m.id, m.subject, substr(m.body_md, 1, $3) AS body_md
    FROM messages m
    WHERE m.project_id = $2 AND m.id > (SELECT {position}) AND {has_none}
      AND EXISTS (SELECT FROM projects WHERE id = $2 AND deleted_at IS NULL)
    ORDER BY m.id LIMIT $4
""".replace("{position}", _POSITION).replace("{has_none}", _HAS_NONE)
# The messages are held, so that none goes between being looked at and being referred to.
_KEEP = """
    WITH new AS (
        SELECT m.id, m.project_id, m.sender_id, m.thread_id, m.created_at, n.vector, n.code
        FROM (
            SELECT unnest($2::bigint[]) AS id, unnest($3::text[])::real[] AS vector, unnest($4::varbit[]) AS code
        ) n
        JOIN messages m ON m.id = n.id
        ORDER BY m.id FOR KEY SHARE OF m
    ), coded AS (
        INSERT INTO message_codes (model_id, project_id, message_id, sender_id, thread_id, created_at, code)
        SELECT $1, project_id, id, sender_id, thread_id, created_at, code FROM new WHERE code IS NOT NULL
        ON CONFLICT DO NOTHING
    )
    INSERT INTO message_vectors (message_id, model_id, vector) SELECT id, $1, vector FROM new ON CONFLICT DO NOTHING
"""
_ADVANCE = """
    INSERT INTO embedding_positions AS mine (model_id, project_id, message_id, vectors)
    SELECT $1, p.id, coalesce(
        (
            SELECT m.id - 1 FROM messages m
            WHERE m.project_id = $2 AND m.id > (SELECT {position})
              AND (m.created_at > clock_timestamp() - $3::interval OR {has_none})
            ORDER BY m.id LIMIT 1
        ),
        (SELECT max(m.id) FROM messages m WHERE m.project_id = $2),
        0
    ), $4
    FROM projects p WHERE p.id = $2 AND p.deleted_at IS NULL
    ON CONFLICT (model_id, project_id) DO UPDATE
    SET message_id = greatest(mine.message_id, excluded.message_id), vectors = mine.vectors + excluded.vectors
""".replace("{position}", _POSITION).replace("{has_none}", _HAS_NONE)
_COUNTED = """
    SELECT coalesce(sum(vectors), 0) AS count FROM embedding_positions
    WHERE model_id = $1 AND ($2::bigint[] IS NULL OR project_id = ANY ($2))
"""
_COUNT = """
    SELECT count(*) AS count FROM (
        SELECT FROM message_codes WHERE model_id = $1 AND ($2::bigint[] IS NULL OR project_id = ANY ($2)) LIMIT $3
    ) looked_at
"""
_BEHIND = """
    SELECT p.id, p.team_id
    FROM projects p
    LEFT JOIN embedding_models k ON k.team_id = p.team_id AND k.name = $1 AND k.dimensions = $2
    LEFT JOIN embedding_positions e ON e.model_id = k.id AND e.project_id = p.id
    WHERE p.deleted_at IS NULL
      AND (SELECT max(m.id) FROM messages m WHERE m.project_id = p.id) > coalesce(e.message_id, 0)
    ORDER BY coalesce(e.message_id, 0), p.id LIMIT $3
"""
_LATELY = """
    SELECT DISTINCT m.project_id, p.team_id
    FROM (SELECT id, project_id FROM messages ORDER BY id DESC LIMIT $3) m
    JOIN projects p ON p.id = m.project_id AND p.deleted_at IS NULL
    LEFT JOIN embedding_models k ON k.team_id = p.team_id AND k.name = $1 AND k.dimensions = $2
    WHERE NOT EXISTS (SELECT FROM message_vectors v WHERE v.message_id = m.id AND v.model_id = k.id)
"""
_COMPLETE = """
    UPDATE embedding_models k SET is_ready = true
    WHERE name = $1 AND dimensions = $2 AND NOT is_ready AND NOT EXISTS (
        SELECT FROM projects p
        LEFT JOIN embedding_positions e ON e.model_id = k.id AND e.project_id = p.id
        JOIN messages m ON m.project_id = p.id AND m.id > coalesce(e.message_id, 0)
          AND m.created_at <= clock_timestamp() - $3::interval
        WHERE p.team_id = k.team_id AND p.deleted_at IS NULL
          AND NOT EXISTS (SELECT FROM message_vectors v WHERE v.message_id = m.id AND v.model_id = k.id)
    )
"""
_FORGET = """
    WITH gone AS (
        DELETE FROM message_vectors WHERE (message_id, model_id) IN (
            SELECT message_id, model_id FROM message_vectors WHERE model_id = $1 LIMIT $2
        ) RETURNING message_id
    ), uncoded AS (
        DELETE FROM message_codes c USING gone WHERE c.message_id = gone.message_id AND c.model_id = $1
    )
    SELECT count(*) AS count FROM gone
"""


def bits(vector: Vector) -> asyncpg.BitString:
    """A vector's code as the driver takes it."""
    return asyncpg.BitString.frombytes(code_of(vector))


class PostgresEmbeddings(Embeddings):
    def __init__(self, db: Statements) -> None:
        self._db = db

    async def model(self, team_id: TeamId, name: str, dimensions: int) -> EmbeddingModel | None:
        row = await self._db.row(_MODEL, team_id, name, dimensions)
        return EmbeddingModel(*row) if row is not None else None

    async def use(self, team_id: TeamId, name: str, dimensions: int) -> EmbeddingModel:
        return EmbeddingModel(*await self._db.the_row(_USE, team_id, name, dimensions))

    async def missing(self, model_id: ModelId, project_id: ProjectId, limit: int) -> list[UnembeddedMessage]:
        rows = await self._db.rows(_MISSING, model_id, project_id, TEXT_CHARACTERS, limit)
        return [UnembeddedMessage(*row) for row in rows]

    async def keep(self, model_id: ModelId, vectors: Sequence[NewVector]) -> None:
        await self._db.rows(
            _KEEP,
            model_id,
            [new.message_id for new in vectors],
            # Arrays of arrays would have to be of one length; this one may hold nulls.
            [f"{{{','.join(map(repr, new.vector))}}}" if new.vector is not None else None for new in vectors],
            [bits(new.vector) if new.vector is not None else None for new in vectors],
        )

    async def advance(self, model_id: ModelId, project_id: ProjectId, added: int, settled: timedelta) -> None:
        await self._db.rows(_ADVANCE, model_id, project_id, settled, added)

    async def is_wide(self, model_id: ModelId, project_ids: Sequence[ProjectId] | None, most: int) -> bool:
        if (await self._db.the_row(_COUNTED, model_id, project_ids))["count"] <= most:
            return False
        # Vectors that went with their messages are not taken off the count.
        count: int = (await self._db.the_row(_COUNT, model_id, project_ids, most + 1))["count"]
        return count > most

    async def behind(self, name: str, dimensions: int, limit: int) -> list[tuple[ProjectId, TeamId]]:
        return [(row[0], row[1]) for row in await self._db.rows(_BEHIND, name, dimensions, limit)]

    async def lately(self, name: str, dimensions: int, limit: int) -> list[tuple[ProjectId, TeamId]]:
        return [(row[0], row[1]) for row in await self._db.rows(_LATELY, name, dimensions, limit)]

    async def complete(self, name: str, dimensions: int, settled: timedelta) -> None:
        await self._db.rows(_COMPLETE, name, dimensions, settled)

    async def used(self, name: str, dimensions: int) -> None:
        await self._db.rows(
            "UPDATE embedding_models SET used_at = clock_timestamp() WHERE name = $1 AND dimensions = $2",
            name,
            dimensions,
        )

    async def forget(self, unused: timedelta, limit: int) -> int:
        row = await self._db.row(
            """
            SELECT id FROM embedding_models WHERE used_at < clock_timestamp() - $1::interval
            ORDER BY id LIMIT 1 FOR UPDATE
            """,
            unused,
        )
        if row is None:
            return 0
        # First of all nobody finds it ready any more, should it come into use again.
        await self._db.rows("UPDATE embedding_models SET is_ready = false WHERE id = $1", row["id"])
        await self._db.rows("DELETE FROM embedding_positions WHERE model_id = $1", row["id"])
        gone = int((await self._db.the_row(_FORGET, row["id"], limit))["count"])
        if not gone:
            await self._db.rows("DELETE FROM embedding_models WHERE id = $1", row["id"])
        return gone
