"""Searching messages on PostgreSQL: what is stored of a text, and a query as one boolean expression.

Words are looked up in a GIN index, phrases then by `strpos` in the message's parts in sequence. Both hold what the
core's search_text makes, so what is found is what `search_query.matches` says. Positions and weights serve the rank
alone.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from agent_mail_core.embeddings import WEIGHED, Sought
from agent_mail_core.ids import MessageId
from agent_mail_core.message_search import MessageSearch, SearchFilter
from agent_mail_core.messages import MessageRecord
from agent_mail_core.search_query import After, Before, Clause, From, Leaf, Query, Thread, Words, phrase_needle
from agent_mail_core.search_text import IndexedText, phrase_text
from agent_mail_store.postgres.embeddings import bits
from agent_mail_store.postgres.messages import message_record
from agent_mail_store.postgres.statements import PLANNED_ANEW, Statements

RANKED = 2_000
"""Of the matches the newest so many are ranked: a common word must not cost the rank of a million messages."""

PRICE = 4
"""Walking the newest messages and looking at the words of each costs so many times what PostgreSQL takes it for. So it
is told that so many times more are wanted: then it walks for the most frequent words alone, and stops early all the
same, as a CTE gives its rows when they are asked for."""

MAX_POSITION = 16383
"""A tsvector counts no further. Of one word it keeps 255 places."""

FEW_PARTS = 500
"""PostgreSQL puts together what is named twice, which takes half the time of doing it here. More parts might be more
than the 1 MiB that it reads before it has done so."""

_FIND_BEGIN = """
    WITH found AS MATERIALIZED (
        SELECT m.id FROM messages m
        WHERE m.team_id = $1
"""
_RANK = "(SELECT ts_rank(m.words, {terms}::text::tsquery) FROM messages m WHERE m.id = newest.id)"
"""Each looked up by itself. For a join PostgreSQL may read all mail there is."""

_OF_LIVING = "AND m.project_id <> ALL (ARRAY (SELECT id FROM projects WHERE team_id = $1 AND deleted_at IS NOT NULL))"
_OF_SENDER = "m.sender_id = ANY (ARRAY (SELECT id FROM agents WHERE team_id = {team} AND name_key = {name}))"
_IN_THREAD = "m.thread_id = ANY (ARRAY (SELECT id FROM threads WHERE team_id = {team} AND key_lower = {key}))"
_FIND_END = """
        ORDER BY m.id DESC LIMIT $2 * {price}
    )
    SELECT id, {rank} AS rank FROM (SELECT id FROM found LIMIT $2) newest ORDER BY rank DESC, id DESC OFFSET $3 LIMIT $4
""".replace("{price}", str(PRICE))
_RECORDS = """
    SELECT m.id, m.team_id, m.project_id, p.slug, m.thread_id, t.key, m.parent_id, m.sender_id, s.name,
           m.subject, m.body_md, m.priority, m.ack_required, m.created_at,
           CASE WHEN s.project_id <> m.project_id THEN (SELECT slug FROM projects WHERE id = s.project_id) END
    FROM {found}
    JOIN messages m USING (id)
    JOIN projects p ON p.id = m.project_id JOIN threads t ON t.id = m.thread_id
    JOIN agents s ON s.id = m.sender_id
    ORDER BY {order}
