"""Reservations: granting, conflicts, renewing, releasing, taking away, and the list of them."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from agent_mail_core import reserving
from agent_mail_core.errors import AgentNotFound, AgentNotYours, AgentRetired, InvalidPath, ProjectNotFound
from agent_mail_core.ports import Role
from agent_mail_core.presence import PresenceLog
from agent_mail_core.reservation_errors import HolderActive, ReservationNotFound, TooManyReservations
from tests.contract.databases import Database
from tests.contract.leasing import check, force, force_through, listed, pass_time, patterns, release, renew, reserve
from tests.contract.office import Office, caller, pages

HOUR = timedelta(hours=1)


async def kinds(database: Database) -> list[str]:
    return [event.kind for event in await database.events() if event.kind.startswith("reservation.")]


def on_a_worker_that_saw_nobody(office: Office) -> Office:
    """Where only the database tells who was active."""
    return office.at(replace(office.app, presence=PresenceLog(office.app.clock)))


# --- granting ---------------------------------------------------------------------------------------------------------


async def test_free_paths_are_granted_with_fences_that_grow(office: Office, database: Database) -> None:
    answer = await reserve(office, "Ann", "src/a.py", "docs/**", reason="the total is wrong", ttl_seconds=600)
    assert patterns(answer.granted) == ["src/a.py", "docs/**"]
    assert (answer.conflicts, answer.more_conflicts, answer.place) == ([], 0, None)
    assert answer.granted[0].fence < answer.granted[1].fence
    later = await reserve(office, "Bob", "src/b.py")
    assert later.granted[0].fence > answer.granted[1].fence
    [_, docs, first] = (await listed(office)).reservations
    assert (docs.holder, docs.reason, docs.exclusive, docs.advisory) == ("Ann", "the total is wrong", True, False)
    assert first.expires_at - first.granted_at == timedelta(seconds=600)
    events = [event for event in await database.events() if event.kind == "reservation.granted"]
    assert [event.data["pattern"] for event in events] == ["src/a.py", "docs/**", "src/b.py"]
    assert all(event.outbox_topics == ["archive"] for event in events)


async def test_one_conflict_grants_nothing_and_all_are_listed(office: Office, database: Database) -> None:
    await reserve(office, "Ann", "src/**", reason="rewriting")
    await reserve(office, "Bob", "docs/a.md")
    answer = await reserve(office, "Cid", "src/x.py", "docs", "free.txt")
    assert answer.granted == []
    assert [(one.pattern, one.holder, one.their_pattern, one.reason) for one in answer.conflicts] == [
        ("src/x.py", "Ann", "src/**", "rewriting"),
        ("docs", "Bob", "docs/a.md", None),
    ]
    [held, _] = reversed((await listed(office)).reservations)
    assert answer.conflicts[0].expires_at == held.expires_at
    assert (await listed(office, agent_name="Cid")).reservations == []
    assert await kinds(database) == ["reservation.granted"] * 2


async def test_allow_partial_grants_the_free_ones(office: Office) -> None:
    await reserve(office, "Ann", "src/**")
    answer = await reserve(office, "Bob", "src/x.py", "free.txt", allow_partial=True)
    assert (patterns(answer.granted), patterns(answer.conflicts)) == (["free.txt"], ["src/x.py"])
    nothing = await reserve(office, "Bob", "src/x.py", allow_partial=True)
    assert (nothing.granted, patterns(nothing.conflicts)) == ([], ["src/x.py"])


async def test_shared_ones_overlap_in_peace_and_exclude_exclusive_ones(office: Office) -> None:
    assert (await reserve(office, "Ann", "src/**", exclusive=False)).granted
    assert (await reserve(office, "Bob", "src/a.py", exclusive=False)).granted
    refused = await reserve(office, "Cid", "src/a.py")
    assert sorted(one.holder for one in refused.conflicts) == ["Ann", "Bob"]
    assert [one.exclusive for one in refused.conflicts] == [False, False]
    assert (await reserve(office, "Cid", "lib")).granted
    assert (await reserve(office, "Ann", "lib/x.py", exclusive=False)).conflicts


async def test_advisory_ones_are_granted_in_spite_of_conflicts_and_stop_nobody(office: Office) -> None:
    await reserve(office, "Ann", "src/**")
    advisory = await reserve(office, "Bob", "src/a.py", advisory=True)
    assert (patterns(advisory.granted), patterns(advisory.conflicts)) == (["src/a.py"], ["src/a.py"])
    await release(office, "Ann")
    granted = await reserve(office, "Cid", "src/a.py")
    assert patterns(granted.granted) == ["src/a.py"]
    assert [(one.holder, one.advisory) for one in granted.conflicts] == [("Bob", True)]


async def test_ones_own_never_conflict(office: Office) -> None:
    await reserve(office, "Ann", "src/**")
    answer = await reserve(office, "Ann", "src/a.py", "src/*", exclusive=False)
    assert (patterns(answer.granted), answer.conflicts) == (["src/a.py", "src/*"], [])


async def test_the_same_pattern_again_renews_it_and_keeps_its_fence(office: Office, database: Database) -> None:
    first = (await reserve(office, "Ann", "src/a.py", ttl_seconds=60, reason="first")).granted[0]
    answer = await reserve(office, "Ann", "./src//a.py", "src/b.py", ttl_seconds=600)
    again, new = answer.granted
    assert (again.id, again.fence, again.renewed) == (first.id, first.fence, True)
    assert again.expires_at > first.expires_at
    assert (new.renewed, new.fence > first.fence) == (False, True)
    assert [one.reason for one in (await listed(office)).reservations] == [None, "first"]
    assert await kinds(database) == ["reservation.granted", "reservation.granted", "reservation.renewed"]


async def test_a_renewal_changes_the_mode_only_when_nobody_minds(office: Office) -> None:
    await reserve(office, "Ann", "src", exclusive=False)
    await reserve(office, "Bob", "src/a.py", exclusive=False)
    refused = await reserve(office, "Ann", "src", exclusive=True)
    assert (refused.granted, [one.holder for one in refused.conflicts]) == ([], ["Bob"])
    await release(office, "Bob")
    assert (await reserve(office, "Ann", "src", exclusive=True)).granted[0].renewed
    assert (await reserve(office, "Bob", "src/a.py", exclusive=False)).conflicts
    await reserve(office, "Ann", "src", exclusive=False)
    assert (await reserve(office, "Bob", "src/a.py", exclusive=False)).granted


async def test_literal_takes_wildcards_as_they_are(office: Office) -> None:
    literal = await reserve(office, "Ann", "app/[id]/page.tsx", literal=True)
    assert patterns(literal.granted) == ["app/[id]/page.tsx"]
    assert (await reserve(office, "Bob", "app/i/page.tsx")).granted
    [conflict] = (await reserve(office, "Bob", "app/*/page.tsx")).conflicts
    assert conflict.holder == "Ann"
    both = await reserve(office, "Ann", "lib/*.py", literal=True)
    assert (await reserve(office, "Ann", "lib/*.py")).granted[0].id != both.granted[0].id


async def test_paths_are_made_normal_and_folded(office: Office) -> None:
    answer = await reserve(office, "Ann", "./src//a.py", "src/a.py", "src/", "src")
    assert patterns(answer.granted) == ["src/a.py", "src"]
    await office.ensure("/code/shop", slug="shop")
    shop = Office(office.app, office.caller, "shop")
    await shop.register("Ann")
    assert patterns((await reserve(shop, "Ann", "/code/shop/src/x.py")).granted) == ["src/x.py"]


@pytest.mark.parametrize("path", ["../x", "/elsewhere/x", "!x", "", "a" * 1025, "*a" * 17])
async def test_a_path_that_cannot_be_is_refused(office: Office, path: str) -> None:
    with pytest.raises(InvalidPath):
        await reserve(office, "Ann", "fine", path)
    assert (await listed(office)).reservations == []


@pytest.mark.parametrize(
    "arguments",
    [
        {"paths": []},
        {"paths": ["a"] * 101},
        {"ttl_seconds": 59},
        {"ttl_seconds": 604_801},
        {"wait_seconds": 51},
        {"wait_seconds": 1, "allow_partial": True},
        {"wait_seconds": 1, "advisory": True},
        {"advisory": True, "allow_partial": True},
        {"reason": "x" * 501},
    ],
)
async def test_arguments_have_bounds(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        reserving.ReserveFile(**{"project_slug": "office", "agent_name": "Ann", "paths": ["a"], **arguments})


async def test_a_project_has_only_so_many(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reserving, "MAX_RESERVATIONS", 2)
    await reserve(office, "Ann", "a", "b")
    with pytest.raises(TooManyReservations):
        await reserve(office, "Bob", "c")
    assert (await reserve(office, "Ann", "a")).granted


async def test_only_a_living_agent_of_ones_own_reserves(office: Office) -> None:
    with pytest.raises(AgentNotYours):
        await reserve(office.of("somebody"), "Ann", "a")
    with pytest.raises(AgentNotFound):
        await reserve(office, "Nobody", "a")
    await office.retire("Ann")
    with pytest.raises(AgentRetired):
        await reserve(office, "Ann", "a")


async def test_many_conflicts_are_cut_and_counted(office: Office) -> None:
    for start in (0, 100):
        await reserve(office, "Ann", *(f"src/{number}" for number in range(start, start + 80)))
    answer = await reserve(office, "Bob", "**")
    assert (len(answer.conflicts), answer.more_conflicts) == (100, 60)


# --- the end of them --------------------------------------------------------------------------------------------------


async def test_what_has_expired_stands_in_nobodys_way(office: Office, database: Database) -> None:
    await reserve(office, "Ann", "src/**", ttl_seconds=60)
    await pass_time(database, timedelta(seconds=61))
    assert (await check(office, "src/a.py")).paths[0].status == "free"
    assert (await listed(office)).reservations == []
    [shown] = (await listed(office, active_only=False)).reservations
    assert (shown.ended, shown.ended_at) == ("expired", shown.expires_at)
    assert (await reserve(office, "Bob", "src/a.py")).granted
    assert await kinds(database) == ["reservation.granted", "reservation.expired", "reservation.granted"]
    [again] = (await reserve(office, "Ann", "lib")).granted
    assert not again.renewed


@pytest.mark.parametrize("way", ["paths", "ids", "all"])
async def test_releasing_by_path_by_id_and_all(office: Office, database: Database, way: str) -> None:
    a, b = (await reserve(office, "Ann", "src/a.py", "src/b.py")).granted
    if way == "paths":
        answer = await release(office, "Ann", "./src/a.py")
    elif way == "ids":
        answer = await release(office, "Ann", ids=[a.id, 987654])
    else:
        answer = await release(office, "Ann")
    expected = [a.id, b.id] if way == "all" else [a.id]
    assert (sorted(answer.released_ids), answer.count) == (expected, len(expected))
    assert [one.id for one in (await listed(office)).reservations] == ([] if way == "all" else [b.id])
    assert await kinds(database) == ["reservation.granted"] * 2 + ["reservation.released"] * len(expected)
    assert (await reserve(office, "Bob", "src/a.py")).granted
    again = await release(office, "Ann", ids=[a.id])
    assert (again.released_ids, again.count) == ([], 0)


async def test_others_reservations_are_not_released(office: Office) -> None:
    [held] = (await reserve(office, "Ann", "src/a.py")).granted
    assert (await release(office, "Bob", "src/a.py")).count == 0
    assert (await release(office, "Bob", ids=[held.id])).count == 0
    assert (await listed(office)).reservations[0].id == held.id


async def test_a_literal_is_released_by_its_name(office: Office) -> None:
    await reserve(office, "Ann", "app/[id]/x.tsx", "src/[", literal=True)
    await reserve(office, "Ann", "lib/*.py")
    assert (await release(office, "Ann", "app/[id]/x.tsx", "src/[")).count == 2
    assert (await release(office, "Ann", "lib/*.py")).count == 1


async def test_a_literal_and_a_pattern_of_the_same_text_go_on_and_end_together(office: Office) -> None:
    held = (await reserve(office, "Ann", "app/[id]", literal=True)).granted
    held += (await reserve(office, "Ann", "app/[id]")).granted
    for renewing in (renew(office, "Ann"), renew(office, "Ann", "app/[id]", ttl_seconds=7200)):
        assert {one.id for one in (await renewing).reservations} == {one.id for one in held}
    assert set((await release(office, "Ann", "app/[id]")).released_ids) == {one.id for one in held}


async def test_paths_and_ids_together_are_refused(office: Office) -> None:
    with pytest.raises(ValidationError):
        await release(office, "Ann", "a", ids=[1])


async def test_renewing_tells_of_each_lease(office: Office, database: Database) -> None:
    await reserve(office, "Ann", "expired", ttl_seconds=60)
    await pass_time(database, timedelta(seconds=61))
    live, taken = (await reserve(office, "Ann", "live", "taken")).granted
    await force_through(office, "Bob", taken.id, "it blocks the release")
    answer = (await renew(office, "Ann", "live", "expired", "taken", "never", ttl_seconds=7200)).reservations
    assert [one.code for one in answer] == [
        None,
        "reservation_expired",
        "reservation_released",
        "reservation_not_found",
    ]
    assert (answer[0].fence, answer[0].expires_at is not None) == (live.fence, True)
    assert (answer[2].ended_by, answer[2].reason) == ("Bob", "it blocks the release")
    [shown] = (await listed(office)).reservations
    assert (shown.expires_at, shown.expires_at - shown.granted_at > HOUR) == (answer[0].expires_at, True)
    assert (await kinds(database))[-1] == "reservation.renewed"
    by_id = (await renew(office, "Ann", ids=[live.id, 987654])).reservations
    assert [one.code for one in by_id] == [None, "reservation_not_found"]
    assert [one.path for one in (await renew(office, "Ann")).reservations] == ["live"]


async def test_a_lease_is_taken_away_when_its_holder_was_idle_for_long(office: Office, database: Database) -> None:
    [held] = (await reserve(office, "Ann", "src/a.py", ttl_seconds=86_400)).granted
    with pytest.raises(HolderActive) as refused:
        await force(office, "Bob", held.id)
    assert refused.value.data["holder"] == "Ann"
    elsewhere = on_a_worker_that_saw_nobody(office)
    await pass_time(database, timedelta(minutes=29))
    with pytest.raises(HolderActive):
        await force(elsewhere, "Bob", held.id)
    await pass_time(database, timedelta(minutes=2))
    answer = await force(elsewhere, "Bob", held.id, "left behind")
    assert (answer.released, answer.reservation.ended, answer.reservation.ended_by) == (True, "forced", "Bob")
    assert answer.reservation.end_reason == "left behind"
    forced = [event for event in await database.events() if event.kind == "reservation.forced"]
    assert [(event.data["ended_by"], event.data["reason"]) for event in forced] == [("Bob", "left behind")]
    assert not (await force(elsewhere, "Bob", held.id)).released


async def test_a_holder_that_this_worker_has_just_seen_keeps_its_lease(office: Office, database: Database) -> None:
    [held] = (await reserve(office, "Ann", "src/a.py", ttl_seconds=86_400)).granted
    await pass_time(database, HOUR)
    with pytest.raises(HolderActive):
        await force(office, "Bob", held.id)


async def test_a_lease_that_was_just_renewed_is_kept_however_idle_its_holder(
    office: Office, database: Database
) -> None:
    [held] = (await reserve(office, "Ann", "src/a.py", ttl_seconds=86_400)).granted
    await database.age("agents", HOUR, "last_active_at")
    elsewhere = on_a_worker_that_saw_nobody(office)
    with pytest.raises(HolderActive):
        await force(elsewhere, "Bob", held.id)
    await database.age("reservations", timedelta(minutes=11), "renewed_at")
    assert (await force(elsewhere, "Bob", held.id)).released


async def test_an_administrator_who_insists_takes_any_lease_away(office: Office) -> None:
    [held] = (await reserve(office, "Ann", "src/a.py")).granted
    root = office.of("root", Role.admin)
    with pytest.raises(HolderActive):
        await force(root, "Bob", held.id)
    with pytest.raises(HolderActive):
        await force(office, "Bob", held.id, override=True)
    assert (await force(root, "Bob", held.id, override=True)).released
    assert (await reserve(office, "Bob", "src/a.py")).granted


# --- what is shown ----------------------------------------------------------------------------------------------------


async def test_the_list_comes_in_pages_newest_first(office: Office) -> None:
    granted = (await reserve(office, "Ann", *(f"f{number}" for number in range(25)))).granted
    await reserve(office, "Bob", "other")
    await release(office, "Ann", "f3")
    seen = [
        one.id
        async for page in pages(lambda cursor: listed(office, agent_name="Ann", limit=7, cursor=cursor))
        for one in page.reservations
    ]
    assert seen == [one.id for one in reversed(granted) if one.pattern != "f3"]
    ended = (await listed(office, agent_name="Ann", active_only=False, limit=100)).reservations
    assert [one.ended for one in ended if one.pattern == "f3"] == ["released"]
    assert len(ended) == 25


async def test_other_projects_and_teams_do_not_show(office: Office, database: Database) -> None:
    [held] = (await reserve(office, "Ann", "src")).granted
    await office.ensure("/code/shop", slug="shop")
    shop = Office(office.app, office.caller, "shop")
    await shop.register("Ann")
    assert (await reserve(shop, "Ann", "src")).granted
    with pytest.raises(ReservationNotFound):
        await force(shop.of("root", Role.admin), "Ann", held.id)
    assert (await release(shop, "Ann", ids=[held.id])).count == 0
    assert (await renew(shop, "Ann", ids=[held.id])).reservations[0].code == "reservation_not_found"
    assert len((await listed(shop)).reservations) == 1
    rivals = Office(office.app, caller("rival", team_id=await database.add_team("rivals")), "office")
    for asking in (listed(rivals), check(rivals, "src"), reserve(rivals, "Ann", "src")):
        with pytest.raises(ProjectNotFound):
            await asking
