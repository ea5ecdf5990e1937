"""The archive in this process: repositories below a folder, on threads, as git takes milliseconds."""

from __future__ import annotations

import asyncio
import errno
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import datetime
from itertools import islice
from pathlib import Path
from shutil import rmtree
from threading import Lock
from typing import TypeVar

import pygit2
from pygit2.enums import Option

from agent_mail_archive import history, remote, repacking
from agent_mail_archive.places import beside, locked, name_of, path_of, put_in_place, recover
from agent_mail_archive.repository import ArchiveRepository, make_bare
from agent_mail_core.archive import (
    ANSWER_SECONDS,
    Archive,
    ArchiveBatch,
    ArchivedFile,
    ArchivedInbox,
    ArchivePlace,
    ArchiveTip,
    LogSlice,
)
from agent_mail_core.archive_errors import ArchiveUnavailable

REMOTE_TIMEOUT_MS = 30_000
NEWEST = 1000
"""Commits that are looked through for one that others may have gone on from by now."""

MOST_OPEN = 8
"""Repositories whose last folders are kept at hand for the next commit."""

THREADS = 4
T = TypeVar("T")


class GitArchive(Archive):
    """Repositories below `root`; `remote_url` is what their names are added to for their copies."""

    def __init__(self, root: Path, remote_url: str | None = None) -> None:
        pygit2.option(Option.ENABLE_FSYNC_GITDIR, True)
        pygit2.option(Option.SET_SERVER_CONNECT_TIMEOUT, REMOTE_TIMEOUT_MS)
        pygit2.option(Option.SET_SERVER_TIMEOUT, REMOTE_TIMEOUT_MS)
        pygit2.option(Option.SET_OWNER_VALIDATION, 0)  # the folder is ours by setting, whoever made a volume
        self._root = root
        self._remote = remote_url.rstrip("/") if remote_url is not None else None
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="archive")
        self._open: OrderedDict[Path, ArchiveRepository] = OrderedDict()
        self._open_lock = Lock()

    async def close(self) -> None:
        """Let go of threads and repositories; what is being written is finished first."""
        await asyncio.to_thread(self._threads.shutdown, cancel_futures=True)
        for path in list(self._open):
            self._forget(path)

    # --- the writer's -------------------------------------------------------------------------------------------------

    async def tip(self, place: ArchivePlace) -> ArchiveTip | None:
        def work() -> ArchiveTip | None:
            with self._writing(place, make=False) as repository:
                return repository.tip() if repository is not None else None

        return await self._run(work)

    async def holds(self, place: ArchivePlace, commit: str) -> bool:
        def work() -> bool:
            with self._writing(place, make=False) as repository:
                return repository is not None and any(str(found.id) == commit for found in repository.line())

        return await self._run(work)

    async def has_come_to(self, place: ArchivePlace, commit: str) -> bool:
        def work(repository: ArchiveRepository) -> bool:
            return any(str(found.id) == commit for found in islice(repository.line(), NEWEST))

        return await self._reading(place, False, work)

    async def commit(self, place: ArchivePlace, parent: str | None, batch: ArchiveBatch) -> ArchiveTip:
        def work() -> ArchiveTip:
            with self._writing(place, make=True) as repository:
                assert repository is not None
                tip = repository.add(parent, batch)
                if repacking.is_due(repository.packs):
                    repacking.repack(repository.packs)
                    repository.close()
                    repository.reopen()
                return tip

        return await self._run(work)

    async def turn_back(self, place: ArchivePlace, commit: str | None) -> None:
        def work() -> None:
            with self._writing(place, make=False) as repository:
                head = repository.head() if repository is not None else None
                assert repository is not None
                assert head is not None
                repository.move(str(head.id), f"refs/heads/before-{str(head.id)[:12]}")
                if commit is not None:
                    repository.move(commit)
                else:
                    repository.begin_again()

        await self._run(work)

    async def begin_anew(self, place: ArchivePlace) -> None:
        def work() -> None:
            path = path_of(self._root, place)
            with locked(path):
                self._forget(beside(path, "anew"))
                rmtree(beside(path, "anew"), ignore_errors=True)

        await self._run(work)

    async def swap(self, place: ArchivePlace) -> None:
        def work() -> None:
            path = path_of(self._root, place)
            with locked(path):
                self._forget(path)
                self._forget(beside(path, "anew"))
                put_in_place(path, beside(path, "anew"))

        await self._run(work)

    async def fetch(self, place: ArchivePlace) -> bool:
        def work() -> bool:
            path = path_of(self._root, place)
            url = self._url(place)
            if url is None:
                return False
            with locked(path):
                self._forget(path)
                recover(path)
                making = beside(path, "making")
                make_bare(making)
                with closing(ArchiveRepository(making)) as repository:
                    is_there = remote.fetch(repository.git, url)
                if is_there:
                    put_in_place(path, making)
                else:
                    rmtree(making)
                return is_there

        return await self._run(work)

    async def push(self, place: ArchivePlace) -> str | None:
        def work() -> str | None:
            path = path_of(self._root, place)
            url = self._url(place)
            if url is None or not path.exists():
                return None
            with closing(ArchiveRepository(path)) as repository:  # no lock: a push takes its time, and reads only
                head = repository.head()
                if head is None:
                    return None
                remote.push(repository.git, url)
                return str(head.id)

        return await self._run(work)

    def _url(self, place: ArchivePlace) -> str | None:
        return f"{self._remote}/{name_of(place)}" if self._remote is not None else None

    @contextmanager
    def _writing(self, place: ArchivePlace, make: bool) -> Iterator[ArchiveRepository | None]:
        """The repository, opened or at hand, under its lock; None when there is none and none is to be made."""
        path = path_of(self._root, place)
        if not make and not self._root.exists():
            yield None
            return
        with locked(path):
            with self._open_lock:
                repository = self._open.pop(path, None)
            if repository is not None and not path.exists():
                repository.close()
                repository = None
            if repository is None:
                recover(path)
                if path.exists():
                    repository = ArchiveRepository(path)
                    repository.clean()
                elif make:
                    repository = ArchiveRepository.make(path)
            try:
                yield repository
            except BaseException:
                if repository is not None:  # what it has at hand may not be what is on the disk
                    repository.close()
                raise
            if repository is not None:
                self._keep(repository)

    def _keep(self, repository: ArchiveRepository) -> None:
        with self._open_lock:
            self._open[repository.path] = repository
            dropped = [self._open.popitem(last=False)[1] for _ in range(len(self._open) - MOST_OPEN)]
        for one in dropped:
            one.close()

    def _forget(self, path: Path) -> None:
        with self._open_lock:
            repository = self._open.pop(path, None)
        if repository is not None:
            repository.close()

    # --- the readers' -------------------------------------------------------------------------------------------------

    async def read(self, place: ArchivePlace, paths: Sequence[str]) -> list[bytes | None]:
        nothing: list[bytes | None] = [None] * len(paths)
        return await self._reading(place, nothing, lambda found: history.read(found, paths))

    async def contents(self, place: ArchivePlace, folder: str, after: str, most_bytes: int) -> list[tuple[str, bytes]]:
        nothing: list[tuple[str, bytes]] = []
        return await self._reading(place, nothing, lambda found: history.contents(found, folder, after, most_bytes))

    async def log(
        self, place: ArchivePlace, begin: str | None, path: str | None, until: datetime | None, limit: int
    ) -> LogSlice:
        nothing = LogSlice([], None)
        return await self._in_time(place, nothing, lambda found: history.log(found, begin, path, until, limit))

    async def show(
        self, place: ArchivePlace, commit: str | None, at: datetime | None, path: str, after: str | None, limit: int
    ) -> ArchivedFile | None:
        return await self._in_time(place, None, lambda found: history.show(found, commit, at, path, after, limit))

    async def inbox(
        self, place: ArchivePlace, folder: str, commit: str | None, at: datetime | None, below: str | None, limit: int
    ) -> ArchivedInbox | None:
        return await self._in_time(place, None, lambda found: history.inbox(found, folder, commit, at, below, limit))

    async def _in_time(self, place: ArchivePlace, nothing: T, read: Callable[[ArchiveRepository], T]) -> T:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await self._reading(place, nothing, read)
        except TimeoutError:
            raise ArchiveUnavailable("The archive did not answer in time.") from None

    async def _reading(self, place: ArchivePlace, nothing: T, read: Callable[[ArchiveRepository], T]) -> T:
        """What `read` finds; `nothing` when nothing was archived yet."""

        def work() -> T:
            path = path_of(self._root, place)
            if not path.exists():
                return nothing
            with closing(ArchiveRepository(path)) as repository:
                return read(repository) if repository.head() is not None else nothing

        def twice() -> T:
            try:
                return work()
            except (KeyError, pygit2.GitError):  # its packs were put together meanwhile
                return work()

        return await self._run(twice)

    async def _run(self, work: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        except OSError as error:
            reason = "its disk is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else error.strerror or str(error)
            raise ArchiveUnavailable(f"The archive cannot be used: {reason}.") from error
        except pygit2.GitError as error:
            raise ArchiveUnavailable(f"The archive cannot be used: {error}.") from error
        except KeyError as error:
            raise ArchiveUnavailable("The archive is damaged: run `agent-mail archive rebuild`.") from error
