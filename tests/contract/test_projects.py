"""Projects: one for each key, a slug that is theirs alone, and lists that end."""

import asyncio

import pytest

from agent_mail_core.errors import InvalidCursor, ProjectNotFound, SlugTaken
from agent_mail_core.ports import App, Store
from agent_mail_core.slugs import project_slug
from tests.contract.databases import Database
from tests.contract.office import TEAM, Office, caller, pages


@pytest.fixture
def desk(app: App) -> Office:
    """A caller without a project."""
    return Office(app, caller(), "none")


async def test_a_new_key_makes_a_project_under_a_slug_of_its_last_component(desk: Office) -> None:
    made = await desk.ensure("/code/Shop Front", description="The shop")
    assert made.created
    assert made.project.slug == project_slug("/code/Shop Front")
    assert made.project.slug.startswith("shop-front-")
    assert made.project.human_key == "/code/Shop Front"
    assert made.project.description == "The shop"


async def test_the_same_key_again_gives_the_same_project(desk: Office) -> None:
    first = await desk.ensure("/code/shop", description="The shop")
    again = await desk.ensure("/code/shop")
    assert not again.created
    assert again.project == first.project


async def test_a_later_description_replaces_the_first(desk: Office) -> None:
    await desk.ensure("/code/shop", description="Old")
    assert (await desk.ensure("/code/shop", description="New")).project.description == "New"
    assert (await desk.ensure("/code/shop")).project.description == "New"


@pytest.mark.parametrize(
    "key, spelling", [("/code/shop", "/code/shop/"), ("/code/shop", "/code/shop///"), ("café", "cafe\u0301")]
)
async def test_spellings_of_one_key_are_one_project(desk: Office, key: str, spelling: str) -> None:
    made = await desk.ensure(key)
    again = await desk.ensure(spelling)
    assert not again.created
    assert again.project == made.project


async def test_keys_differ_by_case(desk: Office) -> None:
    upper, lower = await desk.ensure("/code/Shop"), await desk.ensure("/code/shop")
    assert lower.created
    assert upper.project.slug != lower.project.slug


async def test_a_key_whose_slug_is_taken_gets_the_hash_of_the_key(desk: Office) -> None:
    first, second = await desk.ensure("Shop"), await desk.ensure("SHOP")
    assert first.project.slug == "shop"
    assert second.project.slug == project_slug("SHOP", with_suffix=True)
    assert (await desk.ensure("SHOP")).project == second.project


@pytest.mark.parametrize("key", ["list", "Ensure", "product", "東京", "..."])
async def test_a_key_that_makes_no_free_slug_gets_the_hash_of_the_key(desk: Office, key: str) -> None:
    slug = (await desk.ensure(key)).project.slug
    assert slug == project_slug(key)
    assert slug not in {"list", "ensure", "product", ""}


async def test_the_longest_keys_are_told_apart(desk: Office) -> None:
    keys = ["\U0001f600" * 1023 + end for end in "ab"]
    made = [await desk.ensure(key) for key in keys]
    assert [project.project.human_key for project in made] == keys
    assert [(await desk.ensure(key)).created for key in keys] == [False, False]


async def test_an_explicit_slug_is_taken_as_given(desk: Office) -> None:
    assert (await desk.ensure("/code/shop", slug="the-shop")).project.slug == "the-shop"


async def test_an_explicit_slug_of_another_key_is_refused(desk: Office, database: Database) -> None:
    await desk.ensure("/code/shop", slug="shop")
    before = await database.dump()
    with pytest.raises(SlugTaken) as refused:
        await desk.ensure("/code/other", slug="shop")
    assert refused.value.data["slug"] == "shop"
    assert await database.dump() == before


async def test_an_existing_project_keeps_its_slug(desk: Office) -> None:
    await desk.ensure("/code/shop", slug="shop")
    again = await desk.ensure("/code/shop", slug="another")
    assert (again.created, again.project.slug) == (False, "shop")


async def test_an_existing_project_may_not_be_given_the_slug_of_another(desk: Office, database: Database) -> None:
    await desk.ensure("/code/shop", slug="shop")
    await desk.ensure("/code/bank", slug="bank")
    before = await database.dump()
    with pytest.raises(SlugTaken):
        await desk.ensure("/code/bank", slug="shop", description="Changed")
    assert await database.dump() == before


async def test_when_both_slugs_of_a_key_are_taken_it_is_refused(desk: Office) -> None:
    await desk.ensure("one", slug="shop")
    await desk.ensure("two", slug=project_slug("Shop", with_suffix=True))
    with pytest.raises(SlugTaken):
        await desk.ensure("Shop")


