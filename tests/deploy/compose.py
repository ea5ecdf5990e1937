"""docker-compose.yml as `docker compose` would see it: variables resolved, anchors merged."""

import re
from collections.abc import Mapping
from typing import Any

import yaml

from tests.deploy.programs import ROOT

COMPOSE_FILE = ROOT / "docker-compose.yml"
VARIABLE = re.compile(r"\$(?:(?P<escaped>\$)|\{(?P<name>\w+)(?:(?P<operator>:[-?])(?P<rest>[^}]*))?\})")


class Missing(Exception):
    """A variable without which compose stops; says what the file says."""


def resolved(text: str, variables: Mapping[str, str]) -> str:
    """The text with its variables, by the rules of the Compose Specification that the file uses."""

    def value(found: re.Match[str]) -> str:
        if found["escaped"]:
            return "$"
        given = variables.get(found["name"], "")
        if given:
            return given
        if found["operator"] == ":?":
            raise Missing(f"{found['name']}: {found['rest']}")
        return found["rest"] or ""

    return VARIABLE.sub(value, text)


def names(text: str) -> set[str]:
    """The variables that the text takes."""
    return {found["name"] for found in VARIABLE.finditer(text) if found["name"]}


def project(variables: Mapping[str, str], text: str | None = None) -> dict[str, Any]:
    """The compose project, resolved."""
    loaded: dict[str, Any] = yaml.safe_load(resolved(text or COMPOSE_FILE.read_text(encoding="utf-8"), variables))
    return loaded
