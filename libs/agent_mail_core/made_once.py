"""What takes time or memory to make, made when it is first needed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class MadeOnce(Generic[T]):
    """Something that is made on a thread for the first who asks. When that fails, the next one who asks makes it."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._making = asyncio.Lock()
        self._made: list[T] = []

    async def get(self) -> T:
        """The thing. Raises what making it raises."""
        if not self._made:
            async with self._making:
                if not self._made:
                    self._made.append(await asyncio.to_thread(self._make))
        return self._made[0]

    async def made(self) -> list[T]:
        """The thing if somebody asked for it, else nothing: for whoever has to close it."""
        async with self._making:
            return self._made
