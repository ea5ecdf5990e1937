"""Opening the archive that the settings name."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from agent_mail_archive.late_archive import ClosableArchive, LateArchive
from agent_mail_core.archive import Archive
from agent_mail_core.settings import Settings


@asynccontextmanager
async def open_archive(settings: Settings) -> AsyncIterator[Archive]:
    """The repositories below ARCHIVE_ROOT, for as long as the block lasts. Nothing is made before it is needed."""
    remote = settings.archive_remote.get_secret_value() if settings.archive_remote is not None else None
    archive = LateArchive(lambda: _git_archive(Path(settings.archive_root), remote))
    try:
        yield archive
    finally:
        await archive.close()


def _git_archive(root: Path, remote: str | None) -> ClosableArchive:
    # The git library takes 12 MB: see late_archive.
    from agent_mail_archive.git_archive import GitArchive

    return GitArchive(root, remote)
