"""Searching messages in SQLite: words by FTS5, all else by SQL, together as `search_query.matches` defines.

Clauses of words alone become one MATCH expression that also ranks. What FTS5 cannot say (an OR with a negation, or with
a leaf that is not words) becomes a condition on the message.
"""

from collections.abc import Sequence
from typing import Any

import orjson

from agent_mail_core.clock import to_microseconds
from agent_mail_core.embeddings import WEIGHED, Sought, code_of
from agent_mail_core.fields import RECIPIENT_KINDS
from agent_mail_core.ids import MessageId
from agent_mail_core.message_search import MessageSearch, SearchFilter
from agent_mail_core.messages import MessageRecord
from agent_mail_core.search_query import After, Before, Clause, From, Leaf, Query, Thread, Words, fts5_expression
from agent_mail_store.sqlite.embeddings import blob
from agent_mail_store.sqlite.messages import message_record
from agent_mail_store.sqlite.statements import Statements, Value

_RANK = "bm25(message_text, 5.0, 1.0, 2.0)"
"""A word of the subject counts five times one of the body; a path or id kept whole adds to its parts."""

_CODES = """
    SELECT m.id FROM (
        SELECT message_id AS id, project_id, sender_id, thread_id, created_at, code
        FROM message_codes WHERE model_id = ?
    ) m
"""
_BY_CODE = "ORDER BY vec_distance_hamming(vec_bit(m.code), vec_bit(?)), m.id DESC LIMIT ?"
_BY_VECTOR = """
    SELECT v.message_id, 1 - vec_distance_cosine(v.vector, ?) AS similarity
    FROM ({near}) near CROSS JOIN message_vectors v ON v.message_id = near.id AND v.model_id = ?
    ORDER BY similarity DESC, v.message_id DESC LIMIT ?
"""

_OF_TEAM = "project_id IN (SELECT id FROM projects WHERE team_id = ?)"
"""Whoever writes into a project may be of another one."""


class SqliteMessageSearch(MessageSearch):
    __slots__ = ("_statements",)

    def __init__(self, statements: Statements) -> None:
        self._statements = statements

    async def find(self, query: Query, wanted: SearchFilter, offset: int, limit: int) -> list[MessageRecord]:
        sql, values = _search(query, wanted)

        def work(statements: Statements) -> list[MessageRecord]:
            with statements.one_state():
                return _records(statements, [row[0] for row in statements.rows(sql, (*values, limit, offset))])

        return await self._statements.apart(work)

    async def ranked(self, query: Query, wanted: SearchFilter, limit: int) -> list[MessageId]:
        sql, values = _search(query, wanted)
        rows = await self._statements.apart(lambda statements: statements.rows(sql, (*values, limit, 0)))
        return [row[0] for row in rows]

    async def nearest(self, sought: Sought, wanted: SearchFilter, limit: int) -> list[tuple[MessageId, float]]:
        sql, values = _nearest(sought, wanted, limit)
        rows = await self._statements.apart(lambda statements: statements.rows(sql, tuple(values)))
        return [(row[0], row[1]) for row in rows]

    async def records(self, message_ids: Sequence[MessageId]) -> list[MessageRecord]:
        return await self._statements.apart(lambda statements: _records(statements, message_ids))


def _records(statements: Statements, ids: Sequence[MessageId]) -> list[MessageRecord]:
    rows = statements.rows(
        """
        SELECT m.id, m.team_id, m.project_id, p.slug, m.thread_id, t.key, m.parent_id, m.sender_id, a.name,
            m.subject, m.body_md, m.priority, m.ack_required, m.created_at,
            CASE WHEN a.project_id <> m.project_id
                THEN (SELECT slug FROM projects WHERE id = a.project_id) END
        FROM json_each(?) found
        CROSS JOIN messages m ON m.id = found.value
        CROSS JOIN projects p ON p.id = m.project_id
        CROSS JOIN threads t ON t.id = m.thread_id
        CROSS JOIN agents a ON a.id = m.sender_id
        ORDER BY found.key
        """,
        (orjson.dumps(ids).decode(),),
    )
    return [message_record(row) for row in rows]


def _search(query: Query, wanted: SearchFilter) -> tuple[str, list[Value]]:
    """The statement that finds the ids, and its values but for limit and offset."""
    match, rest = _match_expression(query)
    conditions: list[str] = []
    values: list[Value] = []

    def need(condition: str, *more: Value) -> None:
        conditions.append(condition)
        values.extend(more)

    if match is not None:
        need("message_text MATCH ?", match)
    # The sign keeps the planner from walking the team's messages where words, a sender or a thread lead to fewer.
    is_led = match is not None or any(_leads(clause) for clause in rest)
    sign = "+" if is_led else ""
    if wanted.project_ids is None:
        need(f"{sign}m.team_id = ?", wanted.team_id)
        need("m.project_id NOT IN (SELECT id FROM projects WHERE deleted_at IS NOT NULL)")
    elif len(wanted.project_ids) == 1:  # whose messages an index gives in order
        need(f"{sign}m.project_id = ?", wanted.project_ids[0])
        need("+m.team_id = ?", wanted.team_id)
    else:
        need(f"{sign}m.team_id = ?", wanted.team_id)
        need("+m.project_id IN (SELECT value FROM json_each(?))", orjson.dumps(wanted.project_ids).decode())
    if wanted.since is not None:
        need("m.created_at >= ?", to_microseconds(wanted.since))
    if wanted.agent_id is not None:
        need(
            "(m.sender_id = ? OR EXISTS (SELECT 1 FROM deliveries d WHERE d.message_id = m.id AND d.agent_id = ?"
            " AND d.kind <= ?))",
            wanted.agent_id,
            wanted.agent_id,
            RECIPIENT_KINDS.index("bcc" if wanted.with_hidden else "cc"),
        )
    for clause in rest:
        need(*_any_of(clause, wanted))
    tables = "messages m" if match is None else "message_text CROSS JOIN messages m ON m.id = message_text.rowid"
    order = "m.id DESC" if match is None else f"{_RANK}, m.id DESC"
    return " ".join(
        ["SELECT m.id FROM", tables, "WHERE", " AND ".join(conditions), "ORDER BY", order, "LIMIT ? OFFSET ?"]
    ), values


