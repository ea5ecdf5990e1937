"""Where repositories lie, and what a crash or a swap may have left beside them."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agent_mail_archive.packs import fsync_folder
from agent_mail_core.archive import ArchivePlace
from agent_mail_core.archive_errors import ArchiveUnavailable

LOCK_TIMEOUT = 10.0
_LOOK_AGAIN = 0.02
_TEAM = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?")


def name_of(place: ArchivePlace) -> str:
    """The repository below the root, and below the remote."""
    team = place.team_name if _TEAM.fullmatch(place.team_name) else f"team@{place.team_id}"
    return f"{team}/{place.slug}-{place.project_id}.git"


def path_of(root: Path, place: ArchivePlace) -> Path:
    """Its folder."""
    path = root / name_of(place)
    return beside(path, "anew") if place.is_anew else path


def beside(path: Path, what: str) -> Path:
    """A folder for something that is to be, or was, in the place of the repository."""
    return path.with_name(f"{path.name}.{what}")


def recover(path: Path) -> None:
    """Finish what a crash left half done: a swap of which the first half was done is undone."""
    replaced = beside(path, "replaced")
    if replaced.exists() and not path.exists():
        replaced.rename(path)
    for left in (replaced, beside(path, "making")):
        if left.exists():
            shutil.rmtree(left)


def put_in_place(path: Path, made: Path) -> None:
    """Let a repository that was made beside take the place of the one at `path`, if there is one."""
    replaced = beside(path, "replaced")
    if path.exists():
        path.rename(replaced)
    made.rename(path)
    fsync_folder(path.parent)
    if replaced.exists():
        shutil.rmtree(replaced)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Be the only one that writes to the repository, of all processes that see this disk; the end of one frees it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path.with_name(f".{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        deadline = time.monotonic() + LOCK_TIMEOUT
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise ArchiveUnavailable(f"Another process writes to {path.name}.") from None
                time.sleep(_LOOK_AGAIN)
        yield
    finally:
        os.close(descriptor)
