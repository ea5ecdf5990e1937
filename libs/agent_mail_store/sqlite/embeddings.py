"""Embeddings in SQLite. Storing them needs no extension; searching them does (see message_search)."""

import sys
from array import array
from collections.abc import Sequence
from datetime import timedelta

import orjson

from agent_mail_core.clock import MICROSECOND
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
from agent_mail_core.ports import Clock
from agent_mail_store.sqlite.statements import Row, Statements, Value

_MODEL = "SELECT id, dimensions, is_ready FROM embedding_models WHERE team_id = ? AND name = ? AND dimensions = ?"
_USE = """
    INSERT INTO embedding_models (team_id, name, dimensions, used_at) VALUES (?, ?, ?, ?)
    ON CONFLICT (team_id, name, dimensions) DO UPDATE SET used_at = excluded.used_at
    RETURNING id, dimensions, is_ready
"""
_POSITION = (
    """coalesce((SELECT e.message_id FROM embedding_positions e WHERE e.model_id = ?1 AND e.project_id = p.id), 0)"""
)
_HAS_NONE = "NOT EXISTS (SELECT 1 FROM message_vectors v WHERE v.message_id = m.id AND v.model_id = ?1)"
_MISSING = """
    SELECT m.id, m.subject, substr(m.body_md, 1, ?3)
    FROM projects p CROSS JOIN messages m ON m.project_id = p.id AND m.id > {position}
    WHERE p.id = ?2 AND p.deleted_at IS NULL AND {has_none}
    ORDER BY m.id LIMIT ?4
""".replace("{position}", _POSITION).replace("{has_none}", _HAS_NONE)
_CODE = """
    INSERT INTO message_codes (model_id, project_id, message_id, sender_id, thread_id, created_at, code)
    SELECT ?2, m.project_id, m.id, m.sender_id, m.thread_id, m.created_at, ?3 FROM messages m WHERE m.id = ?1
    ON CONFLICT DO NOTHING
"""
_VECTOR = """
    INSERT INTO message_vectors (message_id, model_id, vector) SELECT m.id, ?2, ?3 FROM messages m WHERE m.id = ?1
    ON CONFLICT DO NOTHING
"""
_ADVANCE = """
    INSERT INTO embedding_positions (model_id, project_id, message_id, vectors)
    SELECT ?1, p.id, coalesce(
        (
            SELECT m.id - 1 FROM messages m
            WHERE m.project_id = p.id AND m.id > {position} AND (m.created_at > ?3 OR {has_none})
            ORDER BY m.id LIMIT 1
        ),
        (SELECT max(m.id) FROM messages m WHERE m.project_id = p.id),
        0
    ), ?4
    FROM projects p WHERE p.id = ?2 AND p.deleted_at IS NULL
    ON CONFLICT DO UPDATE SET
        message_id = max(message_id, excluded.message_id), vectors = vectors + excluded.vectors
""".replace("{position}", _POSITION).replace("{has_none}", _HAS_NONE)
_COUNTED = """
    SELECT coalesce(sum(vectors), 0) FROM embedding_positions
    WHERE model_id = ?1 AND (?2 IS NULL OR project_id IN (SELECT value FROM json_each(?2)))
"""
_COUNT = """
    SELECT count(*) FROM (
        SELECT 1 FROM message_codes
        WHERE model_id = ?1 AND (?2 IS NULL OR project_id IN (SELECT value FROM json_each(?2))) LIMIT ?3
    )
"""
_BEHIND = """
    SELECT p.id, p.team_id
    FROM projects p
    LEFT JOIN embedding_models k ON k.team_id = p.team_id AND k.name = ?1 AND k.dimensions = ?2
    LEFT JOIN embedding_positions e ON e.model_id = k.id AND e.project_id = p.id
    WHERE p.deleted_at IS NULL
        AND (SELECT max(m.id) FROM messages m WHERE m.project_id = p.id) > coalesce(e.message_id, 0)
    ORDER BY coalesce(e.message_id, 0), p.id LIMIT ?3
"""
_LATELY = """
    SELECT DISTINCT m.project_id, p.team_id
    FROM (SELECT id, project_id FROM messages ORDER BY id DESC LIMIT ?3) m
    CROSS JOIN projects p ON p.id = m.project_id AND p.deleted_at IS NULL
    LEFT JOIN embedding_models k ON k.team_id = p.team_id AND k.name = ?1 AND k.dimensions = ?2
    WHERE NOT EXISTS (SELECT 1 FROM message_vectors v WHERE v.message_id = m.id AND v.model_id = k.id)
"""
_COMPLETE = """
    UPDATE embedding_models AS k SET is_ready = 1
    WHERE name = ?1 AND dimensions = ?2 AND NOT is_ready AND NOT EXISTS (
        SELECT 1 FROM projects p
        LEFT JOIN embedding_positions e ON e.model_id = k.id AND e.project_id = p.id
        CROSS JOIN messages m ON m.project_id = p.id AND m.id > coalesce(e.message_id, 0) AND m.created_at <= ?3
        WHERE p.team_id = k.team_id AND p.deleted_at IS NULL
            AND NOT EXISTS (SELECT 1 FROM message_vectors v WHERE v.message_id = m.id AND v.model_id = k.id)
    )
"""