def _nearest(sought: Sought, wanted: SearchFilter, limit: int) -> tuple[str, list[Value]]:
    """The statement that finds ids by their vectors, with its values: the best by the codes, weighed by the vectors."""
    conditions: list[str] = []
    values: list[Value] = [sought.model_id]

    def need(condition: str, *more: Value) -> None:
        conditions.append(condition)
        values.extend(more)

    if wanted.project_ids is None:
        need("m.project_id IN (SELECT id FROM projects WHERE team_id = ? AND deleted_at IS NULL)", wanted.team_id)
    else:
        need("m.project_id IN (SELECT value FROM json_each(?))", orjson.dumps(wanted.project_ids).decode())
    if wanted.since is not None:
        need("m.created_at >= ?", to_microseconds(wanted.since))
    if wanted.agent_id is not None:
        need(
            "m.id IN (SELECT id FROM messages WHERE sender_id = ?"
            " UNION ALL SELECT message_id FROM deliveries WHERE agent_id = ? AND kind <= ?)",
            wanted.agent_id,
            wanted.agent_id,
            RECIPIENT_KINDS.index("bcc" if wanted.with_hidden else "cc"),
        )
    for clause in sought.demands.clauses:
        need(*_any_of(clause, wanted))
    sql = " ".join([_CODES, "WHERE", " AND ".join(conditions), _BY_CODE])
    values += [code_of(sought.vector), WEIGHED]
    return _BY_VECTOR.replace("{near}", sql), [blob(sought.vector), *values, sought.model_id, limit]


def _any_of(clause: Clause, wanted: SearchFilter) -> tuple[Any, ...]:
    """A condition that one of the clause's leaves is met, and its values."""
    alternatives = [_condition(leaf, wanted) for leaf in clause.leaves]
    text = " OR ".join(condition for condition, _ in alternatives)
    return (f"({text})", *(value for _, more in alternatives for value in more))


def _leads(clause: Clause) -> bool:
    leaf = clause.leaves[0]
    return len(clause.leaves) == 1 and isinstance(leaf, From | Thread) and not leaf.is_negated


def _match_expression(query: Query) -> tuple[str | None, list[Clause]]:
    """What FTS5 decides (None: nothing), and the clauses that are left."""
    wanted: list[str] = []
    unwanted: list[tuple[str, Clause]] = []
    rest: list[Clause] = []
    for clause in query.clauses:
        words = [leaf for leaf in clause.leaves if isinstance(leaf, Words)]
        if len(words) < len(clause.leaves):
            rest.append(clause)
        elif not any(leaf.is_negated for leaf in words):
            wanted.append(f"({' OR '.join(map(fts5_expression, words))})")
        elif len(words) == 1:
            unwanted.append((fts5_expression(words[0]), clause))
        else:
            rest.append(clause)
    if not wanted:  # NOT in FTS5 takes away from something
        return None, rest + [clause for _, clause in unwanted]
    expression = " AND ".join(wanted)
    if unwanted:
        expression = f"({expression}) NOT ({' OR '.join(text for text, _ in unwanted)})"
    return expression, rest


def _condition(leaf: Leaf, wanted: SearchFilter) -> tuple[str, list[Value]]:
    """A leaf as SQL on the message `m`."""
    values: list[Value]
    match leaf:
        case Words():
            text = "m.id IN (SELECT rowid FROM message_text WHERE message_text MATCH ?)"
            values = [fts5_expression(leaf)]
        case From():
            # Names are ASCII: one that folds to more is nobody's.
            text = " ".join(["m.sender_id IN (SELECT id FROM agents WHERE", _OF_TEAM, "AND name = ?)"])
            values = [wanted.team_id, leaf.name.casefold()]
        case Thread():
            scope, scope_value = _OF_TEAM, int(wanted.team_id)
            if wanted.project_ids is not None and len(wanted.project_ids) == 1:  # where its threads are, too
                scope, scope_value = "project_id = ?", wanted.project_ids[0]
            text = " ".join(["m.thread_id IN (SELECT id FROM threads WHERE", scope, "AND key = ?)"])
            values = [scope_value, leaf.key.casefold()]
        case Before():
            text, values = "m.created_at < ?", [to_microseconds(leaf.at)]
        case After():
            text, values = "m.created_at >= ?", [to_microseconds(leaf.at)]
    return (f"NOT {text}" if leaf.is_negated else text), values
