"""When the faults of a trial happen: at their shares of the work, however fast that goes and however long they last."""

from __future__ import annotations

import itertools
import random

import pytest

from loadtests import trial
from loadtests.cluster import Cluster, Postgres
from loadtests.trial import LEAST_SHARE, Stalled, Work, hurt
from tests.contract.valkey_server import valkey_server

MESSAGES = 900
SHARE = MESSAGES / 4.5


@pytest.mark.valkey
async def test_faults_are_spread_over_the_work_and_one_that_lasts_is_followed_by_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(trial, "LEAST_SECONDS", 0)
    monkeypatch.setattr(trial, "LOOK_SECONDS", 0)
    sent = itertools.count()  # one message whenever somebody looks
    work = Work(MESSAGES, "messages", lambda: next(sent))

    async def short(cluster: Cluster, chance: random.Random) -> str:
        return "a part"

    async def long(cluster: Cluster, chance: random.Random) -> str:
        for _ in range(MESSAGES // 2):
            next(sent)
        return "another part"

    known = {"short": short, "long": long}
    with valkey_server() as valkey:
        cluster = Cluster(Postgres("postgresql://nowhere"), valkey, "postgresql://nowhere")
        happened = await hurt(cluster, work, known, ["short", "long", "short", "short"], random.Random(1))
    assert [each.part for each in happened] == ["a part", "another part", "a part", "a part"]
    first, second, third, fourth = (each.done for each in happened)
    assert 0.2 * SHARE <= first <= 0.9 * SHARE
    assert 1.2 * SHARE <= second <= 1.9 * SHARE
    assert third >= second + MESSAGES // 2 + LEAST_SHARE * SHARE, "not at once, though it was due long ago"
    assert fourth >= third + LEAST_SHARE * SHARE


async def test_work_that_does_not_go_on_ends_the_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "STALL_SECONDS", 0.1)
    with pytest.raises(Stalled, match=r"7\.0 of 900 messages"):
        await Work(MESSAGES, "messages", lambda: 7).reach(MESSAGES)
