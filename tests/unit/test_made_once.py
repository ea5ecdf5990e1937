"""What is made when it is first needed: once, whoever asks, and again when making it failed."""

import asyncio
import threading

import pytest

from agent_mail_core.made_once import MadeOnce


async def test_of_many_who_ask_at_once_one_has_it_made_on_a_thread() -> None:
    threads: list[threading.Thread] = []

    def make() -> object:
        threads.append(threading.current_thread())
        return object()

    late = MadeOnce(make)
    assert await late.made() == []
    found = await asyncio.gather(*(late.get() for _ in range(20)))
    assert len({id(each) for each in found}) == len(threads) == 1
    assert threads[0] is not threading.current_thread()
    assert await late.made() == found[:1]


async def test_what_could_not_be_made_is_made_for_the_next_who_asks() -> None:
    outcomes = iter([OSError("no disk"), "made"])

    def make() -> str:
        match next(outcomes):
            case OSError() as error:
                raise error
            case made:
                return str(made)

    late = MadeOnce(make)
    with pytest.raises(OSError, match="no disk"):
        await late.get()
    assert await late.get() == await late.get() == "made"
