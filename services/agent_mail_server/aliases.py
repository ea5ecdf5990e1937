"""Other names that prompts written for the Rust port use (SPEC §3.1). They are read, and shown in no schema."""

from typing import Any

TOOL_ALIASES: dict[str, str] = {
    "list_inbox": "check_inbox",
    "fetch_inbox": "check_inbox",
    "mark_message_read": "mark_read",
    "request_contact": "add_contact",
    "reserve_file_paths": "reserve_file",
    "file_reservation_paths": "reserve_file",
    "release_file_paths": "release_file",
    "release_reservation": "release_file",
    "release_file_reservations": "release_file",
    "link_project_to_product": "link_project",
    "macro_start_session": "start_session",
}

ARGUMENT_ALIASES: dict[str, str] = {
    "project_key": "project_slug",
    "to": "recipient_names",
    "cc": "cc_names",
    "bcc": "bcc_names",
    "importance": "priority",
    "path_pattern": "paths",
    "file_path": "paths",
}
"""Alias → field, for every operation that has the field."""

OPERATION_ALIASES: dict[str, dict[str, str]] = {
    "register_agent": {"agent_name": "name"},
}

_NAMES = {"recipient_names", "cc_names", "bcc_names"}
_PATHS = {"paths"}


def resolve_aliases(operation: str, fields: set[str], arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments under their own names; an alias beside its own name is left, to be refused as unknown.

    Those of names may be one text with commas; those of paths one path, in which a comma is a comma.
    """
    table = ARGUMENT_ALIASES | OPERATION_ALIASES.get(operation, {})
    if not table.keys() & arguments.keys():
        return arguments
    resolved: dict[str, Any] = {}
    for name, value in arguments.items():
        field = table.get(name)
        if field is None or name in fields or field not in fields or field in arguments or field in resolved:
            resolved[name] = value
        elif field in _NAMES and isinstance(value, str):
            resolved[field] = [part.strip() for part in value.split(",") if part.strip()]
        elif field in _PATHS and isinstance(value, str):
            resolved[field] = [value]
        else:
            resolved[field] = value
    return resolved
