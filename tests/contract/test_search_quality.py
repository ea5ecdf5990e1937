"""How well each mode finds labelled mail, on both engines: recall in the first ten hits, and mean reciprocal rank.

The vectors are read from `labelled_vectors/` by the embedder of EMBEDDINGS=local. They are of the words of this mail
and these questions alone: what all-MiniLM-L6-v2 (Apache 2.0) makes of each, in 128 dimensions. So the figures are those
of a stand-in, not of a model that anybody would run; docs/search.md says what was measured with the real one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from agent_mail_core.ports import App
from agent_mail_core.search_by_meaning import SearchMode
from agent_mail_core.settings import Settings
from agent_mail_embeddings.opening import open_query_vectors
from tests.contract.databases import Database
from tests.contract.labelled_mail import MAIL, QUERIES
from tests.contract.office import Office
from tests.contract.test_search_by_meaning import embed

FIRST = 10


@dataclass(frozen=True)
class Quality:
    """Means over all queries."""

    recall: float
    """Of what helps, the part in the first ten hits, by grades."""
    reciprocal_rank: float
    """Of the first hit that was meant."""


@pytest.fixture
async def app(app: App) -> AsyncIterator[App]:
    chosen = Settings(embeddings="local", embeddings_path=str(Path(__file__).with_name("labelled_vectors")))
    async with open_query_vectors(chosen) as queries:
        yield replace(app, query_vectors=queries)


async def measured(office: Office, mode: SearchMode, keys: dict[int, str]) -> Quality:
    recalls, ranks = [], []
    for query, grades in QUERIES.items():
        hits = (await office.search(query, mode=mode, limit=FIRST)).hits
        found = [keys[hit.message_id] for hit in hits]
        recalls.append(sum(grades.get(key, 0) for key in found) / sum(grades.values()))
        ranks.append(next((1 / rank for rank, key in enumerate(found, 1) if grades.get(key) == 2), 0.0))
    return Quality(sum(recalls) / len(recalls), sum(ranks) / len(ranks))


def test_the_labels_are_of_mail_that_there_is() -> None:
    assert len(MAIL) >= 60
    assert len(QUERIES) >= 25
    assert {key for grades in QUERIES.values() for key in grades} <= set(MAIL)


async def test_words_and_meaning_together_find_more_than_each_alone(office: Office, database: Database) -> None:
    keys = {}
    for key, (subject, body) in MAIL.items():
        keys[(await office.send("Ann", ["Bob"], subject=subject, body=body)).message_id] = key
    await embed(office, database)
    text = await measured(office, "text", keys)
    semantic = await measured(office, "semantic", keys)
    hybrid = await measured(office, "hybrid", keys)
    print(f"\ntext {text}\nsemantic {semantic}\nhybrid {hybrid}")
    assert text.recall < 0.5 < 0.8 < semantic.recall <= hybrid.recall
    assert text.reciprocal_rank < semantic.reciprocal_rank < hybrid.reciprocal_rank
