"""The archive, without the git library until there is work for it.

The library takes 12 MB of memory, and a server that only answers requests has no use for it. It is loaded on a thread,
in about 50 ms, by the first job or reader that needs a repository.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Protocol

from agent_mail_core.archive import (
    Archive,
    ArchiveBatch,
    ArchivedFile,
    ArchivedInbox,
    ArchivePlace,
    ArchiveTip,
    LogSlice,
)
from agent_mail_core.made_once import MadeOnce


class ClosableArchive(Archive, Protocol):
    """An archive that holds threads and repositories."""

    async def close(self) -> None:
        """Let go of them."""
        ...


class LateArchive(Archive):
    """Passes everything on to the archive that `make` makes, on a thread, when it is called for the first time."""

    def __init__(self, make: Callable[[], ClosableArchive]) -> None:
        self._archive = MadeOnce(make)

    async def close(self) -> None:
        """Close what was made."""
        for archive in await self._archive.made():
            await archive.close()

    # --- the writer's -------------------------------------------------------------------------------------------------

    async def tip(self, place: ArchivePlace) -> ArchiveTip | None:
        return await (await self._archive.get()).tip(place)

    async def holds(self, place: ArchivePlace, commit: str) -> bool:
        return await (await self._archive.get()).holds(place, commit)

    async def has_come_to(self, place: ArchivePlace, commit: str) -> bool:
        return await (await self._archive.get()).has_come_to(place, commit)

    async def commit(self, place: ArchivePlace, parent: str | None, batch: ArchiveBatch) -> ArchiveTip:
        return await (await self._archive.get()).commit(place, parent, batch)

    async def turn_back(self, place: ArchivePlace, commit: str | None) -> None:
        await (await self._archive.get()).turn_back(place, commit)

    async def fetch(self, place: ArchivePlace) -> bool:
        return await (await self._archive.get()).fetch(place)

    async def push(self, place: ArchivePlace) -> str | None:
        return await (await self._archive.get()).push(place)

    async def begin_anew(self, place: ArchivePlace) -> None:
        await (await self._archive.get()).begin_anew(place)

    async def swap(self, place: ArchivePlace) -> None:
        await (await self._archive.get()).swap(place)

    # --- the readers' -------------------------------------------------------------------------------------------------

    async def read(self, place: ArchivePlace, paths: Sequence[str]) -> list[bytes | None]:
        return await (await self._archive.get()).read(place, paths)

    async def contents(self, place: ArchivePlace, folder: str, after: str, most_bytes: int) -> list[tuple[str, bytes]]:
        return await (await self._archive.get()).contents(place, folder, after, most_bytes)

    async def log(
        self, place: ArchivePlace, begin: str | None, path: str | None, until: datetime | None, limit: int
    ) -> LogSlice:
        return await (await self._archive.get()).log(place, begin, path, until, limit)

    async def show(
        self, place: ArchivePlace, commit: str | None, at: datetime | None, path: str, after: str | None, limit: int
    ) -> ArchivedFile | None:
        return await (await self._archive.get()).show(place, commit, at, path, after, limit)

    async def inbox(
        self, place: ArchivePlace, folder: str, commit: str | None, at: datetime | None, below: str | None, limit: int
    ) -> ArchivedInbox | None:
        return await (await self._archive.get()).inbox(place, folder, commit, at, below, limit)
