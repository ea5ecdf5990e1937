"""The users of a load test: agents on all three transports, some polling by cursor and some waiting.

`locust -f loadtests/locustfile.py --host http://127.0.0.1:8765` opens Locust's own page; class names after the options
choose among the users. `make load` runs them all against a cluster of its own.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from locust import events

from loadtests.teams import CHECKS, Teammate
from loadtests.transports import Modern, Rest, Session


class RestAgent(Teammate):
    """Polls over REST."""

    transport_class = Rest
    weight = 3


class RestWaiter(Teammate):
    """Waits over REST."""

    transport_class = Rest
    is_waiting = True
    weight = 1


class McpAgent(Teammate):
    """Polls over MCP 2026-07-28."""

    transport_class = Modern
    weight = 3


class McpWaiter(Teammate):
    """Waits over MCP 2026-07-28; its answers are streams."""

    transport_class = Modern
    is_waiting = True
    weight = 1


class SessionAgent(Teammate):
    """Polls in an MCP session."""

    transport_class = Session
    weight = 3


class SessionWaiter(Teammate):
    """Waits in an MCP session."""

    transport_class = Session
    is_waiting = True
    weight = 1


def add_options(parser: Any, **_: Any) -> None:
    """Options of ours."""
    parser.add_argument("--token", env_var="AGENT_MAIL_TOKEN", is_secret=True, default="", help="Bearer token")
    parser.add_argument("--checks-file", default="", help="Where to write how often each check held, as JSON")


def tell_checks(environment: Any, **_: Any) -> None:
    """How much was verified; an empty list would mean that nothing was."""
    for what, count in sorted(CHECKS.items()):
        logging.getLogger(__name__).info("held %7d times: %s", count, what)
    if path := getattr(environment.parsed_options, "checks_file", ""):
        Path(path).write_text(json.dumps(dict(sorted(CHECKS.items())), indent=1) + "\n", encoding="utf-8")


events.init_command_line_parser.add_listener(add_options)  # type: ignore[no-untyped-call]
events.quitting.add_listener(tell_checks)  # type: ignore[no-untyped-call]
