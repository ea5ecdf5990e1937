"""What the ledger stops for a while goes on, also when the ledger is killed meanwhile."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from loadtests.pausing import paused
from tests.e2e.serving import ROOT, clean_environment, stat, stop

PAUSE_FOR_EVER = """
import sys, time
from loadtests.pausing import paused
with paused(lambda: [int(word) for word in sys.argv[1:]]):
    print("paused", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def sleepers() -> Iterator[list[int]]:
    """Two processes."""
    started = [subprocess.Popen(["sleep", "600"], start_new_session=True) for _ in range(2)]
    yield [process.pid for process in started]
    for process in started:
        process.kill()
        process.wait()


def are_stopped(pids: list[int]) -> list[bool]:
    return [stat(pid)[0] == "T" for pid in pids]


def until(holds: Callable[[], bool], patience: float = 10.0) -> None:
    deadline = time.monotonic() + patience
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_they_stand_still_and_go_on_at_the_end(sleepers: list[int]) -> None:
    asked = iter([sleepers[:1], sleepers, sleepers])
    with paused(lambda: next(asked)) as stopped:
        assert stopped == sleepers
        until(lambda: all(are_stopped(sleepers)))
    until(lambda: not any(are_stopped(sleepers)))


def test_one_that_has_ended_holds_up_nobody(sleepers: list[int]) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    with paused(lambda: [sleepers[0], gone.pid, sleepers[1]]):
        until(lambda: all(are_stopped(sleepers)))
    until(lambda: not any(are_stopped(sleepers)))


def test_they_go_on_when_whoever_stopped_them_is_killed(sleepers: list[int]) -> None:
    command = [sys.executable, "-c", PAUSE_FOR_EVER, *map(str, sleepers)]
    pausing = subprocess.Popen(command, env=clean_environment(ROOT, {}), stdout=subprocess.PIPE)
    assert pausing.stdout is not None
    try:
        assert pausing.stdout.readline() == b"paused\n"
        until(lambda: all(are_stopped(sleepers)))
        pausing.kill()
        until(lambda: not any(are_stopped(sleepers)))
    finally:
        stop(pausing)
        pausing.stdout.close()
