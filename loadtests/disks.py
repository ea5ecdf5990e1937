"""Disks that archives are kept on: a plain folder, or a small file system of its own, which can be filled up.

The small one is a tmpfs in a mount namespace, which a process holds: it is gone with that process, whatever becomes of
us, and nobody else sees it. Linux lets root mount it, and others who may make user namespaces.
"""

from __future__ import annotations

import errno
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

NAMESPACES = (["--mount"], ["--user", "--map-root-user", "--mount"])
"""Ways to be allowed to mount, the simpler one first."""
HOLD = 'mount -t tmpfs -o "size=$1m" tmpfs "$2" && echo mounted && exec cat'
CHUNK = bytes(1 << 20)


class NoSmallDisk(Exception):
    """This machine lets nobody mount a file system; says what it answered."""


@dataclass(frozen=True)
class Disk:
    """A folder for archives."""

    folder: Path
    """As the processes see it that enter."""
    seen: Path
    """The same folder, as we see it."""
    entering: tuple[str, ...] = ()
    """What goes before a command for its process to see the folder."""

    @contextmanager
    def filled(self) -> Iterator[None]:
        """Not a byte more fits onto it inside the block. Only for small disks: others are not ours alone."""
        assert self.entering, "a plain folder is on a disk that others use"
        filler = self.seen / "filler"
        try:
            fill(filler)
            yield
        finally:
            filler.unlink(missing_ok=True)


def fill(filler: Path) -> None:
    """Write until there is no room left, to the last byte."""
    with filler.open("wb", buffering=0) as file:
        size = len(CHUNK)
        while size:
            try:
                file.write(CHUNK[:size])
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                size //= 2


def plain_disk(folder: Path) -> Disk:
    """An ordinary folder, which is made when it is needed."""
    return Disk(folder, folder)


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Disk]:
    """A file system of that size at `folder`, an empty one, for processes that enter. Raises NoSmallDisk."""
    answers = []
    for namespaces in NAMESPACES:
        with subprocess.Popen(
            [_tool("unshare"), *namespaces, "/bin/sh", "-c", HOLD, "sh", str(megabytes), str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        ) as holder:  # its end, that of `cat`, comes when our pipe to it ends
            assert holder.stdout is not None
            assert holder.stderr is not None
            if holder.stdout.readline() == b"mounted\n":
                entering = [_tool("nsenter"), f"--target={holder.pid}", "--mount", f"--wd={folder.parent}"]
                if "--user" in namespaces:
                    entering += ["--user", "--preserve-credentials"]
                seen = Path(f"/proc/{holder.pid}/root{folder.absolute()}")
                yield Disk(folder, seen, tuple(entering))
                return
            answers.append(holder.stderr.read().decode(errors="replace").strip())
    raise NoSmallDisk("; ".join(answers))


def _tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise NoSmallDisk(f"no {name}: it is part of util-linux, on Linux")
    return found
