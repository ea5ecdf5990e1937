"""Performing an operation, where it ends: deadlines, and writes whose caller has gone."""

import asyncio
from typing import Any

import pytest

from agent_mail_core.errors import Forbidden, TransactionConflict, Unavailable
from agent_mail_core.fields import NoArguments, Request, Result
from agent_mail_core.ids import Principal, TeamId
from agent_mail_core.ports import App, Caller, Role
from agent_mail_server.dispatch import perform
from agent_mail_server.operations import Operation
from tests.wire.server import served

CALLER = Caller(TeamId(1), Principal("local"), Role.writer, "test")


class Done(Result):
    tries: int = 1


class Patience(Request):
    wait_seconds: float = 0


async def test_a_read_ends_at_its_deadline(one_process: str) -> None:
    async def hang(app: App, caller: Caller, request: NoArguments) -> Done:
        await asyncio.Event().wait()
        return Done()

    async with served(one_process, request_timeout_seconds=0.05) as server:
        with pytest.raises(Unavailable):
            async with asyncio.timeout(10):
                await perform(
                    server.app, server.metrics, CALLER, Operation(hang, ("GET /x",), Role.reader), NoArguments()
                )


@pytest.mark.parametrize("wait_seconds, waiting, at_work", [(0, 0, 1), (5, 1, 0)])
async def test_only_a_call_that_asks_to_wait_gives_up_its_place_at_work(
    one_process: str, wait_seconds: float, waiting: int, at_work: int
) -> None:
    async with served(one_process) as server:
        figures = server.metrics

        async def look(app: App, caller: Caller, request: Patience) -> Done:
            assert (figures.waiting, figures.at_work) == (waiting, at_work)
            return Done()

        operation = Operation(look, ("POST /x",), Role.writer, is_waiting=True)
        figures.in_flight += 1
        await perform(server.app, figures, CALLER, operation, Patience(wait_seconds=wait_seconds))
        figures.in_flight -= 1
        assert (figures.waiting, figures.at_work) == (0, 0)


async def test_a_write_that_began_ends_though_its_caller_has_gone(one_process: str) -> None:
    began, may_end, has_ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def write(app: App, caller: Caller, request: NoArguments) -> Done:
        began.set()
        await may_end.wait()
        has_ended.set()
        return Done()

    async with served(one_process) as server:
        operation = Operation(write, ("POST /x",), Role.writer)
        call = asyncio.create_task(perform(server.app, server.metrics, CALLER, operation, NoArguments()))
        await began.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        may_end.set()
        async with asyncio.timeout(10):
            await has_ended.wait()


@pytest.mark.parametrize("losses, outcome", [(3, Done(tries=4)), (4, TransactionConflict)])
async def test_a_lost_race_is_run_three_times_more(one_process: str, losses: int, outcome: Any) -> None:
    tries = 0

    async def race(app: App, caller: Caller, request: NoArguments) -> Done:
        nonlocal tries
        tries += 1
        if tries <= losses:
            raise TransactionConflict
        return Done(tries=tries)

    async with served(one_process) as server:
        performing = perform(
            server.app, server.metrics, CALLER, Operation(race, ("POST /x",), Role.writer), NoArguments()
        )
        if isinstance(outcome, Done):
            assert await performing == outcome
        else:
            with pytest.raises(outcome):
                await performing


async def test_a_reader_may_not_write(one_process: str) -> None:
    async def write(app: App, caller: Caller, request: NoArguments) -> Done:
        raise AssertionError("it was performed")

    reader = Caller(TeamId(1), Principal("local"), Role.reader, "test")
    async with served(one_process) as server:
        with pytest.raises(Forbidden):
            await perform(
                server.app, server.metrics, reader, Operation(write, ("POST /x",), Role.writer), NoArguments()
            )