def blob(vector: Vector) -> bytes:
    """A vector as the extension reads it, on whichever machine."""
    if sys.byteorder == "big":
        vector = array("f", vector)
        vector.byteswap()
    return vector.tobytes()


class SqliteEmbeddings(Embeddings):
    __slots__ = ("_clock", "_statements")

    def __init__(self, statements: Statements, clock: Clock) -> None:
        self._statements = statements
        self._clock = clock

    async def model(self, team_id: TeamId, name: str, dimensions: int) -> EmbeddingModel | None:
        row = self._statements.row(_MODEL, (team_id, name, dimensions))
        return _model(row) if row is not None else None

    async def use(self, team_id: TeamId, name: str, dimensions: int) -> EmbeddingModel:
        (row,) = self._statements.rows(_USE, (team_id, name, dimensions, self._clock.microseconds()))
        return _model(row)

    async def missing(self, model_id: ModelId, project_id: ProjectId, limit: int) -> list[UnembeddedMessage]:
        values = (model_id, project_id, TEXT_CHARACTERS, limit)
        rows = await self._statements.apart(lambda statements: statements.rows(_MISSING, values))
        return [UnembeddedMessage(*row) for row in rows]

    async def keep(self, model_id: ModelId, vectors: Sequence[NewVector]) -> None:
        codes: list[tuple[Value, ...]] = []
        blobs: list[tuple[Value, ...]] = []
        for new in vectors:
            blobs.append((new.message_id, model_id, blob(new.vector) if new.vector is not None else None))
            if new.vector is not None:
                codes.append((new.message_id, model_id, code_of(new.vector)))
        self._statements.many(_VECTOR, blobs)
        self._statements.many(_CODE, codes)

    async def advance(self, model_id: ModelId, project_id: ProjectId, added: int, settled: timedelta) -> None:
        self._statements.rows(_ADVANCE, (model_id, project_id, self._before(settled), added))

    async def is_wide(self, model_id: ModelId, project_ids: Sequence[ProjectId] | None, most: int) -> bool:
        ids = orjson.dumps(project_ids).decode() if project_ids is not None else None
        [(counted,)] = self._statements.rows(_COUNTED, (model_id, ids))
        if counted <= most:
            return False
        # Vectors that went with their messages are not taken off the count.
        rows = await self._statements.apart(lambda statements: statements.rows(_COUNT, (model_id, ids, most + 1)))
        return int(rows[0][0]) > most

    async def behind(self, name: str, dimensions: int, limit: int) -> list[tuple[ProjectId, TeamId]]:
        values = (name, dimensions, limit)
        rows = await self._statements.apart(lambda statements: statements.rows(_BEHIND, values))
        return [(row[0], row[1]) for row in rows]

    async def lately(self, name: str, dimensions: int, limit: int) -> list[tuple[ProjectId, TeamId]]:
        return [(row[0], row[1]) for row in self._statements.rows(_LATELY, (name, dimensions, limit))]

    async def complete(self, name: str, dimensions: int, settled: timedelta) -> None:
        self._statements.rows(_COMPLETE, (name, dimensions, self._before(settled)))

    async def used(self, name: str, dimensions: int) -> None:
        self._statements.rows(
            "UPDATE embedding_models SET used_at = ? WHERE name = ? AND dimensions = ?",
            (self._clock.microseconds(), name, dimensions),
        )

    async def forget(self, unused: timedelta, limit: int) -> int:
        row = self._statements.row(
            "SELECT id FROM embedding_models WHERE used_at < ? ORDER BY id LIMIT 1", (self._before(unused),)
        )
        if row is None:
            return 0
        # First of all nobody finds it ready any more, should it come into use again.
        self._statements.rows("UPDATE embedding_models SET is_ready = 0 WHERE id = ?", row)
        self._statements.rows("DELETE FROM embedding_positions WHERE model_id = ?", row)
        gone = self._statements.rows(
            """
            DELETE FROM message_vectors WHERE id IN (SELECT id FROM message_vectors WHERE model_id = ? LIMIT ?)
            RETURNING message_id
            """,
            (row[0], limit),
        )
        self._statements.rows(
            "DELETE FROM message_codes WHERE model_id = ? AND message_id IN (SELECT value FROM json_each(?))",
            (row[0], orjson.dumps([message_id for (message_id,) in gone]).decode()),
        )
        if not gone:
            self._statements.rows("DELETE FROM embedding_models WHERE id = ?", row)
        return len(gone)

    def _before(self, age: timedelta) -> int:
        return self._clock.microseconds() - age // MICROSECOND


def _model(row: Row) -> EmbeddingModel:
    return EmbeddingModel(row[0], row[1], bool(row[2]))
