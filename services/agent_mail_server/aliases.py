"""Other names that prompts written for the Rust port use (SPEC §3.1). They are read, and shown in no schema."""

from typing import Any

TOOL_ALIASES: dict[str, str] = {
    "list_inbox": "check_inbox",
    "fetch_inbox": "check_inbox",
    "mark_message_read": "mark_read",
    "link_project_to_product": "link_project",
}

ARGUMENT_ALIASES: dict[str, str] = {
    "project_key": "project_slug",
    "to": "recipient_names",
    "cc": "cc_names",
    "bcc": "bcc_names",
    "importance": "priority",
}
"""Alias → field, for every operation that has the field."""

OPERATION_ALIASES: dict[str, dict[str, str]] = {
    "register_agent": {"agent_name": "name"},
}

_LISTS = {"recipient_names", "cc_names", "bcc_names"}


def resolve_aliases(operation: str, fields: set[str], arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments under their own names; an alias beside its own name is left, to be refused as unknown.

    Aliases of list fields may be one comma-separated text.
    """
    table = ARGUMENT_ALIASES | OPERATION_ALIASES.get(operation, {})
    if not table.keys() & arguments.keys():
        return arguments
    resolved: dict[str, Any] = {}
    for name, value in arguments.items():
        field = table.get(name)
        if field is None or name in fields or field not in fields or field in arguments or field in resolved:
            resolved[name] = value
        elif field in _LISTS and isinstance(value, str):
            resolved[field] = [part.strip() for part in value.split(",") if part.strip()]
        else:
            resolved[field] = value
    return resolved
