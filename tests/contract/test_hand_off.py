"""hand_off: a message and reservations go over together, or nothing does (SPEC 3.1)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from agent_mail_core.errors import (
    AgentMailError,
    AgentNotFound,
    AgentNotYours,
    AgentRetired,
    IdempotencyConflict,
    Invalid,
    InvalidPath,
    RecipientsRefused,
)
from agent_mail_core.hand_off import HandedOff
from agent_mail_core.ports import App
from agent_mail_core.reservation_errors import ReservationNotHeld, ReservationsSplit
from tests.contract.databases import Database
from tests.contract.leasing import listed, pass_time, renew, reserve
from tests.contract.office import Office
from tests.contract.test_races import outcomes, row_counts


async def hand_off(office: Office, to: str, *paths: str, giver: str = "Ann", **more: Any) -> HandedOff:
    fields = {"task": "Finish the cart", **more}
    answer: HandedOff = await office.call(
        "hand_off", project_slug=office.slug, from_agent=giver, to_agent=to, paths=list(paths), **fields
    )
    return answer


async def held(office: Office) -> list[tuple[str, str]]:
    return sorted((one.holder, one.pattern) for one in (await listed(office)).reservations)


async def test_message_and_reservations_go_over(office: Office, database: Database) -> None:
    before = {one.pattern: one for one in (await reserve(office, "Ann", "src/*.py", "docs", "lib")).granted}
    answer = await hand_off(office, "bob", "src/*.py", "./docs/", notes="The *total* is wrong.")
    assert sorted(one.pattern for one in answer.reservations) == ["docs", "src/*.py"]
    for one in answer.reservations:
        assert (one.holder, one.expires_at) == ("Bob", before[one.pattern].expires_at)
        assert one.fence > max(was.fence for was in before.values())
    assert await held(office) == [("Ann", "lib"), ("Bob", "docs"), ("Bob", "src/*.py")]
    [message] = (await office.inbox("Bob", include_bodies=True)).messages
    assert (message.message_id, message.sender_name) == (answer.message_id, "Ann")
    assert message.subject == "Hand-off: Finish the cart"
    assert message.body_md is not None
    lines = message.body_md.splitlines()
    assert {"Finish the cart", "The *total* is wrong.", "    src/*.py"} <= set(lines)
    kinds = [event.kind for event in await database.events()]
    assert (kinds.count("reservation.transferred"), kinds.count("message.sent")) == (2, 1)
    [lost] = (await renew(office, "Ann", "docs")).reservations
    assert (lost.code, lost.ended_by) == ("reservation_released", "Bob")


async def test_without_paths_it_is_a_message_and_everything_stays(office: Office) -> None:
    await reserve(office, "Ann", "src")
    answer = await hand_off(office, "Bob", task="T" * 1000)
    assert answer.reservations == []
    assert await held(office) == [("Ann", "src")]
    [message] = (await office.inbox("Bob", include_bodies=True)).messages
    assert len(message.subject) == 200
    assert message.body_md == "T" * 1000


REFUSED: dict[str, tuple[type[AgentMailError], Callable[[Office], Awaitable[Any]]]] = {
    "not held": (ReservationNotHeld, lambda office: hand_off(office, "Bob", "src", "docs")),
    "another's": (ReservationNotHeld, lambda office: hand_off(office, "Cid", "src", giver="Bob")),
    "no path": (InvalidPath, lambda office: hand_off(office, "Bob", "src", "../x")),
    "retired": (RecipientsRefused, lambda office: hand_off(office, "Dot", "src")),
    "overseer": (RecipientsRefused, lambda office: hand_off(office, "Overseer", "src")),
    "system": (RecipientsRefused, lambda office: hand_off(office, "System")),
    "unknown": (AgentNotFound, lambda office: hand_off(office, "Nobody", "src")),
    "elsewhere": (AgentNotFound, lambda office: hand_off(office, "Bob@other", "src")),
    "oneself": (Invalid, lambda office: hand_off(office, "ann", "src")),
    "foreign": (AgentNotYours, lambda office: hand_off(office.of("somebody"), "Bob", "src")),
    "retired giver": (AgentRetired, lambda office: hand_off(office, "Bob", giver="Dot")),
}


@pytest.mark.parametrize("why", REFUSED)
async def test_what_is_refused_moves_nothing_and_sends_nothing(office: Office, database: Database, why: str) -> None:
    await reserve(office, "Ann", "src")
    await office.retire("Dot")
    error, call = REFUSED[why]
    before = await database.dump()
    with pytest.raises(error):
        await call(office)
    assert await database.dump() == before


async def test_the_takers_policy_applies(office: Office, database: Database) -> None:
    await reserve(office, "Ann", "src")
    await office.update("Bob", contact_policy="block_all")
    before = await database.dump()
    with pytest.raises(RecipientsRefused):
        await hand_off(office, "Bob", "src")
    assert await database.dump() == before


async def test_a_taker_that_wants_to_be_asked_first_is_asked_and_nothing_moves(office: Office) -> None:
    await reserve(office, "Ann", "src")
    await office.update("Bob", contact_policy="contacts_only")
    asked = []
    for _ in range(2):
        with pytest.raises(RecipientsRefused) as refused:
            await hand_off(office, "Bob", "src")
        asked.append(refused.value.data["contact_ids"])
    assert asked[0] == asked[1]
    assert await held(office) == [("Ann", "src")]
    answer = {"project_slug": "office", "agent_name": "Bob", "contact_name": "Ann", "accept": True}
    await office.call("respond_contact", **answer)
    await hand_off(office, "Bob", "src")
    assert await held(office) == [("Bob", "src")]


async def test_a_reservation_that_has_run_out_is_not_held(office: Office, database: Database) -> None:
    await reserve(office, "Ann", "src")
    await pass_time(database, timedelta(hours=2))
    with pytest.raises(ReservationNotHeld) as refused:
        await hand_off(office, "Bob", "src")
    assert refused.value.data["paths"] == ["src"]
    assert (await office.inbox("Bob")).messages == []


SPLIT: dict[str, tuple[list[str], dict[str, Any], dict[str, Any], bool]] = {
    "a file of its directory": (["src"], {}, {}, True),
    "two patterns": (["s*/*.py"], {}, {}, True),
    "shared and its own alone": (["src"], {"exclusive": False}, {}, True),
    "its own alone and shared": (["src"], {}, {"exclusive": False}, True),
    "shared": (["src"], {"exclusive": False}, {"exclusive": False}, False),
    "advisory": (["src"], {"advisory": True}, {}, False),
    "given as advisory": (["src"], {}, {"advisory": True}, False),
    "run out": (["src"], {"ttl_seconds": 60}, {}, False),
    "other paths": (["lib/**", "src/a.pyi"], {}, {}, False),
}
"""What Ann keeps and how, how she reserved what she hands over, and whether that is refused."""


@pytest.mark.parametrize("how", SPLIT)
async def test_what_one_agent_alone_may_hold_is_not_split_between_two(
    office: Office, database: Database, how: str
) -> None:
    """An agent's own reservations never conflict, until one of them becomes another's (SPEC 3.3 rule 5)."""
    kept, keeping, giving, is_refused = SPLIT[how]
    for paths, mode in ((kept, keeping), (["src/a.py"], giving)):
        assert (await reserve(office, "Ann", *paths, **mode)).granted
    await pass_time(database, timedelta(seconds=61))
    before = await database.dump()
    if is_refused:
        with pytest.raises(ReservationsSplit) as refused:
            await hand_off(office, "Bob", "src/a.py")
        assert refused.value.data["kept"] == kept
        assert await database.dump() == before
        await hand_off(office, "Bob", "src/a.py", *kept)
    else:
        await hand_off(office, "Bob", "src/a.py")
    assert ("Bob", "src/a.py") in await held(office)


async def test_what_the_giver_reserves_at_once_is_not_split_either(office: Office, workers: list[App]) -> None:
    for number in range(8):
        file, directory = f"d{number}/a.py", f"d{number}"
        await reserve(office, "Ann", file)
        here, there = office.at(workers[0]), office.at(workers[-1])
        async with asyncio.timeout(30):
            _, errors = await outcomes([hand_off(here, "Bob", file), reserve(there, "Ann", directory)])
        assert {type(error) for error in errors} <= {ReservationsSplit}
        assert len({holder for holder, path in await held(office) if path in {file, directory}}) == 1


async def test_a_hand_off_that_breaks_off_moves_nothing(
    office: Office, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last thing in the transaction fails: all that was stored before it goes too."""
    await reserve(office, "Ann", "src")
    before = await database.dump()

    async def broken(*_: object) -> None:
        raise RuntimeError("the worker dies here")

    with monkeypatch.context() as patch:
        patch.setattr("agent_mail_core.hand_off.keep_answer", broken)
        with pytest.raises(RuntimeError):
            await hand_off(office, "Bob", "src", idempotency_key="k")
    assert await database.dump() == before
    assert not (await hand_off(office, "Bob", "src", idempotency_key="k")).replayed


