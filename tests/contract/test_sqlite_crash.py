"""A process that writes to SQLite is killed: what it had acknowledged is there, and nothing is there by half."""

import asyncio
import os
import random

import pytest
from pydantic import SecretStr

from agent_mail_core.clock import SystemClock
from agent_mail_core.errors import ServerAlreadyRunning
from agent_mail_core.settings import Settings
from agent_mail_store.opening import open_store
from agent_mail_store.sqlite.store import SqliteStore
from tests.contract.sqlite_mail import NAMES, child, furnish, inbox, opened, outgoing, sound

SENDERS = 8

SEND_FOREVER = """
import asyncio, sys
from tests.contract.test_sqlite_crash import send_forever
asyncio.run(send_forever(*sys.argv[1:]))
"""
HOLD_SERVER_LOCK = """
import asyncio, sys
from tests.contract.test_sqlite_crash import hold_server_lock
asyncio.run(hold_server_lock(sys.argv[1]))
"""


async def send_forever(url: str, round_number: str) -> None:
    """Send from eight tasks until killed; write each subject out once it is acknowledged."""

    async def sender(number: int) -> None:
        chance = random.Random(number)
        for count in range(1_000_000):
            subject = f"{round_number}-{number}-{count}"
            names = tuple(chance.sample(NAMES, 2))
            await store.deliver(outgoing("Ann", names, subject, body_md="word " * chance.randint(1, 400)))
            os.write(1, f"{subject} {' '.join(names)}\n".encode())

    async with opened(url) as store:
        await asyncio.gather(*(sender(number) for number in range(SENDERS)))


@pytest.mark.parametrize("seed", range(3))
async def test_acknowledged_messages_survive_sigkill(fresh_sqlite: str, seed: int) -> None:
    chance = random.Random(seed)
    acknowledged: list[list[str]] = []
    async with opened(fresh_sqlite) as store:
        agents = await furnish(store)
    for number in range(4):
        with child(SEND_FOREVER, fresh_sqlite, str(number)) as process:
            assert process.stdout is not None
            acknowledged += [process.stdout.readline().split() for _ in range(chance.randint(1, 300))]
            process.kill()
            # The last line may have been cut.
            acknowledged += [line.split() for line in process.stdout.read().splitlines(True) if line.endswith("\n")]
        async with opened(fresh_sqlite) as store:
            for name in NAMES:
                subjects = await inbox(store, agents[name])
                assert {line[0] for line in acknowledged if name in line[1:]} <= set(subjects)
                assert len(set(subjects)) == len(subjects)
        sound(fresh_sqlite)


async def test_a_busy_process_does_not_keep_another_from_writing(fresh_sqlite: str) -> None:
    async with opened(fresh_sqlite) as store:
        agents = await furnish(store)
        with child(SEND_FOREVER, fresh_sqlite, "0") as process:
            assert process.stdout is not None
            assert process.stdout.readline()
            reader = asyncio.create_task(asyncio.to_thread(process.stdout.read))
            for number in range(20):
                await store.deliver(outgoing("Ann", ("Bob",), f"mine-{number}"))
            process.kill()
            await reader
        mine = [subject for subject in await inbox(store, agents["Bob"]) if subject.startswith("mine")]
        assert mine == [f"mine-{number}" for number in range(20)]


async def hold_server_lock(url: str) -> None:
    """Be the one server until killed."""
    await open_store(Settings(database_url=SecretStr(url)), SystemClock(), single_server=True)
    os.write(1, b"held\n")
    await asyncio.Event().wait()


async def test_there_is_one_server_and_the_kernel_frees_its_place_when_it_is_killed(fresh_sqlite: str) -> None:
    settings = Settings(database_url=SecretStr(fresh_sqlite))
    with child(HOLD_SERVER_LOCK, fresh_sqlite) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(ServerAlreadyRunning):
            await open_store(settings, SystemClock(), single_server=True)
        async with opened(fresh_sqlite) as command:  # the command line and stdio may share the file
            await furnish(command)
        process.kill()
        process.wait()
        store = await open_store(settings, SystemClock(), single_server=True)
    assert isinstance(store, SqliteStore)
    with pytest.raises(ServerAlreadyRunning):
        await open_store(settings, SystemClock(), single_server=True)
    await store.close()
    await (await open_store(settings, SystemClock(), single_server=True)).close()
