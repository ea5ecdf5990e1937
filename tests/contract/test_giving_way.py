"""How background work takes turns with the requests of its process."""

from dataclasses import dataclass, replace

import pytest
from pydantic import SecretStr

from agent_mail_core.giving_way import LONGEST_REST, LOOK_SECONDS, REST, give_way
from agent_mail_core.health import MetricsSnapshot
from agent_mail_core.ports import App, Metrics

STEP = 4 * LOOK_SECONDS / REST
"""After a step of so many seconds it may look four times."""


@dataclass
class Requests(Metrics):
    """Figures of a server that answers as many requests between two looks; and how often was looked."""

    arriving: int
    looks: int = 0

    def snapshot(self) -> MetricsSnapshot:
        self.looks += 1
        return MetricsSnapshot(
            requests=self.looks * self.arriving, errors=0, messages_sent=0, waiting_calls=0, tools=[]
        )


@pytest.mark.parametrize("arriving, took, looks", [(3, STEP, 5), (0, STEP, 2), (3, 0, 1)])
async def test_it_rests_as_long_as_requests_come(app: App, arriving: int, took: float, looks: int) -> None:
    figures = Requests(arriving)
    await give_way(replace(app, metrics=figures), took)
    assert figures.looks == looks


async def test_no_rest_is_endless(app: App) -> None:
    figures = Requests(1)
    await give_way(replace(app, metrics=figures), 1000)
    assert figures.looks <= LONGEST_REST / LOOK_SECONDS + 2


async def test_a_job_worker_does_not_rest(app: App) -> None:
    figures = Requests(1)
    settings = app.settings.model_copy(update={"redis_url": SecretStr("redis://127.0.0.1:1")})
    await give_way(replace(app, metrics=figures, settings=settings), 1)
    assert figures.looks == 0
