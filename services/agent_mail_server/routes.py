"""Which endpoint a path and method lead to. Fixed paths are one dictionary lookup and come before patterns."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Generic, TypeVar

from starlette.routing import compile_path

from agent_mail_core.errors import MethodNotAllowed, UnknownOperation
from agent_mail_core.suggestions import near_names

T = TypeVar("T")
LONGEST_COMPARED = 200
NO_VALUES: Mapping[str, str] = {}


class Routes(Generic[T]):
    """Endpoints by path and method. Where GET is, HEAD is too."""

    def __init__(self) -> None:
        self._fixed: dict[str, dict[str, T]] = {}
        self._patterns: list[tuple[str, re.Pattern[str], dict[str, T]]] = []

    def add(self, method: str, path: str, endpoint: T) -> None:
        """A path such as `/api/inbox` or `/api/thread/{thread_id}`."""
        methods = self._methods(path)
        methods[method] = endpoint
        if method == "GET":
            methods.setdefault("HEAD", endpoint)

    def _methods(self, path: str) -> dict[str, T]:
        if "{" not in path:
            return self._fixed.setdefault(path, {})
        for known, _, methods in self._patterns:
            if known == path:
                return methods
        methods = {}
        self._patterns.append((path, compile_path(path)[0], methods))
        return methods

    def find(self, method: str, path: str) -> tuple[T, Mapping[str, str]]:
        """The endpoint and what its path's fields hold. Raises UnknownOperation, MethodNotAllowed."""
        methods = self._fixed.get(path)
        if methods is not None:
            endpoint = methods.get(method)
            if endpoint is not None:
                return endpoint, NO_VALUES
            raise self._not_allowed(method, methods)
        for _, pattern, methods in self._patterns:
            match = pattern.match(path)
            if match is not None:
                if method not in methods:
                    raise self._not_allowed(method, methods)
                return methods[method], match.groupdict()
        near = near_names(path[:LONGEST_COMPARED], [*self._fixed, *(known for known, _, _ in self._patterns)])
        raise UnknownOperation(
            "There is nothing at this path; /docs lists what there is.",
            path=path[:LONGEST_COMPARED],
            near=near or None,
            suggestion="GET /docs",
        )

    def _not_allowed(self, method: str, methods: dict[str, T]) -> MethodNotAllowed:
        return MethodNotAllowed(method=method[:20], allowed=list(methods))

    def paths(self) -> list[tuple[str, list[str]]]:
        """Every path with its methods."""
        return [
            *((path, list(methods)) for path, methods in self._fixed.items()),
            *((path, list(methods)) for path, _, methods in self._patterns),
        ]