async def test_a_project_is_found_by_slug_and_by_key(app: App, desk: Office) -> None:
    slug = (await desk.ensure("/code/shop")).project.slug
    by_slug, by_key = await Office(app, caller(), slug).project(), await Office(app, caller(), "/code/shop/").project()
    assert by_slug == by_key
    assert by_slug.slug == slug


async def test_an_unknown_project_is_named_with_near_ones(app: App, desk: Office) -> None:
    for key in ("storefront", "storeroom", "billing"):
        await desk.ensure(key)
    with pytest.raises(ProjectNotFound) as missed:
        await Office(app, caller(), "storefrnt").project()
    assert missed.value.data["project_slug"] == "storefrnt"
    assert missed.value.data["near"][0] == "storefront"
    assert "billing" not in missed.value.data["near"]
    assert missed.value.data["suggestion"] == "list_projects"


async def test_an_unknown_project_without_a_near_one_names_none(desk: Office) -> None:
    await desk.ensure("billing")
    with pytest.raises(ProjectNotFound) as missed:
        await Office(desk.app, desk.caller, "zzz").project()
    assert "near" not in missed.value.data
    assert missed.value.data["suggestion"] == "ensure_project"


@pytest.mark.parametrize("ref", ["' OR 1=1 --", "../../etc/passwd", "%", "*", "shop\\", "a" * 1024])
async def test_a_strange_reference_is_just_unknown(desk: Office, ref: str) -> None:
    await desk.ensure("shop")
    with pytest.raises(ProjectNotFound):
        await Office(desk.app, desk.caller, ref).project()


async def test_a_project_shows_what_it_holds(office: Office) -> None:
    await office.send("Ann", ["Bob"], thread_id="A-1")
    await office.send("Ann", ["Bob"], thread_id="A-1")
    await office.send("Ann", ["Bob"], thread_id="A-2")
    await office.retire("Dot")
    shown = await office.project()
    assert (shown.agent_count, shown.message_count, shown.thread_count) == (3, 3, 2)
    assert sorted(agent.name for agent in shown.agents) == ["Ann", "Bob", "Cid"]


async def test_an_empty_project_holds_nothing(desk: Office) -> None:
    await desk.ensure("empty")
    shown = await Office(desk.app, desk.caller, "empty").project()
    assert (shown.agent_count, shown.message_count, shown.thread_count, shown.agents) == (0, 0, 0, [])


async def test_a_project_shows_at_most_a_hundred_agents(office: Office) -> None:
    for number in range(100):
        await office.register(f"Agent{number}")
    shown = await office.project()
    assert shown.agent_count == 104
    assert len(shown.agents) == 100


async def test_the_list_counts_agents_and_messages_of_each_project(office: Office) -> None:
    await office.ensure("/code/other", slug="zoo")
    await office.send("Ann", ["Bob", "Cid"])
    await office.retire("Dot")
    listed = (await office.projects()).projects
    assert [(p.slug, p.agent_count, p.message_count) for p in listed] == [("office", 3, 1), ("zoo", 0, 0)]


async def test_projects_are_listed_in_order_of_slug_page_by_page(desk: Office) -> None:
    slugs = ["a1", "ab", "a-b", "b", "a", "z9", "0", "ab-c", "abc"]
    for number, slug in enumerate(slugs):
        await desk.ensure(f"key {number}", slug=slug)
    for limit in (1, 2, 3, 100):
        listed = [project.slug async for page in pages(desk.projects, limit=limit) for project in page.projects]
        assert listed == sorted(slugs)


async def test_a_last_page_that_is_full_has_no_next_cursor(desk: Office) -> None:
    for number in range(4):
        await desk.ensure(f"p{number}")
    first = await desk.projects(limit=2)
    assert (await desk.projects(limit=2, cursor=first.next_cursor)).next_cursor is None


@pytest.mark.parametrize(
    "query, expected",
    [
        ("SHOP", ["shop-one", "workshop"]),
        ("/code/", ["shop-one"]),
        ("100%", ["sale"]),
        ("%", ["sale"]),
        ("_", ["under"]),
        ("*", []),
        ("[a-z]", []),
        ("' OR '1'='1", []),
        ("\\", []),
        ("", ["sale", "shop-one", "under", "workshop"]),
    ],
)
async def test_a_query_is_a_piece_of_slug_or_key_and_no_pattern(desk: Office, query: str, expected: list[str]) -> None:
    await desk.ensure("/code/first", slug="shop-one")
    await desk.ensure("workshop")
    await desk.ensure("100% off", slug="sale")
    await desk.ensure("a_b", slug="under")
    assert [project.slug for project in (await desk.projects(query=query)).projects] == expected


