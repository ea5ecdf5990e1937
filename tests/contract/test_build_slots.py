"""Build slots: leases up to the capacity, renewed, given back, and shown."""

from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from agent_mail_core.acquiring import AcquireBuildSlot
from agent_mail_core.agents import the_agent
from agent_mail_core.build_slot_errors import SlotCapacityMismatch, SlotNotFound, SlotNotHeld, TooManySlots
from agent_mail_core.build_slots import Slot, active_slots, slots_held
from agent_mail_core.errors import AgentNotYours, AgentRetired, ProjectNotFound
from agent_mail_core.ports import Role
from agent_mail_core.reservations import live_reservations
from agent_mail_core.slot_holding import SetSlotCapacity, set_slot_capacity
from tests.contract.databases import Database
from tests.contract.leasing import acquire, pass_time, release_slot, renew_slot, reserve, slots
from tests.contract.office import Office, caller, pages


async def set_capacity(office: Office, capacity: int, slot_name: str = "ci") -> Slot:
    admin = office.of("root", Role.admin)
    request = SetSlotCapacity(project_slug=office.slug, slot_name=slot_name, capacity=capacity)
    return await set_slot_capacity(admin.app, admin.caller, request)


async def kinds(database: Database) -> list[str]:
    return [event.kind for event in await database.events() if event.kind.startswith("slot.")]


async def test_a_slot_is_held_by_as_many_as_its_capacity(office: Office, database: Database) -> None:
    first = await acquire(office, "Ann", capacity=2)
    second = await acquire(office, "Bob")
    assert first.lease is not None
    assert second.lease is not None
    assert first.lease.fence < second.lease.fence
    refused = await acquire(office, "Cid")
    assert (refused.acquired, refused.lease, refused.place) == (False, None, None)
    assert [one.holder for one in refused.holders] == ["Ann", "Bob"]
    assert [one.expires_at for one in refused.holders] == [first.lease.expires_at, second.lease.expires_at]
    assert await kinds(database) == ["slot.acquired"] * 2


async def test_without_a_capacity_one_agent_holds_a_slot(office: Office) -> None:
    assert (await acquire(office, "Ann")).acquired
    assert not (await acquire(office, "Bob")).acquired
    assert (await acquire(office, "Bob", slot_type="test")).acquired
    assert (await acquire(office, "Bob", "other")).acquired


async def test_again_by_the_same_agent_renews(office: Office, database: Database) -> None:
    first = (await acquire(office, "Ann", ttl_seconds=60)).lease
    answer = await acquire(office, "Ann", ttl_seconds=600)
    assert first is not None
    assert answer.lease is not None
    assert (answer.renewed, answer.lease.id, answer.lease.fence) == (True, first.id, first.fence)
    assert answer.lease.expires_at > first.expires_at
    assert await kinds(database) == ["slot.acquired"]


async def test_another_capacity_is_refused_until_an_administrator_changes_it(office: Office) -> None:
    await acquire(office, "Ann", capacity=1)
    with pytest.raises(SlotCapacityMismatch) as refused:
        await acquire(office, "Bob", capacity=2)
    assert refused.value.data["capacity"] == 1
    shown = await set_capacity(office, 2)
    assert (shown.capacity, [one.holder for one in shown.holders]) == (2, ["Ann"])
    assert (await acquire(office, "Bob", capacity=2)).acquired
    assert (await set_capacity(office, 1)).capacity == 1
    await release_slot(office, "Ann")
    assert not (await acquire(office, "Cid")).acquired
    with pytest.raises(SlotNotFound):
        await set_capacity(office, 2, "nowhere")


async def test_a_lease_that_is_over_makes_room(office: Office, database: Database) -> None:
    await acquire(office, "Ann", ttl_seconds=60)
    await pass_time(database, timedelta(seconds=61))
    assert (await slots(office)).slots == []
    assert (await acquire(office, "Bob")).acquired
    assert await kinds(database) == ["slot.acquired", "slot.expired", "slot.acquired"]
    with pytest.raises(SlotNotHeld):
        await renew_slot(office, "Ann")


async def test_an_agent_whose_lease_is_over_gets_another_with_a_higher_fence(
    office: Office, database: Database
) -> None:
    first = (await acquire(office, "Ann", ttl_seconds=60)).lease
    await pass_time(database, timedelta(seconds=61))
    answer = await acquire(office, "Ann")
    assert first is not None
    assert answer.lease is not None
    assert (answer.renewed, answer.lease.fence > first.fence) == (False, True)


async def test_a_name_in_another_normal_form_is_the_same_slot(office: Office) -> None:
    await acquire(office, "Ann", "caf\u00e9", slot_type="\u00fcber")
    assert not (await acquire(office, "Bob", "cafe\u0301", slot_type="u\u0308ber")).acquired
    assert (await release_slot(office, "Ann", "cafe\u0301", slot_type="u\u0308ber")).released


