"""A few plans on fresh twins; `python -m tests.twins.run` takes as many as there is time for.

The other tests plant what the twins must not do, and see that it is noticed: a comparison that compares nothing would
let every plan pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent_mail_server.operations import OPERATIONS
from tests.twins.databases import Pairs
from tests.twins.invariants import Broken, broken_invariant, insist
from tests.twins.likeness import Names, difference, unranked
from tests.twins.plans import furniture, plan
from tests.twins.run import outcome, shortest
from tests.twins.steps import Call, Chores, Pass, Step
from tests.twins.trial import open_twins
from tests.twins.twin import Heard, Twin
from tests.twins.values import drawn_from

LENGTH = 100


@pytest.fixture
def pairs(sqlite_template: Path, postgres_url: str, postgres_template: str, tmp_path: Path) -> Pairs:
    return Pairs(tmp_path, sqlite_template, postgres_url, postgres_template)


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_twins_answer_alike_whatever_they_are_asked(pairs: Pairs, seed: int) -> None:
    assert await outcome(pairs, plan(seed, LENGTH), first_speaks_mcp=seed % 2 == 0) is None


def test_plans_are_known_by_their_seed_and_reach_every_operation() -> None:
    assert plan(7, LENGTH) == plan(7, LENGTH) != plan(8, LENGTH)
    steps = [step for seed in range(60) for step in plan(seed, LENGTH)]
    assert {step.operation for step in steps if isinstance(step, Call)} == {row.name for row in OPERATIONS}
    assert {type(step) for step in steps} == {Call, Pass, Chores}


def test_every_argument_can_be_drawn() -> None:
    for row in OPERATIONS:
        for name in row.request_type.model_fields:
            assert callable(drawn_from(row.name, name)), (row.name, name)


ALIKE: list[tuple[Any, Any]] = [
    ({"cursor": "a", "n": 1}, {"cursor": "b", "n": 1}),
    ("2026-11-23T04:00:00Z", "2026-11-23T04:00:01.5Z"),
    (["T-ABCDEFGHIJ", "on T-ABCDEFGHIJ"], ["T-KLMNOPQRST", "on T-KLMNOPQRST"]),
]
UNLIKE: list[tuple[Any, Any]] = [
    ({"a": 1}, {"a": 1, "cursor": "x"}),
    ({"a": 1}, {"a": 2}),
    ({"a": 1}, {"a": True}),
    ([1, 2], [2, 1]),
    ([1], [1, 1]),
    ("2026-11-23T04:00:00Z", "2026-11-23T05:00:00Z"),
    (["T-ABCDEFGHIJ", "T-ABCDEFGHIJ"], ["T-KLMNOPQRST", "T-ZZZZZZZZZZ"]),
    ("one", "other"),
]


@pytest.mark.parametrize("first, second", ALIKE)
def test_what_no_two_servers_have_in_common_is_no_difference(first: Any, second: Any) -> None:
    assert difference(first, second, (Names(), Names())) is None


@pytest.mark.parametrize("first, second", UNLIKE)
def test_a_difference_is_one_from_either_side(first: Any, second: Any) -> None:
    assert difference(first, second, (Names(), Names())) is not None
    assert difference(second, first, (Names(), Names())) is not None


def test_the_order_of_hits_is_no_difference_but_their_content_is() -> None:
    one, other = {"message_id": 1, "rank": 1}, {"message_id": 2, "rank": 2}
    turned = [{"message_id": 2, "rank": 1}, {"message_id": 1, "rank": 2}]
    assert unranked({"hits": [one, other]}) == unranked({"hits": turned})
    assert unranked({"hits": [one, other]}) != unranked({"hits": [one, {"message_id": 3, "rank": 2}]})
    assert unranked({"hits": [one, other]}) != unranked({"hits": [one]})


async def test_a_fault_of_one_twin_is_found_and_told_in_few_steps(
    pairs: Pairs, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = Twin.call

    async def lie(twin: Twin, call: Call) -> Heard:
        heard = await honest(twin, call)
        if twin.app.store.engine == "postgres" and call.operation == "list_outbox" and heard.is_success:
            return replace(heard, body={**heard.body, "messages": heard.body["messages"][1:]})
        return heard

    monkeypatch.setattr(Twin, "call", lie)
    outbox = Call("ann", "list_outbox", {"project_slug": "shop", "agent_name": "Bob"})
    steps: Sequence[Step] = [*furniture(), Pass(77), outbox]
    kept = await shortest(pairs, steps, first_speaks_mcp=False)
    assert [step.operation for step in kept if isinstance(step, Call)][-2:] == ["send_message", "list_outbox"]
    assert len(kept) < len(steps) / 2


BREAKING = (
    "UPDATE mailboxes SET unread = unread + 1",
    "UPDATE deliveries SET position = position + 1 WHERE position = (SELECT max(position) FROM deliveries)",
    "UPDATE threads SET message_count = message_count + 1",
    "UPDATE reservations SET is_exclusive = true",
    "UPDATE build_slots SET capacity = 1",
    """UPDATE events SET data = '{"text": "In-the-body"}' WHERE kind = 'message.sent'""",
)


@pytest.mark.parametrize("statement", BREAKING)
async def test_a_database_that_is_wrong_is_noticed(pairs: Pairs, statement: str) -> None:
    shop = {"project_slug": "shop"}
    steps: list[Step] = [*furniture()]
    for name in ("Ann", "Bob"):
        agent = {**shop, "agent_name": name}
        steps.append(Call("ann", "reserve_file", {**agent, "paths": ["src/*"], "exclusive": False}))
        steps.append(Call("ann", "acquire_build_slot", {**agent, "slot_name": "main", "capacity": 2}))
    with pairs.fresh() as urls:
        async with open_twins(urls, first_speaks_mcp=True) as twins:
            assert await twins.take(steps) is None
            assert await broken_invariant(twins.first, steps) is None
            await twins.first.database.execute(statement)
            assert await broken_invariant(twins.first, steps) is not None


def test_what_does_not_hold_is_raised() -> None:
    insist(True)
    with pytest.raises(Broken, match="why"):
        insist(False, "why")
