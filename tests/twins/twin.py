"""One twin: a server in this process on a database of its own, asked by REST or as an MCP client."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import quote, urlencode

import asyncpg
import httpx

from agent_mail_core.clock import SystemClock
from agent_mail_core.jobs import LEASE, perform
from agent_mail_core.ports import App, Caller
from agent_mail_core.presence import PresenceLog
from agent_mail_core.settings import Settings
from agent_mail_core.sweeps import SWEEPS
from agent_mail_server.app import AgentMailServer
from agent_mail_server.http_request import HttpRequest
from agent_mail_server.mcp import McpEndpoint
from agent_mail_server.metrics import ServerMetrics
from agent_mail_server.operations import BY_NAME, Operation
from agent_mail_store.opening import open_store
from agent_mail_summaries.extractive import ExtractiveSummarizer
from agent_mail_worker.jobs import HANDLERS
from tests.contract.databases import Database, PostgresDatabase, SqliteDatabase
from tests.twins.likeness import RANKED, Names
from tests.twins.numbering import Numbering
from tests.twins.steps import CALLERS, LEFT_OUT, NEXT_PAGE, Call, Told
from tests.twins.time_passing import pass_time
from tests.wire.mcp_wire import make_app
from tests.wire.server import URL
from tests.wire.tools import call_tool

WHO = "x-who"


@dataclass(frozen=True)
class Heard:
    """An answer: whether it is one, and what it says. A file is its bytes."""

    is_success: bool
    body: Any


@dataclass
class Twin:
    """Remembers what its answers told, so that the same step can be taken on both."""

    app: App
    database: Database
    presence: PresenceLog
    client: httpx.AsyncClient
    speaks_mcp: bool
    numbering: Numbering | None = None
    """Where ids would have gaps."""
    names: Names = field(default_factory=Names)
    told: dict[str, list[Any]] = field(default_factory=lambda: defaultdict(list))

    async def call(self, call: Call) -> Heard:
        """What it answers."""
        filled = {name: self._filled(value) for name, value in call.arguments.items()}
        arguments = {name: value for name, value in filled.items() if value != LEFT_OUT}
        operation = BY_NAME[call.operation]
        if self.speaks_mcp and operation.is_tool:
            heard = await self._tool(call.caller, operation, arguments)
        else:
            heard = await self._rest(call.caller, operation, arguments, call.route)
        self.told.pop(NEXT_PAGE, None)
        if self.numbering is not None:
            await (self.numbering.note() if heard.is_success else self.numbering.go_back())
        # The order of hits is each engine's own, and what REST gives as a file a tool gives with its name.
        if call.operation != RANKED and not operation.file_types:
            self._remember(heard.body)
        if isinstance(heard.body, dict) and (cursor := heard.body.get("next_cursor") or heard.body.get("cursor")):
            self.told[NEXT_PAGE].append(cursor)
        return heard

    def _filled(self, value: Any) -> Any:
        match value:
            case list():
                return [self._filled(item) for item in value]
            case Told():
                known = self.told[value.what]
                return known[-1 - value.back] if value.back < len(known) else value.otherwise
            case _:
                return value

    def _remember(self, value: Any) -> None:
        match value:
            case dict():
                for name, item in value.items():
                    if isinstance(item, str | int) and item != "list":  # in a path it leads to the list
                        self.told[name].append(item)
                    else:
                        self._remember(item)
            case list():
                for item in value:
                    self._remember(item)

    async def _tool(self, caller: str, operation: Operation, arguments: dict[str, Any]) -> Heard:
        answer = await call_tool(self.client, operation.name, arguments, {WHO: caller})
        return Heard("error" not in answer, answer)

    async def _rest(self, caller: str, operation: Operation, arguments: dict[str, Any], route: int) -> Heard:
        method, _, path = operation.routes[route].partition(" ")
        in_path = Operation.path_fields(path)
        path = path.format(**{name: quote(str(arguments[name]), safe="") for name in in_path})
        rest = {name: value for name, value in arguments.items() if name not in in_path}
        if method == "POST":
            response = await self.client.post(path, json=rest, headers={WHO: caller})
        else:
            query = urlencode({name: _as_text(value) for name, value in rest.items()}, doseq=True)
            response = await self.client.request(method, f"{path}?{query}" if query else path, headers={WHO: caller})
        if response.is_success and operation.file_types:
            return Heard(True, response.content)
        assert response.is_success is ("error" not in response.json())
        if response.is_success and operation.name != "ready":
            assert response.status_code == operation.status
        return Heard(response.is_success, response.json())

    async def pass_time(self, seconds: int) -> None:
        """As if so much had gone by since everything that has happened."""
        await self.presence.flush(self.app.store, everything=True)
        await pass_time(self.database.url, seconds)

    async def do_chores(self) -> None:
        """All sweeps, then the summaries that are wanted."""
        for sweep in SWEEPS.values():
            while await sweep.run(self.app):
                pass
        while True:
            async with self.app.store.write() as db:
                job = await db.jobs.claim(["summary"], LEASE)
            if job is None:
                return
            performed = await perform(self.app, HANDLERS, job)
            assert performed.outcome == "done", performed


def _as_text(value: Any) -> Any:
    match value:
        case bool():
            return str(value).lower()
        case list():
            return [_as_text(item) for item in value]
        case _:
            return value


@asynccontextmanager
async def open_twin(database_url: str, speaks_mcp: bool) -> AsyncIterator[Twin]:
    """A twin on a migrated, empty database, which gets a second team."""
    is_sqlite = database_url.startswith("sqlite")
    database: Database = SqliteDatabase(database_url) if is_sqlite else PostgresDatabase(database_url)
    await database.add_team("strangers")
    settings = Settings.model_validate({"database_url": database_url})
    store = await open_store(settings, SystemClock(), single_server=False)
    try:
        presence = PresenceLog(clock := SystemClock())
        app = replace(make_app(settings, store), clock=clock, presence=presence, summarizer=ExtractiveSummarizer())
        metrics = ServerMetrics()
        endpoint = McpEndpoint(app, metrics)
        server = AgentMailServer(app, metrics, endpoint, lambda: False)
        server._callers.caller = server._callers.metrics_reader = _caller  # type: ignore[method-assign]
        transport = httpx.ASGITransport(server)
        async with (
            httpx.AsyncClient(transport=transport, base_url=URL) as client,
            _numbering(None if is_sqlite else database_url) as numbering,
        ):
            yield Twin(app, database, presence, client, speaks_mcp, numbering)
        await endpoint.close()
    finally:
        await store.close()


@asynccontextmanager
async def _numbering(postgres_url: str | None) -> AsyncIterator[Numbering | None]:
    if postgres_url is None:
        yield None
        return
    connection = await asyncpg.connect(postgres_url)
    try:
        yield Numbering(connection)
    finally:
        await connection.close()


def _caller(http: HttpRequest) -> Caller:
    return replace(CALLERS[http.headers[WHO.encode()].decode()], request_id=http.request_id)
