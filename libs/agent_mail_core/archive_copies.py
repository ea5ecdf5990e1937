"""Whether the archives are on a job worker's disk: without a remote all workers of a cluster have to share one.

One worker cannot see whether they do. But when a commit that is recorded is not on its disk then they do not, or the
disk was lost.
"""

from __future__ import annotations

from contextlib import suppress

from agent_mail_core.archive_errors import ArchiveUnavailable
from agent_mail_core.ids import ProjectId
from agent_mail_core.ports import App

SHARE_IT = "all job workers must share ARCHIVE_ROOT, or ARCHIVE_REMOTE be set"
LOOKED_AT = 20


def has_to_share(app: App) -> bool:
    """Whether nothing but a shared disk brings one worker's commits to the others."""
    return app.settings.redis_url is not None and app.settings.archive_remote is None


async def absent_copies(app: App) -> list[str]:
    """Slugs of archives that are recorded and not on this disk; of the first LOOKED_AT, and where it has to be shared.

    Waits for no writer. One that cannot be read is not counted: its job tells of that. Raises AgentMailError when the
    database is away.
    """
    if app.archive is None or not has_to_share(app):
        return []
    async with app.store.read() as db:
        places = await db.archives.archived(ProjectId(0), LOOKED_AT)
        states = [await db.archives.get(place.project_id) for place in places]
    absent = []
    for place, state in zip(places, states, strict=True):
        with suppress(ArchiveUnavailable):
            if state is not None and not await app.archive.has_come_to(place, state.head):
                absent.append(place.slug)
    return absent