async def test_a_retry_answers_the_same_and_does_nothing(office: Office, database: Database) -> None:
    await reserve(office, "Ann", "src")
    first = await hand_off(office, "Bob", "src", idempotency_key="k")
    before = await database.dump()
    again = await hand_off(office, "Bob", "src", idempotency_key="k")
    assert again == first.model_copy(update={"replayed": True})
    with pytest.raises(IdempotencyConflict):
        await hand_off(office, "Bob", "src", notes="More", idempotency_key="k")
    assert await database.dump() == before


async def test_of_hand_offs_at_once_one_has_the_reservation_to_give(
    office: Office, workers: list[App], database: Database
) -> None:
    await reserve(office, "Ann", "src")
    offices = [office.at(workers[n % len(workers)]) for n in range(12)]
    calls = [hand_off(there, ("Bob", "Cid", "Dot")[n % 3], "src") for n, there in enumerate(offices)]
    async with asyncio.timeout(30):
        answers, errors = await outcomes(calls)
    assert len(answers) == 1
    assert {type(error) for error in errors} == {ReservationNotHeld}
    assert [pattern for _, pattern in await held(office)] == ["src"]
    assert (await row_counts(database))["messages"] == 1


async def test_the_same_key_at_once_hands_over_once(office: Office, workers: list[App], database: Database) -> None:
    await reserve(office, "Ann", "src")
    offices = [office.at(workers[n % len(workers)]) for n in range(10)]
    async with asyncio.timeout(30):
        answers, errors = await outcomes([hand_off(there, "Bob", "src", idempotency_key="k") for there in offices])
    assert errors == []
    assert sum(not answer.replayed for answer in answers) == 1
    assert (await row_counts(database))["messages"] == 1


async def test_a_taker_that_retires_at_once_is_left_with_nothing(office: Office, workers: list[App]) -> None:
    for number in range(6):
        taker = f"Taker{number}"
        await office.register(taker)
        await reserve(office, "Ann", f"own/{number}")
        here, there = office.at(workers[0]), office.at(workers[-1])
        async with asyncio.timeout(30):
            await outcomes([hand_off(here, taker, f"own/{number}"), there.retire(taker)])
    assert {holder for holder, _ in await held(office)} <= {"Ann"}
