"""The command `agent-mail`."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import dotenv
import typer

from agent_mail_cli import archive, jobs
from agent_mail_cli.settings_view import as_json, as_table
from agent_mail_core.errors import AgentMailError
from agent_mail_core.settings import Settings, load
from agent_mail_core.settings_errors import SettingsError
from agent_mail_core.version import version
from agent_mail_migrations.runner import MigrationReport, begin_epoch
from agent_mail_migrations.runner import migrate as migrate_database
from agent_mail_server.errors import STATUS_AND_EXIT

BAD_SETTINGS = 2

cli = typer.Typer(
    name="agent-mail",
    help="Mail for coding agents. Exit status: 0 done, 1 a fault of ours, 2 wrong settings or arguments,"
    " 5 there is no such thing, 10 a service is away.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

ConfigFile = Annotated[Path | None, typer.Option("--config", help="A TOML file of settings.", show_default=False)]
DatabaseUrl = Annotated[str | None, typer.Option("--database-url", help="DATABASE_URL.", show_default=False)]


cli.add_typer(archive.commands(lambda config: _settings(config)[0]), name="archive")
cli.add_typer(jobs.commands(lambda config: _settings(config)[0]), name="job")


def main() -> None:
    """The entry point of the installed command."""
    cli()


def _version(is_wanted: bool) -> None:
    if is_wanted:
        typer.echo(f"agent-mail {version()}")
        raise typer.Exit


@cli.callback()
def _global(
    _: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say which version this is.")
    ] = False,
) -> None:
    pass


@cli.command()
def serve(
    host: Annotated[str | None, typer.Option(help="HOST: address to listen on.", show_default=False)] = None,
    port: Annotated[int | None, typer.Option(help="PORT: port to listen on.", show_default=False)] = None,
    workers: Annotated[
        int | None, typer.Option(help="WORKERS: processes on the port; several need REDIS_URL.", show_default=False)
    ] = None,
    database_url: DatabaseUrl = None,
    config: ConfigFile = None,
) -> None:
    """Serve MCP and REST until SIGTERM or Ctrl-C. A SQLite database is made and migrated at start.

    SIGHUP reads the settings again. Several workers are replaced one by one, and nobody notices. One alone begins again
    in place: new connections wait for a moment, streams end, and so do MCP sessions when there is no Redis.
    """
    gc.disable()  # what is loaded stays: looking for garbage in it takes a seventh of the start
    from agent_mail_server.main import serve as serve_until_stopped  # takes most of a second, which only this needs

    gc.freeze()  # nor is it looked through later, which would also copy what workers share
    gc.enable()
    options = {"HOST": host, "PORT": port, "WORKERS": workers, "DATABASE_URL": database_url}
    settings, warnings = _settings(config, **options)
    raise typer.Exit(serve_until_stopped(settings, warnings, lambda: _read(config, options)[0]))


@cli.command()
def worker(config: ConfigFile = None) -> None:
    """Do the background work of a cluster (archive, summaries, sweeps) until SIGTERM or Ctrl-C."""
    from agent_mail_worker.main import work  # as above

    settings, warnings = _settings(config)
    raise typer.Exit(work(settings, warnings))


@cli.command()
def migrate(
    database_url: DatabaseUrl = None,
    config: ConfigFile = None,
    is_restored: Annotated[
        bool, typer.Option("--restored", help="It was restored from a backup, or promoted; no server runs.")
    ] = False,
) -> None:
    """Bring the database to the schema of this version. Run it before the servers of a new version start.

    After a restore or a promotion run it once with --restored: cursors from before expire, and events of another
    PostgreSQL are put behind those to come.
    """
    settings, warnings = _settings(config, DATABASE_URL=database_url)
    _warn(warnings)
    try:
        report = asyncio.run(_migrate(settings.database_url.get_secret_value(), is_restored))
    except AgentMailError as error:
        typer.echo(error.message, err=True)
        raise typer.Exit(STATUS_AND_EXIT[error.kind][1]) from None
    for name in report.applied:
        typer.echo(f"applied {name}")
    typer.echo(f"{report.engine}: schema {report.version}, {len(report.applied) or 'nothing'} applied")
    if is_restored:
        typer.echo("a new epoch has begun: clients' cursors from before the restore have expired")


async def _migrate(database_url: str, is_restored: bool) -> MigrationReport:
    report = await migrate_database(database_url)
    if is_restored:
        await begin_epoch(database_url)
    return report


@cli.command("config")
def show_config(
    config: ConfigFile = None,
    is_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Show the settings in force, secrets masked."""
    settings, warnings = _settings(config)
    _warn(warnings)
    typer.echo(as_json(settings) if is_json else as_table(settings))


@cli.command()
def doctor(
    database_url: DatabaseUrl = None,
    config: ConfigFile = None,
    is_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Look whether database, schema, Redis, archive, clocks and disk are well, and whether the connections suffice.

    Exit status 10 when one of them is not.
    """
    from agent_mail_cli import doctor as examination

    settings, warnings = _settings(config, DATABASE_URL=database_url)
    _warn(warnings)
    findings = asyncio.run(examination.examine(settings))
    if is_json:
        typer.echo(json.dumps(examination.as_rows(findings), indent=2))
    else:
        for finding in findings:
            typer.echo(f"{finding.status:<8} {finding.name:<14} {finding.detail}")
    raise typer.Exit(STATUS_AND_EXIT["unavailable"][1] if examination.worst(findings) == "failed" else 0)


def _settings(config: Path | None, **options: str | int | None) -> tuple[Settings, list[str]]:
    """The settings in force; or the end of the program, with every problem on a line."""
    try:
        return _read(config, options)
    except SettingsError as error:
        typer.echo(f"agent-mail: the settings cannot be used\n{error}", err=True)
        sys.exit(BAD_SETTINGS)


def _read(config: Path | None, options: Mapping[str, str | int | None]) -> tuple[Settings, list[str]]:
    """Settings from options, environment, `.env` and file. Raises SettingsError."""
    given = {name: str(value) for name, value in options.items() if value is not None}
    return load(
        {**os.environ, **given},
        dotenv.dotenv_values(".env"),
        _toml(config) if config is not None else None,
        lambda path: Path(path).read_text(encoding="utf-8"),
    )


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"--config: cannot read {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"--config: {path} is not TOML in UTF-8: {error}") from None


def _warn(warnings: list[str]) -> None:
    for warning in warnings:
        typer.echo(f"warning: {warning}", err=True)