async def test_renewing_and_releasing(office: Office, database: Database) -> None:
    lease = (await acquire(office, "Ann", ttl_seconds=60)).lease
    renewed = (await renew_slot(office, "Ann", ttl_seconds=600)).lease
    assert lease is not None
    assert (renewed.id, renewed.fence, renewed.expires_at > lease.expires_at) == (lease.id, lease.fence, True)
    assert (await release_slot(office, "Ann")).released
    assert not (await release_slot(office, "Ann")).released
    assert await kinds(database) == ["slot.acquired", "slot.released"]
    with pytest.raises(SlotNotHeld):
        await renew_slot(office, "Ann")
    with pytest.raises(SlotNotHeld):
        await renew_slot(office, "Bob")
    for call in (renew_slot(office, "Ann", "nowhere"), release_slot(office, "Ann", "nowhere")):
        with pytest.raises(SlotNotFound) as missing:
            await call
        assert missing.value.data["suggestion"] == "list_slots"


async def test_the_list_comes_in_pages_a_to_z(office: Office, database: Database) -> None:
    names = [f"s{number:02}" for number in range(15)]
    for name in reversed(names):
        await acquire(office, "Ann", name)
    await acquire(office, "Bob", "s03", slot_type="test")
    seen = [
        (one.slot_name, one.slot_type)
        async for page in pages(lambda cursor: slots(office, limit=4, cursor=cursor))
        for one in page.slots
    ]
    assert seen == sorted([*((name, "build") for name in names), ("s03", "test")])
    await release_slot(office, "Ann", "s00")
    assert (await slots(office, limit=1)).slots[0].slot_name == "s01"
    idle = (await slots(office, limit=1, active_only=False)).slots[0]
    assert (idle.slot_name, idle.holders, idle.queue) == ("s00", [], [])


async def test_a_project_has_only_so_many_slots(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    for engine in ("sqlite", "postgres"):
        monkeypatch.setattr(f"agent_mail_store.{engine}.build_slots.MAX_SLOTS", 1)
    await acquire(office, "Ann", "a")
    with pytest.raises(TooManySlots):
        await acquire(office, "Ann", "b")
    assert (await acquire(office, "Ann", "a")).acquired


async def test_only_a_living_agent_of_ones_own_acquires(office: Office) -> None:
    with pytest.raises(AgentNotYours):
        await acquire(office.of("somebody"), "Ann")
    await acquire(office, "Ann")
    await office.retire("Ann")
    with pytest.raises(AgentRetired):
        await acquire(office, "Ann")
    with pytest.raises(AgentRetired):
        await renew_slot(office, "Ann")


async def test_other_projects_and_teams_do_not_show(office: Office, database: Database) -> None:
    await acquire(office, "Ann")
    await office.ensure("/code/shop", slug="shop")
    shop = Office(office.app, office.caller, "shop")
    await shop.register("Bob")
    with pytest.raises(SlotNotFound):
        await release_slot(shop, "Bob")
    assert (await acquire(shop, "Bob")).acquired
    rivals = Office(office.app, caller("rival", team_id=await database.add_team("rivals")), "office")
    for asking in (slots(rivals), acquire(rivals, "Ann"), set_capacity(rivals, 2)):
        with pytest.raises(ProjectNotFound):
            await asking


@pytest.mark.parametrize(
    "arguments",
    [
        {"capacity": 0},
        {"capacity": 101},
        {"ttl_seconds": 59},
        {"ttl_seconds": 86_401},
        {"wait_seconds": 51},
        {"wait_seconds": -1},
        {"slot_name": ""},
        {"slot_name": " "},
        {"slot_name": "x" * 129},
        {"slot_name": "\u0958" * 128},  # twice as long in NFC
        {"slot_type": "x" * 65},
    ],
)
async def test_arguments_have_bounds(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        AcquireBuildSlot(**{"project_slug": "office", "agent_name": "Ann", "slot_name": "ci", **arguments})


async def test_what_others_show_of_leases(office: Office) -> None:
    """For get_project and whois."""
    await reserve(office, "Ann", "a", "b")
    await reserve(office, "Bob", "c")
    lease = (await acquire(office, "Ann", slot_type="test")).lease
    await acquire(office, "Bob", "free")
    await release_slot(office, "Bob", "free")
    async with office.app.store.read() as db:
        ann = await the_agent(db, office.caller, office.slug, "Ann")
        everybodys = await live_reservations(db, ann.project.id, None, 2)
        anns = await live_reservations(db, ann.project.id, ann.agent.id, 10)
        active = await active_slots(db, ann.project, 10)
        held = await slots_held(db, ann.agent)
    assert ([one.pattern for one in everybodys], [one.pattern for one in anns]) == (["c", "b"], ["b", "a"])
    assert [(one.slot_name, [holder.holder for holder in one.holders]) for one in active] == [("ci", ["Ann"])]
    assert lease is not None
    assert [(one.slot_name, one.slot_type, one.fence) for one in held] == [("ci", "test", lease.fence)]
