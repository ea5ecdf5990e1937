"""Opening the archive that the settings name."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from agent_mail_core.archive import Archive
from agent_mail_core.settings import Settings


@asynccontextmanager
async def open_archive(settings: Settings) -> AsyncIterator[Archive]:
    """The repositories below ARCHIVE_ROOT, for as long as the block lasts. Nothing is made before it is needed."""
    # Servers of a cluster and most commands start without the git library.
    from agent_mail_archive.git_archive import GitArchive

    remote = settings.archive_remote.get_secret_value() if settings.archive_remote is not None else None
    archive = GitArchive(Path(settings.archive_root), remote)
    try:
        yield archive
    finally:
        await archive.close()
