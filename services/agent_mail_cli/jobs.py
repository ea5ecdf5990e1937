"""`agent-mail job`: background jobs that were given up: list them, have them tried again, forget them.

Works on the database of the settings, beside servers and workers that run; they find what is to be tried again within
seconds.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated

import typer

from agent_mail_archive.opening import open_archive
from agent_mail_core.clock import SystemClock
from agent_mail_core.dead_jobs import (
    ChooseDeadJobs,
    DeadJob,
    DroppedJobs,
    ListDeadJobs,
    RetriedJobs,
    drop_job,
    list_dead_jobs,
    retry_job,
)
from agent_mail_core.errors import AgentMailError
from agent_mail_core.job_queue import JobKind
from agent_mail_core.ports import App, Caller, Role
from agent_mail_core.settings import Settings
from agent_mail_server.callers import DEFAULT_TEAM, LOCAL
from agent_mail_server.errors import STATUS_AND_EXIT
from agent_mail_store.opening import open_store

ADMINISTRATOR = Caller(DEFAULT_TEAM, LOCAL, Role.admin, "cli")

ConfigFile = Annotated[Path | None, typer.Option("--config", help="A TOML file of settings.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="As JSON.")]
Kind = Annotated[JobKind, typer.Argument(help="What kind of job.", show_default=False)]
Subject = Annotated[
    int | None, typer.Argument(min=0, help="The id that `dead` shows; else all of the kind.", show_default=False)
]


def commands(read_settings: Callable[[Path | None], Settings]) -> typer.Typer:
    """The commands below `agent-mail job`."""
    cli = typer.Typer(help="Background jobs that were given up.", no_args_is_help=True)

    @cli.command("dead")
    def dead(config: ConfigFile = None, is_json: Json = False) -> None:
        """List them, with the last error of each."""
        raise typer.Exit(_run(read_settings(config), lambda app: _list(app, is_json)))

    @cli.command("retry")
    def retry(kind: Kind, subject_id: Subject = None, config: ConfigFile = None, is_json: Json = False) -> None:
        """Have one tried again from the beginning, or all of its kind."""

        async def act(app: App) -> None:
            _say(await retry_job(app, ADMINISTRATOR, ChooseDeadJobs(kind=kind, subject_id=subject_id)), is_json)

        raise typer.Exit(_run(read_settings(config), act))

    @cli.command("drop")
    def drop(kind: Kind, subject_id: Subject = None, config: ConfigFile = None, is_json: Json = False) -> None:
        """Forget one, or all of its kind."""

        async def act(app: App) -> None:
            _say(await drop_job(app, ADMINISTRATOR, ChooseDeadJobs(kind=kind, subject_id=subject_id)), is_json)

        raise typer.Exit(_run(read_settings(config), act))

    return cli


async def _list(app: App, is_json: bool) -> None:
    jobs: list[DeadJob] = []
    cursor = None
    while True:
        page = await list_dead_jobs(app, ADMINISTRATOR, ListDeadJobs(limit=100, cursor=cursor))
        jobs += page.jobs
        cursor = page.next_cursor
        if cursor is None:
            break
    if is_json:
        typer.echo(json.dumps([job.model_dump(mode="json") for job in jobs], indent=2))
    else:
        for job in jobs:
            typer.echo(f"{job.kind:<10} {job.subject_id:<10} {job.attempts} attempts  {job.last_error or ''}")


def _say(result: RetriedJobs | DroppedJobs, is_json: bool) -> None:
    ((what, count),) = result.model_dump().items()
    typer.echo(result.model_dump_json() if is_json else f"{what}: {count}")


def _run(settings: Settings, act: Callable[[App], Awaitable[None]]) -> int:
    try:
        asyncio.run(_with_app(settings, act))
    except AgentMailError as error:
        typer.echo(error.message, err=True)
        return STATUS_AND_EXIT[error.kind][1]
    return 0


async def _with_app(settings: Settings, act: Callable[[App], Awaitable[None]]) -> None:
    clock = SystemClock()
    # Every command loads this file, and only these need the whole table of operations.
    from agent_mail_cli.local_app import local_app

    store = await open_store(settings, clock, single_server=False)
    try:
        async with open_archive(settings) as archive:
            await act(local_app(settings, store, clock, archive))
    finally:
        await store.close()
