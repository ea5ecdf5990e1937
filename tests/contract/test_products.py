"""Products: groups of projects with one inbox, linked and unlinked, and nothing of another team in them."""

import asyncio

import pytest
from pydantic import ValidationError

from agent_mail_core import products
from agent_mail_core.errors import (
    AgentNotFound,
    AgentNotYours,
    InvalidCursor,
    ProductFull,
    ProductNotFound,
    ProjectNotFound,
)
from agent_mail_core.ports import App, Role
from tests.contract.databases import Database
from tests.contract.office import Office, pages, subjects


@pytest.fixture
async def store_room(office: Office) -> Office:
    """A second project, with an agent Ann of its own and Eve."""
    await office.ensure("store")
    store = Office(office.app, office.caller, "store")
    for name in ("Ann", "Eve"):
        await store.register(name)
    return store


@pytest.fixture
async def shop(office: Office, store_room: Office) -> str:
    """The product of both projects."""
    await office.call("ensure_product", name="Shop", description="All of it")
    for slug in ("office", "store"):
        await office.call("link_project", product_name="Shop", project_slug=slug)
    return "Shop"


async def test_the_same_name_gives_the_same_product_and_a_description_replaces_the_old_one(office: Office) -> None:
    first = await office.call("ensure_product", name="Shop")
    again = await office.call("ensure_product", name=" Shop ", description="All of it")
    assert (first.created, again.created) == (True, False)
    assert (first.product.description, again.product.description) == (None, "All of it")
    assert (await office.call("ensure_product", name="Shop")).product == again.product
    assert (await office.call("ensure_product", name="shop")).created


@pytest.mark.parametrize(
    "name", ["\u0958" * 60, "a" * 101, "\u200b", " "], ids=["longer-as-nfc", "long", "unseen", "blank"]
)
async def test_a_name_is_one_to_100_characters_as_it_is_stored(office: Office, name: str) -> None:
    with pytest.raises(ValidationError):
        await office.call("ensure_product", name=name)
    longest = "\u0958" * 50  # normalized it has twice as many
    assert len((await office.call("ensure_product", name=longest)).product.name) == 100


async def test_of_racing_callers_one_makes_the_product(workers: list[App], office: Office) -> None:
    made = await asyncio.gather(
        *(office.at(workers[n % len(workers)]).call("ensure_product", name="Shop") for n in range(20))
    )
    assert [answer.created for answer in made].count(True) == 1
    assert len({answer.product.created_at for answer in made}) == 1


async def test_linking_twice_changes_nothing(office: Office, shop: str, database: Database) -> None:
    before = await database.dump()
    linked = await office.call("link_project", product_name=shop, project_slug="store")
    assert [project.slug for project in linked.projects] == ["office", "store"]
    assert await database.dump() == before
    left = await office.call("unlink_project", product_name=shop, project_slug="store")
    assert [project.slug for project in left.projects] == ["office"]
    again = await office.call("unlink_project", product_name=shop, project_slug="store/")
    assert again == left