async def test_a_query_stays_in_force_from_page_to_page(desk: Office) -> None:
    for number in range(5):
        await desk.ensure(f"shop {number}")
        await desk.ensure(f"bank {number}")
    listed = [p.slug async for page in pages(desk.projects, limit=2, query="shop") for p in page.projects]
    assert listed == [f"shop-{number}" for number in range(5)]


async def test_a_cursor_of_another_list_query_or_team_is_refused(desk: Office, database: Database) -> None:
    other = await database.add_team("other")
    for number in range(3):
        await desk.ensure(f"shop {number}")
    cursor = (await desk.projects(limit=1)).next_cursor
    assert cursor is not None
    desks = {"query": desk, "team": desk.of("local", team_id=other)}
    with pytest.raises(InvalidCursor):
        await desks["query"].projects(query="shop", cursor=cursor)
    with pytest.raises(InvalidCursor):
        await desks["team"].projects(cursor=cursor)
    with pytest.raises(InvalidCursor):
        await Office(desk.app, desk.caller, "shop-0").agents(cursor=cursor)


async def test_an_altered_cursor_is_refused(desk: Office) -> None:
    for number in range(3):
        await desk.ensure(f"shop {number}")
    cursor = (await desk.projects(limit=1)).next_cursor
    assert cursor is not None
    for altered in (cursor[:-1], cursor[1:], cursor + "A", cursor.swapcase(), "A", "not a cursor", "é", "=" * 40):
        with pytest.raises(InvalidCursor):
            await desk.projects(cursor=altered)


async def test_a_project_made_while_paging_repeats_and_skips_nobody(desk: Office) -> None:
    for slug in ("b", "d", "f", "h"):
        await desk.ensure(f"key {slug}", slug=slug)
    seen = []
    async for page in pages(desk.projects, limit=1):
        seen += [project.slug for project in page.projects]
        if seen == ["b", "d"]:
            await desk.ensure("early", slug="a")
            await desk.ensure("late", slug="g")
    assert seen == ["b", "d", "f", "g", "h"]


async def test_the_store_names_the_newest_projects_first(desk: Office, store: Store) -> None:
    for slug in ("b", "c", "a"):
        await desk.ensure(f"key {slug}", slug=slug)
    async with store.read() as db:
        assert await db.projects.slugs(TEAM, 10) == ["a", "c", "b"]
        assert await db.projects.slugs(TEAM, 2) == ["a", "c"]


async def test_no_project_takes_a_name_that_another_goes_by(office: Office) -> None:
    """A reference is a slug or a key: what one project is called by, no other may take as either."""
    mine = await office.ensure("team-notes", slug="other")
    with pytest.raises(SlugTaken):
        await office.ensure("/evil", slug="team-notes")
    derived = await office.ensure("Team Notes")
    assert derived.project.slug not in ("team-notes", "other")
    assert (await Office(office.app, caller(), "team-notes").project()).human_key == "team-notes"
    assert (await office.ensure("team-notes")).project == mine.project


@pytest.mark.parametrize("slug", [None, "mine"])
async def test_a_new_key_that_is_another_projects_slug_is_refused(
    desk: Office, database: Database, slug: str | None
) -> None:
    await desk.ensure("/code/shop", slug="shop")
    before = await database.dump()
    with pytest.raises(SlugTaken) as refused:
        await desk.ensure("shop", slug=slug)
    assert refused.value.data["slug"] == "shop"
    assert await database.dump() == before


async def test_a_project_may_have_its_key_as_its_slug(desk: Office) -> None:
    made = await desk.ensure("shop")
    assert (made.project.slug, made.project.human_key) == ("shop", "shop")
    assert (await desk.ensure("shop", slug="shop")).project == made.project


async def test_of_a_slug_and_the_same_key_at_once_one_is_made(workers: list[App]) -> None:
    desks = [Office(app, caller(), "none") for app in workers]
    for number in range(5):
        name = f"shop-{number}"
        made = await asyncio.gather(
            *(desk.ensure(f"/code/{number}", slug=name) for desk in desks),
            *(desk.ensure(name) for desk in desks),
            return_exceptions=True,
        )
        keys = {each.project.human_key for each in made if not isinstance(each, BaseException)}
        assert len(keys) == 1
        assert sum(isinstance(each, SlugTaken) for each in made) == len(desks)