"""
_OF_IDS = _RECORDS.format(found="unnest($1::bigint[]) WITH ORDINALITY AS best (id, place)", order="best.place")

_CODES_BEGIN = """
    WITH found AS MATERIALIZED (
        SELECT c.message_id AS id FROM message_codes c
        WHERE c.model_id = $2 AND $1::bigint IS NOT NULL
"""
_CODES_END = """
        ORDER BY bit_count(c.code # $3::varbit), c.message_id DESC LIMIT $4
    )
    SELECT v.message_id, (
        SELECT sum(a * b) FROM (SELECT unnest(v.vector) AS a, unnest($5::real[]) AS b OFFSET 0) pair
    ) AS similarity
    FROM found JOIN message_vectors v ON v.message_id = found.id AND v.model_id = $2
    ORDER BY similarity DESC, v.message_id DESC LIMIT $6
"""
_IN_LIVING = "AND c.project_id = ANY (ARRAY (SELECT id FROM projects WHERE team_id = $1 AND deleted_at IS NULL))"
_OF_AGENT = """
    AND c.message_id = ANY (ARRAY (
        SELECT id FROM messages WHERE sender_id = {agent}::bigint
        UNION ALL SELECT message_id FROM deliveries WHERE agent_id = {agent}::bigint AND kind < {kinds}::int
    ))
"""


class PostgresMessageSearch(MessageSearch):
    def __init__(self, db: Statements) -> None:
        self._db = db

    async def find(self, query: Query, wanted: SearchFilter, offset: int, limit: int) -> list[MessageRecord]:
        statement, values = _search(query, wanted, offset, limit)
        best = f"({statement}) best"
        records = _RECORDS.format(found=best, order="best.rank DESC, m.id DESC")
        rows = await self._db.rows(f"{PLANNED_ANEW} {records}", *values)
        return [message_record(row) for row in rows]

    async def ranked(self, query: Query, wanted: SearchFilter, limit: int) -> list[MessageId]:
        statement, values = _search(query, wanted, 0, limit)
        return [row["id"] for row in await self._db.rows(f"{PLANNED_ANEW} {statement}", *values)]

    async def nearest(self, sought: Sought, wanted: SearchFilter, limit: int) -> list[tuple[MessageId, float]]:
        statement, values = _nearest(sought, wanted, limit)
        rows = await self._db.rows(f"{PLANNED_ANEW} {statement}", *values)
        return [(row["message_id"], row["similarity"]) for row in rows]

    async def records(self, message_ids: Sequence[MessageId]) -> list[MessageRecord]:
        return [message_record(row) for row in await self._db.rows(_OF_IDS, message_ids)]


def _search(query: Query, wanted: SearchFilter, offset: int, limit: int) -> tuple[str, list[Any]]:
    """The statement that finds ids with their ranks, best first, and its values."""
    arguments = _Arguments([wanted.team_id, RANKED, offset, limit])
    statement = [_FIND_BEGIN]
    if wanted.project_ids is None:
        statement.append(_OF_LIVING)
    elif len(wanted.project_ids) == 1:  # whose messages an index gives in order
        statement.append(f"AND m.project_id = {arguments.add(wanted.project_ids[0])}::bigint")
    else:
        statement.append(f"AND m.project_id = ANY ({arguments.add(list(wanted.project_ids))}::bigint[])")
    if wanted.agent_id is not None:
        agent, kinds = arguments.add(wanted.agent_id), arguments.add(3 if wanted.with_hidden else 2)
        statement.append(
            f"AND (m.sender_id = {agent}::bigint OR EXISTS (SELECT FROM deliveries d WHERE d.message_id = m.id"
            f" AND d.agent_id = {agent}::bigint AND d.kind < {kinds}::int))"
        )
    if wanted.since is not None:
        statement.append(f"AND m.created_at >= {arguments.add(wanted.since)}::timestamptz")
    statement += [f"AND {_condition(clause, arguments)}" for clause in query.clauses]
    terms = " | ".join(_rank_terms(query))
    rank = _RANK.replace("{terms}", arguments.add(terms)) if terms else "0"
    statement.append(_FIND_END.replace("{rank}", rank))
    return "\n".join(statement), arguments.values


def _nearest(sought: Sought, wanted: SearchFilter, limit: int) -> tuple[str, list[Any]]:
    """The statement that finds ids by their vectors, with its values: the best by the codes, weighed by the vectors."""
    values = [wanted.team_id, sought.model_id, bits(sought.vector), WEIGHED, list(sought.vector), limit]
    arguments = _Arguments(values)
    statement = [_CODES_BEGIN]
    if wanted.project_ids is None:
        statement.append(_IN_LIVING)
    else:
        statement.append(f"AND c.project_id = ANY ({arguments.add(list(wanted.project_ids))}::bigint[])")
    if wanted.since is not None:
        statement.append(f"AND c.created_at >= {arguments.add(wanted.since)}::timestamptz")
    if wanted.agent_id is not None:
        agent, kinds = arguments.add(wanted.agent_id), arguments.add(3 if wanted.with_hidden else 2)
        statement.append(_OF_AGENT.replace("{agent}", agent).replace("{kinds}", kinds))
    if sought.demands.clauses:
        conditions = " AND ".join(_condition(clause, arguments) for clause in sought.demands.clauses)
        statement.append(f"AND EXISTS (SELECT FROM messages m WHERE m.id = c.message_id AND {conditions})")
    statement.append(_CODES_END)
    return "\n".join(statement), arguments.values


class _Arguments:
    """Values bound to a statement that is being put together. The first one is the team."""

    team = "$1::bigint"

    def __init__(self, values: list[Any]) -> None:
        self.values = values

    def add(self, value: Any) -> str:
        """The placeholder that stands for the value."""
        self.values.append(value)
        return f"${len(self.values)}"


def _condition(clause: Clause, arguments: _Arguments) -> str:
    leaves = [("NOT " if leaf.is_negated else "") + f"({_leaf(leaf, arguments)})" for leaf in clause.leaves]
    return f"({' OR '.join(leaves)})"


def _leaf(leaf: Leaf, arguments: _Arguments) -> str:
    match leaf:
        case Words():
            words = f"m.words @@ {arguments.add(_all_of(leaf))}::text::tsquery"
            if leaf.in_subject:
                return f"{words} AND strpos(m.subject_phrases, {arguments.add(phrase_needle(leaf))}) > 0"
            if len(leaf.parts) == 1:
                return words
            needle = arguments.add(phrase_needle(leaf))
            return f"{words} AND (strpos(m.subject_phrases, {needle}) > 0 OR strpos(m.body_phrases, {needle}) > 0)"
        case From():
            name = arguments.add(leaf.name.casefold())
            return _OF_SENDER.replace("{team}", arguments.team).replace("{name}", name)
        case Thread():
            key = arguments.add(leaf.key.casefold())
            return _IN_THREAD.replace("{team}", arguments.team).replace("{key}", key)
        case Before():
            return f"m.created_at < {arguments.add(leaf.at)}::timestamptz"
        case After():
            return f"m.created_at >= {arguments.add(leaf.at)}::timestamptz"


def _all_of(leaf: Words) -> str:
    """The tsquery for messages that hold each part somewhere."""
    *parts, last = [_quoted(part) for part in leaf.parts]
    return " & ".join(dict.fromkeys([*parts, f"{last}:*" if leaf.is_prefix else last]))


def _rank_terms(query: Query) -> Iterable[str]:
    """What counts for the rank: the words that are looked for, and the wholes that they make."""
    leaves = [leaf for clause in query.clauses for leaf in clause.leaves]
    words = [leaf for leaf in leaves if isinstance(leaf, Words) and not leaf.is_negated]
    terms = [f"({_all_of(leaf)})" for leaf in words]
    terms += [f"{_quoted(leaf.whole)}{':*' if leaf.is_prefix else ''}" for leaf in words if leaf.whole is not None]
    return dict.fromkeys(terms)


def _quoted(lexeme: str) -> str:
    return "'" + lexeme.replace("\\", "\\\\").replace("'", "''") + "'"


@dataclass(frozen=True, slots=True)
class StoredBody:
    """What is stored of a body's parts. Made before the transaction, as it takes milliseconds for a long one."""

    words: str
    phrases: str


def stored_body(text: IndexedText) -> StoredBody:
    """The words and phrases of a body."""
    return StoredBody(_words(text.body_parts, ""), phrase_text(text.body_parts))


def stored_words(text: IndexedText, body: StoredBody) -> str:
    """The tsvector of a message as text; PostgreSQL puts together what is named twice."""
    wholes = " ".join(map(_quoted, text.wholes))
    return f"{_words(text.subject_parts, 'A')} {body.words} {wholes}"


def _words(parts: Sequence[str], weight: str) -> str:
    """Each part with its places. Parts are letters, digits and symbols: there is nothing to quote."""
    if len(parts) <= FEW_PARTS:
        return " ".join([f"'{part}':{place}{weight}" for place, part in enumerate(parts, 1)])
    places: dict[str, str] = {}
    for place, part in enumerate(parts[:MAX_POSITION], 1):
        known = places.get(part)
        places[part] = f"{known},{place}{weight}" if known else f"{place}{weight}"
    words = [f"'{part}':{where}" for part, where in places.items()]
    words += [f"'{part}'" for part in dict.fromkeys(parts[MAX_POSITION:]) if part not in places]
    return " ".join(words)
