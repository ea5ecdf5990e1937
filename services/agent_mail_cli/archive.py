"""`agent-mail archive`: compare archives with the database, make one anew, show what is in one.

Works on the database and the folder of the settings, beside servers and workers that run.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from agent_mail_archive.opening import open_archive
from agent_mail_core.archive import ArchivePlace, LoggedCommit
from agent_mail_core.archive_verifying import verify
from agent_mail_core.archiving import archived_places, rebuild, the_archive
from agent_mail_core.clock import SystemClock
from agent_mail_core.errors import AgentMailError
from agent_mail_core.ports import App
from agent_mail_core.settings import Settings
from agent_mail_server.errors import STATUS_AND_EXIT
from agent_mail_store.opening import open_store

DIFFERS = 1
UNKNOWN = STATUS_AND_EXIT["not_found"][1]

Project = Annotated[str, typer.Argument(help="Slug, or team/slug.", show_default=False)]
ConfigFile = Annotated[Path | None, typer.Option("--config", help="A TOML file of settings.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="As JSON.")]


def commands(read_settings: Callable[[Path | None], Settings]) -> typer.Typer:
    """The commands below `agent-mail archive`."""
    cli = typer.Typer(help="The git archives of projects.", no_args_is_help=True)

    @cli.command("verify")
    def verify_archives(
        project: Annotated[str | None, typer.Argument(help="Slug, or team/slug; else all.", show_default=False)] = None,
        config: ConfigFile = None,
        is_json: Json = False,
    ) -> None:
        """Compare archives with the database: each event once, each message as its row says. Status 1: they differ."""
        raise typer.Exit(_run(_verify(read_settings(config), project, is_json)))

    @cli.command("rebuild")
    def rebuild_archive(project: Project, config: ConfigFile = None) -> None:
        """Make an archive anew from the events in the database, and put it in the place of the old one."""
        raise typer.Exit(_run(_rebuild(read_settings(config), project)))

    @cli.command("log")
    def show_log(
        project: Project,
        path: Annotated[str | None, typer.Option(help="Only what changed this file or folder.")] = None,
        until: Annotated[datetime | None, typer.Option(help="Nothing after this time (UTC).")] = None,
        limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many commits.")] = 20,
        config: ConfigFile = None,
        is_json: Json = False,
    ) -> None:
        """Show the last commits of an archive."""
        raise typer.Exit(_run(_log(read_settings(config), project, path, until, limit, is_json)))

    return cli


def _run(work: Coroutine[Any, Any, int]) -> int:
    try:
        return asyncio.run(work)
    except AgentMailError as error:
        typer.echo(error.message, err=True)
        return STATUS_AND_EXIT[error.kind][1]


@asynccontextmanager
async def _open(settings: Settings) -> AsyncIterator[App]:
    clock = SystemClock()
    # Every command loads this file, and only these need the whole table of operations.
    from agent_mail_cli.local_app import local_app

    store = await open_store(settings, clock, single_server=False)
    try:
        async with open_archive(settings) as archive:
            yield local_app(settings, store, clock, archive)
    finally:
        await store.close()


async def _verify(settings: Settings, project: str | None, is_json: bool) -> int:
    status = UNKNOWN if project is not None else 0
    rows = []
    async with _open(settings) as app:
        async for place in archived_places(app, project):
            verdict = await verify(app, place)
            status = DIFFERS if verdict.differences or status == DIFFERS else 0
            rows.append({"project": f"{place.team_name}/{place.slug}", **asdict(verdict)})
            if not is_json:
                said = f"{len(verdict.differences)} differences" if verdict.differences else "ok"
                typer.echo(
                    f"{rows[-1]['project']}: {said}; {verdict.events} events, {verdict.messages} messages,"
                    f" {verdict.not_yet} still to be archived, {verdict.archive_alone} in the archive alone"
                )
                for difference in verdict.differences:
                    typer.echo(f"  {difference}")
    if is_json:
        typer.echo(json.dumps(rows, indent=2))
    if status == UNKNOWN:
        typer.echo(f"There is no archive of {project}.", err=True)
    return status


async def _rebuild(settings: Settings, project: str) -> int:
    async with _open(settings) as app:
        place = await _the_place(app, project)
        if place is None:
            return UNKNOWN
        rebuilt = await rebuild(app, place, lambda count: typer.echo(f"\r{count} events", err=True, nl=False))
        typer.echo("", err=True)
        same = {True: "as it was", False: "other files than before: some were removed by retention", None: "new"}
        typer.echo(f"{place.slug}: {rebuilt.archived_events} events, {same[rebuilt.is_same]}")
    return 0


async def _log(
    settings: Settings, project: str, path: str | None, until: datetime | None, limit: int, is_json: bool
) -> int:
    async with _open(settings) as app:
        place = await _the_place(app, project)
        if place is None:
            return UNKNOWN
        commits: list[LoggedCommit] = []
        begin: str | None = None
        while len(commits) < limit:
            part = await the_archive(app).log(place, begin, path, until, limit - len(commits))
            commits += part.commits
            begin = part.next_commit
            if begin is None:
                break
    if is_json:
        typer.echo(json.dumps([asdict(commit) for commit in commits], indent=2, default=str))
    else:
        for commit in commits:
            typer.echo(
                f"{commit.commit[:12]}  {commit.committed_at:%Y-%m-%d %H:%M:%S}  {commit.author}: {commit.subject}"
            )
    return 0


async def _the_place(app: App, project: str) -> ArchivePlace | None:
    """The one archive of that name."""
    places = [place async for place in archived_places(app, project)]
    if len(places) == 1:
        return places[0]
    known = ", ".join(f"{place.team_name}/{place.slug}-{place.project_id}" for place in places)
    typer.echo(
        f"Several archives have that name: {known}." if places else f"There is no archive of {project}.", err=True
    )
    return None
