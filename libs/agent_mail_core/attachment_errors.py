"""Errors about attachments, in the tree of `errors`."""

from agent_mail_core.errors import Invalid, NotFound, TooLarge


class AttachmentNotFound(NotFound):
    """No such attachment: add_attachment stores a file, and one that no message links to goes after 24 hours."""

    code = "attachment_not_found"


class AttachmentTooLarge(TooLarge):
    """An attachment may have at most 10 MiB."""

    code = "attachment_too_large"


class AttachmentsTooLarge(TooLarge):
    """Nothing was sent: the attachments of a message may have at most 25 MiB together."""

    code = "attachments_too_large"


class TooManyAttachments(Invalid):
    """Nothing was sent: a message may have at most 20 attachments."""

    code = "too_many_attachments"


class StorageQuotaExceeded(TooLarge):
    """The team's storage is full: ask an administrator for a larger quota, or for what can go."""

    code = "storage_quota_exceeded"
