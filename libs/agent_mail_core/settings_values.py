"""The kinds of values that settings have, and what is said of one that is wrong; never the value itself."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator
from pydantic_core import ErrorDetails

from agent_mail_core.limits import parse_budget

_HOST = re.compile(r"(?:[A-Za-z0-9_][A-Za-z0-9._-]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_ORIGIN = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/\s?#@]+/?")

_PLAIN_WORDS = {
    "int_parsing": "must be a whole number",
    "float_parsing": "must be a number",
    "finite_number": "must be a number",
    "bool_parsing": "must be true or false",
    "too_short": "must have at least {min_length} characters",
    "string_too_short": "must have at least {min_length} characters",
    "string_too_long": "must have at most {max_length} characters",
    "string_pattern_mismatch": "must be like {pattern}",
    "literal_error": "must be {expected}",
    "greater_than": "must be more than {gt:.10g}",
    "greater_than_equal": "must be at least {ge:.10g}",
    "less_than_equal": "must be at most {le:.10g}",
    "value_error": "{error}",
}
"""By pydantic's type of error."""


def _comma_separated(value: Any) -> Any:
    return [item.strip() for item in value.split(",") if item.strip()] if isinstance(value, str) else value


Names = Annotated[tuple[str, ...], BeforeValidator(_comma_separated)]
"""A list; commas separate its items in the environment."""


def _networks(value: tuple[str, ...]) -> tuple[str, ...]:
    try:
        for network in value:
            ipaddress.ip_network(network, strict=False)
    except ValueError:
        raise ValueError("must be addresses or networks (192.0.2.7, 10.0.0.0/8, fd00::/8)") from None
    return value


def _rate(value: str) -> str:
    parse_budget("rate", value)
    return value


def _lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


def _hosts(value: tuple[str, ...]) -> tuple[str, ...]:
    if not all(_HOST.fullmatch(host) for host in value):
        raise ValueError("must be names as in a Host header (mail.example, mail.example:8765, [::1]), not URLs")
    return value


def _origins(value: tuple[str, ...]) -> tuple[str, ...]:
    if not all(_ORIGIN.fullmatch(origin) for origin in value):
        raise ValueError("must be origins as browsers send them (https://mail.example, http://localhost:3000)")
    return value


Word = BeforeValidator(_lower)
"""In any case of letters."""
Hosts = Annotated[Names, AfterValidator(_hosts)]
Origins = Annotated[Names, AfterValidator(_origins)]
Networks = Annotated[Names, AfterValidator(_networks)]
Rate = Annotated[str, AfterValidator(_rate)]


def in_plain_words(problem: ErrorDetails) -> str:
    """What is wrong with a value, as who wrote it would say."""
    words = _PLAIN_WORDS.get(problem["type"])
    return words.format_map(problem.get("ctx", {})) if words is not None else problem["msg"]
