"""How a search is answered: by words, by meaning, or by both, and how the two lists become one.

Reciprocal rank fusion (Cormack, Clarke, Büttcher 2009): a hit counts 1 / (60 + its rank) in each list that has it.
Ranks alone are compared, because a text rank and a similarity have nothing in common.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from agent_mail_core.embeddings import MOST_SEARCHED, EmbeddingModel, Sought
from agent_mail_core.errors import MeaningUnavailable, ModeUnavailable, SearchTooWide
from agent_mail_core.ids import MessageId
from agent_mail_core.ports import App
from agent_mail_core.query_vectors import QueryVectors
from agent_mail_core.search_query import Query

if TYPE_CHECKING:
    from agent_mail_core.message_search import SearchFilter

RANK_CONSTANT = 60
NEAREST = 100
"""Hits by meaning alone; what comes after them is hardly ever meant."""

SearchMode = Literal["text", "semantic", "hybrid"]
AskedMode = Literal["auto", "text", "semantic", "hybrid"]
Semantic = Literal["used", "partial", "not_asked", "off", "not_ready", "failed", "too_wide"]
"""What became of the search by meaning. Partial: some mail has no vector yet. The last four are why text alone was
searched: no model, mail not embedded yet, the model did not answer in time, more than MOST_SEARCHED vectors."""


@dataclass(frozen=True, slots=True)
class Way:
    """How a search is answered."""

    mode: SearchMode
    semantic: Semantic
    sought: Sought | None = None
    """Set unless mode is text."""


BY_TEXT = Way("text", "not_asked")


async def way(app: App, query: Query, wanted: SearchFilter, asked: AskedMode, going_on: SearchMode | None) -> Way:
    """How to answer: as `asked`, and a further page as its first one was, which `going_on` names.

    Auto takes the best that there is, and so does hybrid when the model does not answer; what they do without is said.
    """
    if asked == "text" or going_on == "text" or not (query.has_free_words if asked == "auto" else query.meaning):
        if asked != "text" and app.query_vectors is None:
            return _without(asked, "off")
        return BY_TEXT
    queries = app.query_vectors
    if queries is None:
        return _without(asked, "off")
    model, is_too_wide = await _model(app, queries, wanted)
    if model is None or (asked == "auto" and going_on is None and not model.is_ready):
        return _without(asked, "not_ready")
    if is_too_wide:
        return _without(asked, "too_wide")
    vector = await queries.of(query.meaning)
    if vector is None:
        if asked == "semantic" or going_on is not None:
            raise MeaningUnavailable(suggestion="search_messages with mode=text")
        return Way("text", "failed")
    mode = asked if asked != "auto" else "hybrid"
    return Way(mode, "used" if model.is_ready else "partial", Sought(model.id, vector, query.demands))


def _without(asked: AskedMode, reason: Semantic) -> Way:
    """Text alone; an error for who insists on more."""
    if asked == "auto":
        return Way("text", reason)
    suggestion = "search_messages with mode=text"
    if reason == "not_ready":
        raise MeaningUnavailable("Mail is not embedded yet: try again later, or use mode=text.", suggestion=suggestion)
    if reason == "too_wide":
        raise SearchTooWide(most=MOST_SEARCHED, suggestion=suggestion)
    raise ModeUnavailable(mode=asked, suggestion=suggestion)


async def _model(app: App, queries: QueryVectors, wanted: SearchFilter) -> tuple[EmbeddingModel | None, bool]:
    """The model as the team has it, and whether there are too many vectors to look through."""
    embedder = queries.embedder
    async with app.store.read() as db:
        model = await db.embeddings.model(wanted.team_id, embedder.model, embedder.dimensions)
        if model is None:
            return None, False
        return model, await db.embeddings.is_wide(model.id, wanted.project_ids, MOST_SEARCHED)


async def best_ids(
    app: App, query: Query, wanted: SearchFilter, sought: Sought, mode: SearchMode, most: int
) -> list[MessageId]:
    """The ids of the hits by meaning, or by words and meaning together, best first."""
    if mode == "semantic":
        return await _near(app, sought, wanted)
    by_words, by_meaning = await asyncio.gather(_by_words(app, query, wanted, most), _near(app, sought, wanted))
    return fused(by_words, by_meaning)[:most]


async def _by_words(app: App, query: Query, wanted: SearchFilter, most: int) -> list[MessageId]:
    async with app.store.read() as db:
        return await db.message_search.ranked(query, wanted, most)


async def _near(app: App, sought: Sought, wanted: SearchFilter) -> list[MessageId]:
    async with app.store.read() as db:
        found = await db.message_search.nearest(sought, wanted, NEAREST)
    least = app.settings.embeddings_min_similarity
    return [message_id for message_id, similarity in found if similarity >= least]


def fused(*lists: Sequence[MessageId]) -> list[MessageId]:
    """One list of several, by reciprocal ranks, then newest first."""
    scores: defaultdict[MessageId, float] = defaultdict(float)
    for ids in lists:
        for message_id, score in zip(ids, _scores(len(ids)), strict=True):
            scores[message_id] += score
    return sorted(scores, key=lambda message_id: (-scores[message_id], -message_id))


def _scores(count: int) -> Iterable[float]:
    return (1 / (RANK_CONSTANT + rank) for rank in range(1, count + 1))
