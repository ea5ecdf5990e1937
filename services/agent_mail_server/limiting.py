"""Who may call how often (SPEC §6), on both transports: what counts against which budget, and how a client is told.

Reads and writes are apart; each counts for the acting agent that the request names, or for its principal, and then for
the team. A wait counts once, however long it lasts. What the limits are kept in is the port's concern.
"""

from __future__ import annotations

from functools import lru_cache
from math import ceil
from typing import Any

from agent_mail_core.errors import Limited
from agent_mail_core.fields import Request
from agent_mail_core.limits import Allowance, Budget, parse_budget
from agent_mail_core.ports import App, Caller
from agent_mail_core.projects import normal_ref

ACTING_FIELDS = ("sender_name", "agent_name", "from_agent", "requester_name")
PROJECT_FIELDS = ("project_slug", "human_key", "product_name")
UNCOUNTED = frozenset({"health", "ready", "metrics"})
Headers = list[tuple[bytes, bytes]]


async def count(app: App, caller: Caller, is_write: bool, request: Request | None = None) -> Allowance | None:
    """Count one call of a caller; how much it has left, or None when it is not limited. Raises Limited."""
    if caller.counts_for is None:
        return None
    settings = app.settings
    own = _writes(settings.rate_limit_writes) if is_write else _reads(settings.rate_limit_reads)
    key = caller.counts_for if request is None else f"{caller.counts_for}{_acting(request)}"
    allowance = await app.limits.take(own, f"{caller.team_id}/{key}")
    if not allowance.is_granted:
        raise refusal(own, allowance)
    team = _team(settings.rate_limit_team)
    teams = await app.limits.take(team, str(caller.team_id))
    if not teams.is_granted:
        raise refusal(team, teams)
    return allowance


class Tally:
    """One request on its way, which counts once, as a read: whoever knows first what becomes of it sees to that."""

    __slots__ = ("_app", "_is_done", "caller")

    def __init__(self, app: App, caller: Caller) -> None:
        self.caller = caller
        self._app = app
        self._is_done = False

    def leave(self) -> None:
        """It counts for nothing, or what it leads to counts for itself."""
        self._is_done = True

    async def count(self) -> None:
        """Count it, unless that is done. Raises Limited."""
        if not self._is_done:
            self._is_done = True
            await count(self._app, self.caller, is_write=False)


async def count_refused(app: App, address: str, has_credential: bool) -> None:
    """Count a request that came without a valid credential. Raises Limited."""
    if not app.settings.rate_limit_enabled:
        return
    budget = _logins(app.settings.rate_limit_logins) if has_credential else _reads(app.settings.rate_limit_reads)
    allowance = await app.limits.take(budget, f"address/{address}")
    if not allowance.is_granted:
        raise refusal(budget, allowance)


def refusal(budget: Budget, allowance: Allowance) -> Limited:
    """The error for a call past its budget."""
    seconds = max(1, ceil(allowance.reset_after_seconds))
    return Limited(
        f"More than {budget.limit} {budget.name} in {budget.window_seconds} seconds: try again in {seconds} s.",
        budget=budget.name,
        limit=budget.limit,
        window_seconds=budget.window_seconds,
        retry_after_seconds=seconds,
    )


def limit_headers(is_write: bool, app: App, allowance: Allowance) -> Headers:
    """RateLimit-Policy and RateLimit of draft-ietf-httpapi-ratelimit-headers-11 for a call that was granted."""
    budget = _writes(app.settings.rate_limit_writes) if is_write else _reads(app.settings.rate_limit_reads)
    return _headers(
        budget.name, budget.limit, budget.window_seconds, allowance.remaining, ceil(allowance.reset_after_seconds)
    )


def refusal_headers(data: dict[str, Any]) -> Headers:
    """The same for a call that was refused, from its error's data; nothing when that is about another limit."""
    if "budget" not in data:
        return []
    return _headers(data["budget"], data["limit"], data["window_seconds"], 0, data["retry_after_seconds"])


def _headers(name: str, limit: int, window: int, remaining: int, seconds: int) -> Headers:
    return [
        (b"ratelimit-policy", f'"{name}";q={limit};w={window}'.encode()),
        (b"ratelimit", f'"{name}";r={remaining};t={seconds}'.encode()),
    ]


def _acting(request: Request) -> str:
    """Which agent acts, however it is spelled; an empty text when the request names none."""
    agent_field, project_field = _acting_fields(type(request))
    name = getattr(request, agent_field) if agent_field is not None else None
    if not name:
        return ""
    ref = getattr(request, project_field) if project_field is not None else None
    return f"/{normal_ref(ref) if ref else ''}/{name.lower()}"


@lru_cache(maxsize=256)
def _acting_fields(request_type: type[Request]) -> tuple[str | None, str | None]:
    """The fields of a request that name the acting agent, and its project."""
    fields = request_type.model_fields
    return (
        next((field for field in ACTING_FIELDS if field in fields), None),
        next((field for field in PROJECT_FIELDS if field in fields), None),
    )


@lru_cache(maxsize=8)
def _reads(rate: str) -> Budget:
    return parse_budget("reads", rate)


@lru_cache(maxsize=8)
def _writes(rate: str) -> Budget:
    return parse_budget("writes", rate)


@lru_cache(maxsize=8)
def _logins(rate: str) -> Budget:
    return parse_budget("logins", rate)


@lru_cache(maxsize=8)
def _team(rate: str) -> Budget:
    return parse_budget("team", rate)
