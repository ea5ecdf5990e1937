"""What becomes of agents and what they hold: retired, given to another principal, seen whole."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from agent_mail_core.errors import AgentNotFound, AgentNotYours
from agent_mail_core.ports import Role
from tests.contract.databases import Database
from tests.contract.leasing import acquire, listed, reserve, slots
from tests.contract.office import Office


async def test_who_retires_holds_nothing_any_more(office: Office, database: Database) -> None:
    await reserve(office, "Ann", "src", "docs")
    await acquire(office, "Ann", "ci")
    sent = await office.send("Bob", ["Ann"])
    review = await office.call(
        "request_review", project_slug="office", requester_name="Bob", message_id=sent.message_id
    )
    claim = {"project_slug": "office", "review_id": review.review_id}
    assert (await office.call("claim_review", agent_name="Ann", **claim)).claimed
    await office.retire("Ann")
    assert (await listed(office)).reservations == []
    assert (await slots(office)).slots == []
    assert (await office.call("get_review", **claim)).state == "requested"
    assert (await office.call("claim_review", agent_name="Cid", **claim)).claimed
    kinds = [event.kind for event in await database.events()]
    assert (kinds.count("reservation.released"), kinds.count("slot.released"), kinds.count("agent.retired")) == (
        2,
        1,
        1,
    )


async def test_whois_and_get_project_show_what_is_held(office: Office) -> None:
    await reserve(office, "Ann", "src")
    await reserve(office, "Bob", "docs")
    await acquire(office, "Ann", "ci", slot_type="test")
    ann = await office.whois("Ann")
    assert [one.pattern for one in ann.reservations] == ["src"]
    assert [(one.slot_name, one.slot_type) for one in ann.slots] == [("ci", "test")]
    assert {one.kind for one in ann.recent_activity} >= {"reservation.granted", "slot.acquired", "agent.registered"}
    project = await office.project()
    assert [(one.holder, one.pattern) for one in project.reservations] == [("Bob", "docs"), ("Ann", "src")]
    assert [(one.slot_name, [holder.holder for holder in one.holders]) for one in project.slots] == [("ci", ["Ann"])]
    assert (await office.whois("Cid")).reservations == []


async def test_both_ways_to_set_the_contact_policy_do_the_same(office: Office, database: Database) -> None:
    by_update = await office.update("Ann", contact_policy="contacts_only")
    await office.update("Ann", contact_policy="auto")
    by_policy = await office.call("set_contact_policy", project_slug="office", agent_name="Ann", policy="contacts_only")
    assert by_policy == by_update
    first, _, last = [event for event in await database.events() if event.kind == "agent.updated"]
    assert (first.agent_id, first.data) == (last.agent_id, last.data)


# --- transfer_agent ---------------------------------------------------------------------------------------------------


async def transfer(office: Office, name: str, principal: str) -> None:
    administrator = office.of("root", Role.admin)
    await administrator.call("transfer_agent", project_slug=office.slug, agent_name=name, principal=principal)


async def test_a_transferred_agent_is_acted_as_by_its_new_principal_alone(office: Office, database: Database) -> None:
    sent = await office.send("Bob", ["Ann"])
    await transfer(office, "ann", "token:7")
    await transfer(office, "Ann", "token:7")
    heir = office.of("token:7")
    assert [message.message_id for message in (await heir.inbox("Ann")).messages] == [sent.message_id]
    for call in (office.inbox("Ann"), office.update("Ann", model="m-2"), office.send("Ann", ["Bob"])):
        with pytest.raises(AgentNotYours):
            await call
    updates = [event.data for event in await database.events() if event.kind == "agent.updated"]
    assert [data["name"] for data in updates] == ["Ann"]
    assert "token:7" not in str(updates)


async def test_a_retired_agent_is_transferred_too_and_revived_by_its_new_principal(office: Office) -> None:
    await office.retire("Ann")
    await transfer(office, "Ann", "jwt:https://id.example|ann")
    revived = await office.of("jwt:https://id.example|ann").register("Ann")
    assert (revived.created, revived.agent.retired_at) == (False, None)


@pytest.mark.parametrize(
    "principal", ["", "root", "token:", "jwt:issuer", "service", "token:1\n", "static2", "x" * 2000]
)
async def test_what_no_credential_stands_for_gets_no_agent(office: Office, principal: str) -> None:
    with pytest.raises(ValidationError):
        await transfer(office, "Ann", principal)
    await office.update("Ann", model="m-2")


async def test_an_unknown_agent_is_not_transferred(office: Office) -> None:
    with pytest.raises(AgentNotFound):
        await transfer(office, "Nobody", "token:7")
