"""What is done to both twins: calls, time that passes, work in the background. Nothing here knows of an answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from agent_mail_core.ids import Principal, TeamId
from agent_mail_core.ports import Caller, Role

CALLERS = {
    "ann": Caller(TeamId(1), Principal("token:1"), Role.writer, ""),
    "bob": Caller(TeamId(1), Principal("token:2"), Role.overseer, ""),
    "root": Caller(TeamId(1), Principal("token:3"), Role.admin, ""),
    "guest": Caller(TeamId(1), Principal("token:4"), Role.reader, ""),
    "stranger": Caller(TeamId(2), Principal("token:5"), Role.admin, ""),
}
"""Who calls. The stranger is of another team, whose project and agents have names of ours."""


NEXT_PAGE = "next page"
"""What the last answer told to be asked for more with, if it did."""

LEFT_OUT = "an argument that is not given"


NO_ID = 987_654
"""Of nothing that there is."""


@dataclass(frozen=True)
class Told:
    """What an earlier answer told: nobody can know it before, and it differs between the twins."""

    what: str
    back: int = 0
    """0: the newest."""
    otherwise: Any = "nothing-told-yet"
    """LEFT_OUT: the argument is not given."""


@dataclass(frozen=True)
class Call:
    """One call of an operation, by one of its routes or as a tool."""

    caller: str
    operation: str
    arguments: Mapping[str, Any]
    route: int = 0


@dataclass(frozen=True)
class Pass:
    """So many seconds go by."""

    seconds: int


@dataclass(frozen=True)
class Chores:
    """What servers do by themselves is done now: sweeps and summaries."""


Step: TypeAlias = Call | Pass | Chores
