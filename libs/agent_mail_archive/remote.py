"""The archive's other home: a repository a project below ARCHIVE_REMOTE, by file, https or ssh."""

from __future__ import annotations

import re
from pathlib import Path

import pygit2

from agent_mail_archive.repository import BRANCH, make_bare
from agent_mail_core.archive_errors import ArchiveUnavailable

_SPEC = f"{BRANCH}:{BRANCH}"


class _Answers(pygit2.RemoteCallbacks):
    """Takes note of what the remote refuses. Credentials stand in the URL, or the machine's ssh agent has them."""

    def __init__(self) -> None:
        super().__init__()
        self.refused: str | None = None

    def push_update_reference(self, refname: str, message: str | None) -> None:
        if message is not None:
            self.refused = message

    def credentials(self, url: str, username_from_url: str | None, allowed_types: object) -> pygit2.KeypairFromAgent:
        return pygit2.KeypairFromAgent(username_from_url or "git")


def push(git: pygit2.Repository, url: str) -> None:
    """Bring the remote's branch to ours. GitError or ArchiveUnavailable when it cannot be done; never by force."""
    local = _local(url)
    if local is not None and not local.exists():
        make_bare(local)
    answers = _Answers()
    git.remotes.create_anonymous(url).push([_SPEC], callbacks=answers)
    if answers.refused is not None:
        raise ArchiveUnavailable(f"The remote refuses the archive: {answers.refused}.")


def fetch(git: pygit2.Repository, url: str) -> bool:
    """Take the remote's branch; False when it has none."""
    local = _local(url)
    if local is not None and not local.exists():
        return False
    git.remotes.create_anonymous(url).fetch([f"+{_SPEC}"], callbacks=_Answers())
    return BRANCH in git.references


def _local(url: str) -> Path | None:
    if url.startswith("file://"):
        return Path(url.removeprefix("file://"))
    return None if "://" in url or re.match(r"[^/]+:", url) else Path(url)
