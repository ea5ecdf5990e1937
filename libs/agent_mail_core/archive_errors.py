"""Errors about the git archive, in the tree of `errors`."""

from agent_mail_core.errors import NotFound, Unavailable


class ArchiveCommitNotFound(NotFound):
    """The archive has no such commit."""

    code = "archive_commit_not_found"


class ArchivePathNotFound(NotFound):
    """The archive has no such file or folder at that commit."""

    code = "archive_path_not_found"


class ArchiveUnavailable(Unavailable):
    """The archive cannot be read or written now; mail goes on, and is archived later."""

    code = "archive_unavailable"


class ArchiveMoved(ArchiveUnavailable):
    """Another worker went on with this archive; look again."""

    code = "archive_moved"
