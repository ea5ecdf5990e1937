"""One worker of the fixture: `python -m tests.conformance.worker PORT REDIS_URL`. Ends on SIGTERM.

The application in front of the endpoint and the ports behind it are the product's; only the tools are the fixture's.
Every answer ends its connection, so that the next request goes to a random worker.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import warnings
from contextlib import AsyncExitStack
from typing import cast

from granian.constants import Interfaces
from granian.server.embed import Server
from mcp.shared.exceptions import MCPDeprecationWarning
from pydantic import SecretStr

from agent_mail_cluster.memory.waiters import MemoryWaiters
from agent_mail_core.clock import SystemClock
from agent_mail_core.ports import App, Store
from agent_mail_core.presence import PresenceLog
from agent_mail_core.settings import Settings
from agent_mail_server import requests_log
from agent_mail_server.app import AgentMailServer
from agent_mail_server.cluster import cluster
from agent_mail_server.mcp import McpEndpoint
from agent_mail_server.metrics import ServerMetrics
from tests.conformance.fixture import WakeupBus, fixture_server


async def serve(port: int, redis_url: str) -> None:
    """Serve until told to stop."""
    settings = Settings(redis_url=SecretStr(redis_url), log_level="warning")
    requests_log.configure(settings)
    clock, metrics, stop = SystemClock(), ServerMetrics(), asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with AsyncExitStack() as stack:
        ports = await stack.enter_async_context(cluster(settings, clock))
        app = App(
            store=cast(Store, None),  # nothing of the fixture asks it
            wakeups=ports.wakeups,
            presence=PresenceLog(clock),
            waiters=MemoryWaiters(settings.max_waiters),
            sessions=ports.sessions,
            signals=ports.signals,
            replies=ports.replies,
            stream_log=ports.stream_log,
            subscriptions=ports.subscriptions,
            limits=ports.limits,
            metrics=metrics,
            clock=clock,
            settings=settings,
            version="1",
            started_at=clock.now(),
            is_draining=stop.is_set,
        )
        bus = WakeupBus(ports.wakeups)
        await stack.enter_async_context(bus.running())
        endpoint = McpEndpoint(app, metrics, (), server=fixture_server(app, bus))
        server = AgentMailServer(app, metrics, endpoint, closes_connections=lambda: True)
        listener = Server(server, address="127.0.0.1", port=port, interface=Interfaces.ASGINL, log_enabled=False)
        serving = asyncio.create_task(listener.serve())
        await stop.wait()
        await endpoint.close(patience=0.5)
        listener.stop()  # type: ignore[no-untyped-call]
        done, _ = await asyncio.wait((serving,), timeout=1)
        if not done:
            os._exit(0)  # the suite left a connection open; the listener must not call into a loop that ends


if __name__ == "__main__":
    warnings.simplefilter("ignore", MCPDeprecationWarning)
    asyncio.run(serve(int(sys.argv[1]), sys.argv[2]))
