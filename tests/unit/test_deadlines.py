"""Deadlines behave as asyncio's time-outs do, and share a timer."""

import asyncio
from typing import Any

import pytest

from agent_mail_server.deadlines import alarms, deadline


async def never() -> None:
    """Wait for what does not come."""
    await asyncio.Event().wait()


async def limited_to(seconds: float) -> None:
    """Wait for it as long as that."""
    with deadline(seconds):
        await never()


async def test_what_takes_too_long_is_cancelled() -> None:
    with pytest.raises(TimeoutError) as raised:
        await limited_to(0.01)
    assert isinstance(raised.value.__cause__, asyncio.CancelledError)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_what_ends_in_time_leaves_nothing() -> None:
    with deadline(0.02):
        assert len(alarms(0.02)) == 1
    assert len(alarms(0.02)) == 0
    with pytest.raises(ZeroDivisionError), deadline(0.02):
        raise ZeroDivisionError
    assert len(alarms(0.02)) == 0


async def test_a_cancellation_from_outside_stays_one() -> None:
    began = asyncio.Event()

    async def work() -> None:
        with deadline(60):
            began.set()
            await never()

    task = asyncio.create_task(work())
    await began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(alarms(60)) == 0


async def test_a_cancellation_from_outside_wins_over_the_deadline() -> None:
    async def work() -> None:
        with deadline(0.01):
            try:
                await never()
            finally:
                task.cancel()

    task = asyncio.create_task(work())
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_each_ends_at_its_own_time_though_one_timer_serves_all(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    call_at, timers = loop.call_at, []
    late = asyncio.Event()
    loop.call_later(0.02, late.set)

    def counted(when: float, *rest: Any, **options: Any) -> asyncio.TimerHandle:
        timers.append(when)
        return call_at(when, *rest, **options)

    async def seconds(first: asyncio.Event | None) -> float:
        if first is not None:
            await first.wait()
        began = loop.time()
        with pytest.raises(TimeoutError):
            await limited_to(0.05)
        return loop.time() - began

    monkeypatch.setattr(loop, "call_at", counted)
    took = await asyncio.gather(*(seconds(None) for _ in range(100)), *(seconds(late) for _ in range(100)))
    assert 0.049 < min(took) < max(took) < 1
    assert len(timers) < 20


async def test_deadlines_nest() -> None:
    async def both() -> None:
        with deadline(60):
            with pytest.raises(TimeoutError):
                await limited_to(0.01)
            await limited_to(0.02)

    with pytest.raises(TimeoutError):
        await both()
    assert len(alarms(60)) == 0