async def test_racing_links_never_pass_the_limit(
    workers: list[App], office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent_mail_core.products.MAX_PROJECTS", 3)
    await office.call("ensure_product", name="Shop")
    for number in range(10):
        await office.ensure(f"p{number}")
    ended = await asyncio.gather(
        *(
            office.at(workers[n % len(workers)]).call("link_project", product_name="Shop", project_slug=f"p{n}")
            for n in range(10)
        ),
        return_exceptions=True,
    )
    assert sum(isinstance(end, ProductFull) for end in ended) == 7
    assert len((await office.call("list_products")).products[0].projects) == 3


async def test_products_are_listed_in_order_page_by_page(office: Office, shop: str) -> None:
    for name in ("Alpha", "beta", "Zeta"):
        await office.call("ensure_product", name=name)
    listed = [page async for page in pages(lambda **more: office.call("list_products", limit=3, **more))]
    assert [product.name for page in listed for product in page.products] == ["Alpha", "Shop", "Zeta", "beta"]
    assert [project.slug for project in listed[0].products[1].projects] == ["office", "store"]
    with pytest.raises(InvalidCursor):
        await office.call("list_projects", cursor=listed[0].next_cursor)


async def test_a_page_of_products_ends_early_when_their_projects_are_long(
    office: Office, shop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"P{number:02}" for number in range(13)]
    for name in names:
        await office.call("ensure_product", name=name)
        await office.call("link_project", product_name=name, project_slug="office")
    monkeypatch.setattr(products, "PAGE_CHARACTERS", 4 * len("office"))
    listed = [page.products async for page in pages(lambda **more: office.call("list_products", limit=12, **more))]
    assert [len(page) for page in listed] == [4, 4, 4, 2]
    assert [product.name for page in listed for product in page] == [*names, shop]


async def test_its_inbox_holds_the_mail_of_all_its_projects_newest_first(
    office: Office, store_room: Office, shop: str
) -> None:
    await office.ensure("elsewhere")
    other = Office(office.app, office.caller, "elsewhere")
    for name in ("Ann", "Bob"):
        await other.register(name)
    await office.send("Ann", ["Bob"], subject="one")
    await store_room.send("Ann", ["Eve"], subject="two", bcc=["Ann"])
    await other.send("Ann", ["Bob"], subject="not of the product")
    await office.send("Bob", ["Ann"], subject="three")
    listed = [
        page async for page in pages(lambda **more: office.call("product_inbox", limit=2, **more), product_name=shop)
    ]
    assert [subjects(page.messages) for page in listed] == [["three", "two"], ["one"]]
    two = listed[0].messages[1]
    assert (two.project_slug, two.body_md, [to.name for to in two.recipients]) == ("store", None, ["Eve"])


async def test_one_agents_product_inbox_is_what_its_namesakes_got(
    office: Office, store_room: Office, shop: str
) -> None:
    await office.send("Bob", ["Ann"], subject="one")
    await store_room.send("Eve", ["Eve"], bcc=["Ann"], subject="two")
    await store_room.send("Ann", ["Eve"], subject="only sent")
    mail = await office.call("product_inbox", product_name=shop, agent_name="aNN")
    assert subjects(mail.messages) == ["two", "one"]
    assert [(to.name, to.kind) for to in mail.messages[0].recipients] == [("Eve", "to"), ("Ann", "bcc")]


async def test_only_ones_own_agents_have_a_product_inbox(office: Office, store_room: Office, shop: str) -> None:
    await office.of("other").register("Zoe")
    with pytest.raises(AgentNotYours):
        await office.call("product_inbox", product_name=shop, agent_name="Zoe")
    with pytest.raises(AgentNotFound):
        await office.call("product_inbox", product_name=shop, agent_name="Nobody")
    await office.send("Ann", ["Zoe"], subject="hers")
    assert subjects((await office.of("other").call("product_inbox", product_name=shop, agent_name="Zoe")).messages) == [
        "hers"
    ]


async def test_an_unknown_product_is_told_near_ones_and_another_teams_is_unknown(
    office: Office, shop: str, database: Database
) -> None:
    with pytest.raises(ProductNotFound) as refused:
        await office.call("link_project", product_name="Shpo", project_slug="store")
    assert refused.value.data["near"] == ["Shop"]
    rival = office.of("rival", Role.admin, await database.add_team("rivals"))
    with pytest.raises(ProductNotFound) as unknown:
        await rival.call("product_inbox", product_name=shop)
    assert "near" not in unknown.value.data
    assert (await rival.call("list_products")).products == []
    assert (await rival.call("ensure_product", name=shop)).product.projects == []
    for operation in ("link_project", "unlink_project"):
        codes = []
        for slug in ("store", "nowhere"):
            with pytest.raises(ProjectNotFound) as missing:
                await rival.call(operation, product_name=shop, project_slug=slug)
            codes.append((missing.value.message.replace(slug, "…"), sorted(missing.value.data)))
        assert codes[0] == codes[1]
