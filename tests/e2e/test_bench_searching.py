"""A short run of the benchmark's searches: each answered as it was asked, and most of what is nearest is found."""

import re

import pytest

from bench.main import AUTH, LIMITS, TOKEN, backing
from bench.searching import MODES, QUERIES_A_SECOND, searches
from bench.setting import Setting


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "engine", ["sqlite", pytest.param("cluster", marks=[pytest.mark.postgres, pytest.mark.valkey])]
)
def test_each_way_of_searching_is_measured(engine: str) -> None:
    with backing(engine, {}) as (settings, cpu):
        rows = searches(Setting(engine, AUTH | LIMITS | settings, cpu, TOKEN, messages=100, seconds=1, seed=1))
    assert [row.scenario for row in rows] == [f"search-{mode}" for mode in MODES]
    assert all(
        row.requests == QUERIES_A_SECOND and 0 < row.p50 <= row.p95 <= row.p99 and row.server_cpu > 0 for row in rows
    )
    found = re.search(r"1,000 messages finds (\S+)%", rows[1].note)
    assert found is not None
    assert float(found[1]) > 95, rows[1].note
