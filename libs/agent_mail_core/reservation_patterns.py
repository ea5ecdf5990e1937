"""Paths as callers write them, as the patterns that reservations have."""

import asyncio
from collections.abc import Iterable, Iterator
from typing import TypeAlias

from agent_mail_core.errors import InvalidPath
from agent_mail_core.globs import Pattern, compile_pattern
from agent_mail_core.paths import SPECIAL, normal_path
from agent_mail_core.projects import ProjectRecord
from agent_mail_core.time_slices import in_slices

Key: TypeAlias = tuple[str, bool]
"""A pattern's text, and whether it is literal: an agent has one live reservation of it at most."""


async def patterns_of(
    paths: Iterable[str], project: ProjectRecord, is_literal: bool, turn: asyncio.Lock
) -> tuple[Pattern, ...]:
    """The patterns that paths are asked for as, each once. In slices; raises InvalidPath."""
    found: dict[Pattern, None] = {}

    def steps() -> Iterator[None]:
        for path in paths:
            text = normal_path(path, project.human_key, is_literal=is_literal)
            found[compile_pattern(text, is_literal)] = None
            yield

    await in_slices(steps(), turn)
    return tuple(found)


def keys_of(path: str, project: ProjectRecord) -> set[Key]:
    """What a path may have been reserved as: a pattern, or a literal. Raises InvalidPath."""
    found = {(normal_path(path, project.human_key, is_literal=True), True)}
    try:
        text = normal_path(path, project.human_key)
    except InvalidPath:  # then it can only have been a literal
        return found
    return {*found, (text, SPECIAL.search(text) is None)}
