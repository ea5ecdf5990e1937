"""Searching by meaning, on both engines: what is embedded when, who finds what, and what happens without a model."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from agent_mail_core import search_by_meaning
from agent_mail_core.embedding_jobs import TEXTS_AT_ONCE, UNUSED, embed_project, sweep_embeddings
from agent_mail_core.embeddings import MOST_SEARCHED, TEXT_CHARACTERS
from agent_mail_core.errors import InvalidCursor, MeaningUnavailable, ModeUnavailable, SearchTooWide
from agent_mail_core.job_queue import JobKind
from agent_mail_core.jobs import Job, perform
from agent_mail_core.ports import App
from agent_mail_core.project_deletion import DeleteProject, delete_project, sweep_deleted
from agent_mail_core.query_vectors import QueryVectors
from tests.contract.concepts import Concepts
from tests.contract.databases import Database
from tests.contract.office import Office, caller, pages, subjects

KINDS: list[JobKind] = ["embedding"]
LEASE = timedelta(seconds=30)
LATER = timedelta(minutes=5)


@pytest.fixture
def model() -> Concepts:
    return Concepts()


@pytest.fixture
def app(app: App, model: Concepts) -> App:
    """With a model; a test does the jobs itself."""
    return replace(app, query_vectors=QueryVectors(model))


def with_model(office: Office, model: Concepts) -> Office:
    return office.at(replace(office.app, query_vectors=QueryVectors(model)))


async def claim(app: App) -> Job | None:
    async with app.store.write() as db:
        return await db.jobs.claim(KINDS, LEASE)


async def work(office: Office) -> int:
    """Sweep, and do all embedding jobs that there are; how many."""
    await sweep_embeddings(office.app)
    done = 0
    while (job := await claim(office.app)) is not None:
        performed = await perform(office.app, {"embedding": embed_project}, job)
        assert performed.outcome == "done", performed
        done += 1
    return done


async def embed(office: Office, database: Database) -> None:
    """Embed all mail, and see that the model is ready."""
    await database.age("messages", LATER)
    await work(office)
    await sweep_embeddings(office.app)


async def talk(office: Office) -> None:
    await office.send("Ann", ["Bob"], subject="Password reset", body="Credentials are refused after the reset.")
    await office.send("Bob", ["Ann"], subject="Segfault in the parser", body="It aborts on empty input.")
    await office.send("Cid", ["Dot"], subject="Rollout on Monday", body="We ship version 4.")


async def test_hybrid_is_what_a_search_does_by_itself(office: Office, database: Database) -> None:
    await talk(office)
    await embed(office, database)
    page = await office.search("login")
    assert (page.mode, page.semantic) == ("hybrid", "used")
    assert subjects(page.hits) == ["Password reset"]
    assert page.hits[0].rank == 1
    assert page.hits[0].snippet.startswith("Credentials are refused")
    assert subjects((await office.search("login", mode="semantic")).hits) == ["Password reset"]
    text = await office.search("login", mode="text")
    assert (text.hits, text.mode, text.semantic) == ([], "text", "not_asked")


async def test_what_both_find_comes_first(office: Office, database: Database) -> None:
    await office.send("Ann", ["Bob"], subject="Latency of the gateway")
    await office.send("Ann", ["Bob"], subject="Slow gateway")
    await office.send("Ann", ["Bob"], subject="The gateway is on fire, and slow to respond to anybody who calls it")
    await embed(office, database)
    hits = subjects((await office.search("slow gateway", mode="hybrid")).hits)
    assert hits[0] == "Slow gateway"
    assert sorted(hits[1:]) == [
        "Latency of the gateway",
        "The gateway is on fire, and slow to respond to anybody who calls it",
    ]


@pytest.mark.parametrize(
    "query, found",
    [
        ("login from:Ann", ["Password reset"]),
        ("login from:Bob", []),
        ("login -credentials", []),
        ('login "after the reset"', ["Password reset"]),
        ('login "the other reset"', []),
        ("login subject:password", ["Password reset"]),
        ("login subject:credentials", []),
        ("login thread:T-1", ["Password reset"]),
        ("login thread:T-2", []),
        ("login after:2999-01-01", []),
        ("login before:2999-01-01", ["Password reset"]),
        ("login OR gearbox", ["Password reset"]),
        ("login (from:Ann)", ["Password reset"]),
        ("-from:Bob login", ["Password reset"]),
        ("login from:Bob OR from:Ann", ["Password reset"]),
    ],
)
async def test_filters_hold_for_what_is_found_by_meaning(
    office: Office, database: Database, query: str, found: list[str]
) -> None:
    await office.send(
        "Ann", ["Bob"], subject="Password reset", body="Credentials are refused after the reset.", thread_id="T-1"
    )
    await embed(office, database)
    for mode in ("semantic", "hybrid"):
        assert subjects((await office.search(query, mode=mode)).hits) == found, mode


@pytest.mark.parametrize("query", ["from:Ann", '"password reset"', "pass*", "thread:T-1 -login"])
async def test_a_query_without_free_words_is_a_text_search(office: Office, database: Database, query: str) -> None:
    await talk(office)
    await embed(office, database)
    page = await office.search(query)
    assert (page.mode, page.semantic) == ("text", "not_asked")


async def test_since_holds_for_what_is_found_by_meaning(office: Office, database: Database) -> None:
    await talk(office)
    await embed(office, database)
    assert (await office.search("login", since="2999-01-01T00:00:00Z")).hits == []


async def test_only_the_eyes_of_a_hidden_recipient_find_what_it_got(office: Office, database: Database) -> None:
    await office.send("Ann", ["Bob"], bcc=["Cid"], subject="Credentials")
    await embed(office, database)
    assert subjects((await office.search("login", agent_name="Cid")).hits) == ["Credentials"]
    assert (await office.of("somebody").search("login", agent_name="Cid")).hits == []
    assert subjects((await office.of("somebody").search("login", agent_name="Bob")).hits) == ["Credentials"]
    assert (await office.search("login", agent_name="Dot")).hits == []


async def test_other_projects_teams_and_products_stay_apart(office: Office, database: Database) -> None:
    await office.ensure("second")
    second = replace(office, slug="second")
    await second.register("Ann")
    await office.send("Ann", ["Bob"], subject="Credentials here")
    await second.send("Ann", ["Ann"], subject="Credentials there")
    await office.call("ensure_product", name="Suite")
    await office.call("link_project", product_name="Suite", project_slug="second")
    strangers = replace(office, caller=caller(team_id=await database.add_team("strangers")))
    await strangers.ensure("office")
    await strangers.register("Eve")
    await strangers.send("Eve", ["Eve"], subject="Credentials of strangers")
    await embed(office, database)
    assert subjects((await office.search("login")).hits) == ["Credentials here"]
    assert sorted(subjects((await office.search("login", project_slug=None)).hits)) == [
        "Credentials here",
        "Credentials there",
    ]
    assert subjects((await office.search("login", project_slug=None, product_name="Suite")).hits) == [
        "Credentials there"
    ]
    assert subjects((await strangers.search("login")).hits) == ["Credentials of strangers"]


async def test_pages_go_on_without_gap_or_repeat(office: Office, database: Database) -> None:
    for number in range(12):
        await office.send("Ann", ["Bob"], subject=f"login {number}" if number % 2 else f"credentials {number}")
    await embed(office, database)
    whole = [hit.message_id for hit in (await office.search("login", limit=50)).hits]
    assert len(whole) == len(set(whole)) == 12
    parts = [page async for page in pages(office.search, query="login", limit=5)]
    assert [hit.message_id for page in parts for hit in page.hits] == whole
    assert [hit.rank for page in parts for hit in page.hits] == list(range(1, 13))
    assert {page.mode for page in parts} == {"hybrid"}


async def test_a_further_page_is_made_as_the_first_one_was_or_not_at_all(
    office: Office, database: Database, model: Concepts
) -> None:
    for _ in range(3):
        await office.send("Ann", ["Bob"], subject="login")
    by_text = (await office.search("login", limit=1)).next_cursor
    await embed(office, database)
    assert (await office.search("login", limit=1, cursor=by_text)).mode == "text"
    by_both = (await office.search("login", limit=1)).next_cursor
    with pytest.raises(InvalidCursor):
        await office.search("login", limit=1, cursor=by_both, mode="text")
    model.is_away = True
    with pytest.raises(MeaningUnavailable):
        await with_model(office, model).search("login", limit=1, cursor=by_both)


async def test_without_a_model_text_search_says_that_it_is_alone(office: Office) -> None:
    plain = office.at(replace(office.app, query_vectors=None))
    page = await plain.search("login")
    assert (page.mode, page.semantic) == ("text", "off")
    for mode in ("semantic", "hybrid"):
        with pytest.raises(ModeUnavailable):
            await plain.search("login", mode=mode)


async def test_until_all_mail_is_embedded_a_search_is_by_text_unless_asked(office: Office, database: Database) -> None:
    await talk(office)
    page = await office.search("password")
    assert (page.mode, page.semantic, len(page.hits)) == ("text", "not_ready", 1)
    with pytest.raises(MeaningUnavailable):
        await office.search("login", mode="semantic")
    await work(office)
    await database.age("messages", LATER)
    page = await office.search("login", mode="semantic")
    assert (page.semantic, subjects(page.hits)) == ("partial", ["Password reset"])
    await sweep_embeddings(office.app)
    assert (await office.search("login")).semantic == "used"


@pytest.mark.parametrize("fault", ["is_away", "hangs"])
async def test_a_model_that_does_not_answer_leaves_the_search_to_the_text(
    office: Office, database: Database, model: Concepts, fault: str
) -> None:
    await talk(office)
    await embed(office, database)
    setattr(model, fault, True)
    hasty = office.at(replace(office.app, query_vectors=QueryVectors(model, deadline=0.05)))
    page = await hasty.search("password")
    assert (page.mode, page.semantic, len(page.hits)) == ("text", "failed", 1)
    assert (await hasty.search("password", mode="hybrid")).semantic == "failed"
    with pytest.raises(MeaningUnavailable):
        await hasty.search("password", mode="semantic")


async def test_a_query_is_embedded_once(office: Office, database: Database, model: Concepts) -> None:
    await talk(office)
    await embed(office, database)
    await asyncio.gather(*(office.search("login") for _ in range(5)))
    await office.search("login from:Ann")
    assert model.texts.count("login") == 1


async def test_what_is_too_much_to_look_through_is_left_to_the_text(
    office: Office, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await talk(office)
    await embed(office, database)
    await database.execute(f"UPDATE embedding_positions SET vectors = {MOST_SEARCHED + 1}")
    assert (await office.search("password")).semantic == "used"  # counted anew: there are only three
    monkeypatch.setattr(search_by_meaning, "MOST_SEARCHED", 2)
    page = await office.search("password")
    assert (page.mode, page.semantic) == ("text", "too_wide")
    with pytest.raises(SearchTooWide):
        await office.search("password", mode="hybrid")


async def test_each_message_is_embedded_once(office: Office, database: Database, model: Concepts) -> None:
    for number in range(TEXTS_AT_ONCE + 3):
        await office.send("Ann", ["Bob"], subject=f"Number {number}", body="x" * 10_000 if number == 1 else "")
    await work(office)
    assert len(set(model.texts)) == len(model.texts)
    assert len(model.texts) == TEXTS_AT_ONCE + 3
    assert max(map(len, model.texts)) == TEXT_CHARACTERS
    await office.send("Ann", ["Bob"], subject="Late")
    await work(office)
    assert model.texts[-1].startswith("Late")
    await database.age("messages", LATER)
    assert await work(office) == 1  # it only moves the position
    assert await work(office) == 0
    assert len(model.texts) == TEXTS_AT_ONCE + 4


async def test_two_workers_and_a_crash_store_each_vector_once(
    workers: list[App], office: Office, database: Database, model: Concepts
) -> None:
    await talk(office)
    await sweep_embeddings(office.app)
    job = await claim(office.app)
    assert job is not None
    results = await asyncio.gather(
        *(embed_project(replace(app, query_vectors=QueryVectors(model)), job) for app in [*workers, *workers])
    )
    assert set(results) == {None}
    tables = await database.dump()
    assert len(tables["message_vectors"]) == len(tables["message_codes"]) == 3


async def test_a_worker_that_lost_its_job_stores_nothing(office: Office, database: Database) -> None:
    await talk(office)
    await sweep_embeddings(office.app)
    job = await claim(office.app)
    assert job is not None
    lost = replace(job, fence=job.fence - 1)
    assert (await perform(office.app, {"embedding": embed_project}, lost)).outcome == "lost"
    assert (await database.dump())["message_vectors"] == []


async def test_a_text_that_the_model_refuses_keeps_back_no_other(
    office: Office, database: Database, model: Concepts
) -> None:
    model.refuses = "poison"
    await office.send("Ann", ["Bob"], subject="poison")
    await talk(office)
    await embed(office, database)
    page = await office.search("login")
    assert (page.semantic, subjects(page.hits)) == ("used", ["Password reset"])
    assert await work(office) == 0


async def test_another_model_takes_over_when_it_has_all_mail(
    office: Office, database: Database, model: Concepts
) -> None:
    await talk(office)
    await embed(office, database)
    other = Concepts("another", 64)
    after = with_model(office, other)
    assert (await after.search("password")).semantic == "not_ready"
    assert (await office.search("login")).semantic == "used"
    await embed(after, database)
    assert subjects((await after.search("login")).hits) == ["Password reset"]
    assert subjects((await office.search("login")).hits) == ["Password reset"]
    # The first one is forgotten when nobody has used it for a while.
    await database.execute("UPDATE embedding_models SET used_at = used_at WHERE name = 'concepts'")
    await database.age("embedding_models", UNUSED * 2, "used_at")
    while await sweep_embeddings(after.app):
        pass
    await sweep_embeddings(after.app)
    tables = await database.dump()
    assert len(tables["message_vectors"]) == len(tables["message_codes"]) == 3
    assert len(tables["embedding_models"]) == len(tables["embedding_positions"]) == 1
    assert subjects((await after.search("login")).hits) == ["Password reset"]


async def test_vectors_go_with_their_project(office: Office, database: Database) -> None:
    await talk(office)
    await embed(office, database)
    await delete_project(office.app, office.caller, DeleteProject(project_slug=office.slug))
    assert (await office.search("login", project_slug=None)).hits == []
    while await sweep_deleted(office.app):
        pass
    tables = await database.dump()
    assert [tables[name] for name in ("message_vectors", "message_codes", "embedding_positions")] == [[], [], []]


async def test_mail_of_a_project_deleted_meanwhile_is_not_embedded(
    office: Office, database: Database, model: Concepts
) -> None:
    await talk(office)
    await sweep_embeddings(office.app)
    await delete_project(office.app, office.caller, DeleteProject(project_slug=office.slug))
    await work(office)
    assert model.texts == []


async def test_a_search_of_nothing_alike_finds_nothing(office: Office, database: Database) -> None:
    await talk(office)
    await embed(office, database)
    page = await office.search("xylophone")
    assert (page.hits, page.mode) == ([], "hybrid")
