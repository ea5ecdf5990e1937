"""Searching the projects of a product, and the mail of one's own agent wherever it is."""

import pytest

from agent_mail_core.errors import Invalid, ProductNotFound
from tests.contract.office import Office, subjects


@pytest.fixture
async def depot(office: Office) -> Office:
    """A second project, with Zoe, who takes mail from anybody."""
    await office.ensure("depot")
    depot = Office(office.app, office.caller, "depot")
    await depot.register("Zoe", contact_policy="open")
    await depot.register("Yan")
    return depot


async def found(office: Office, query: str, **where: str | None) -> list[str]:
    return sorted(subjects((await office.search(query, **where)).hits))


async def test_a_product_is_searched_over_its_projects_alone(office: Office, depot: Office) -> None:
    await office.ensure("attic")
    attic = Office(office.app, office.caller, "attic")
    await attic.register("Eve")
    for place, name in ((office, "Ann"), (depot, "Zoe"), (attic, "Eve")):
        await place.send(name, [name], subject=f"Zanzibar {place.slug}", thread_id="T-1")
    await office.call("ensure_product", name="Shop")
    product = {"project_slug": None, "product_name": "Shop"}
    assert await found(office, "zanzibar", **product) == []
    await office.call("link_project", product_name="Shop", project_slug="office")
    assert await found(office, "zanzibar", **product) == ["Zanzibar office"]
    await office.call("link_project", product_name="Shop", project_slug="depot")
    for query in ("zanzibar", "-nothing", "from:Zoe OR from:Ann OR from:Eve", "thread:T-1", "zanz* thread:T-1"):
        assert await found(office, query, **product) == ["Zanzibar depot", "Zanzibar office"]
    page = await office.search("zanzibar", project_slug=None, product_name="Shop")
    assert {(hit.project_slug, hit.thread_id, hit.sender_name) for hit in page.hits} == {
        ("office", "T-1", "Ann"),
        ("depot", "T-1", "Zoe"),
    }


async def test_a_product_and_a_project_are_one_too_many(office: Office) -> None:
    await office.call("ensure_product", name="Shop")
    with pytest.raises(Invalid):
        await office.search("hello", product_name="Shop")
    with pytest.raises(ProductNotFound):
        await office.search("hello", project_slug=None, product_name="Nothing")


async def test_names_in_hits_are_those_that_the_searched_project_writes(office: Office, depot: Office) -> None:
    sent = await office.send("Ann", ["Zoe@depot"], subject="Zanzibar", thread_id="T-1")
    (hit,) = (await office.search("zanzibar")).hits
    assert (hit.project_slug, hit.thread_id, hit.sender_name) == ("office", "T-1", "Ann")
    (hit,) = (await depot.search("zanzibar", agent_name="Zoe")).hits
    assert (hit.project_slug, hit.thread_id, hit.sender_name) == ("office", "T-1@office", "Ann@office")
    await depot.reply("Zoe", sent.message_id, body_md="Quagga")
    (hit,) = (await office.search("quagga from:zoe")).hits
    assert (hit.thread_id, hit.sender_name) == ("T-1", "Zoe@depot")


async def test_only_its_owner_finds_an_agents_mail_in_other_projects(office: Office, depot: Office) -> None:
    await office.send("Ann", ["Bob"], bcc=["Zoe@depot"], subject="Zanzibar")
    assert await found(depot, "zanzibar", agent_name="Zoe") == ["Zanzibar"]
    assert await found(depot, "zanzibar", agent_name="Yan") == []
    assert await found(depot, "zanzibar") == []
    assert await found(depot.of("token:2"), "zanzibar", agent_name="Zoe") == []
