"""Which revision of the protocol a request follows, and what 2026-07-28 wants of its headers and envelope.

The decisions are the SDK's (`mcp.shared.inbound`); here they become refusals.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from mcp.shared.inbound import (
    ERROR_CODE_HTTP_STATUS,
    MCP_PROTOCOL_VERSION_HEADER,
    InboundLadderRejection,
    InboundModernRoute,
    classify_inbound_request,
    find_duplicated_routing_header,
    unsupported_protocol_version_rejection,
    validate_mcp_param_headers,
)
from mcp_types import HEADER_MISMATCH, PROTOCOL_VERSION_META_KEY
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS
from starlette.types import Scope

from agent_mail_server.mcp_wire import Message, Refused, header_lines

HANDSHAKE_REVISIONS = frozenset(HANDSHAKE_PROTOCOL_VERSIONS)


def says_modern(headers: Mapping[str, str]) -> bool:
    """Whether a request names 2026-07-28, or a revision that nobody knows, by its header."""
    version = headers.get(MCP_PROTOCOL_VERSION_HEADER)
    return version is not None and version not in HANDSHAKE_REVISIONS


def modern_route(message: Message, headers: Mapping[str, str], scope: Scope) -> InboundModernRoute:
    """The envelope of a request of 2026-07-28. Raises Refused when it and the headers are not as they should be."""
    if len(headers) != len(scope["headers"]):
        repeated = find_duplicated_routing_header(header_lines(scope))
        if repeated is not None:
            rejection = InboundLadderRejection(HEADER_MISMATCH, f"{repeated} header appears more than once")
            raise rejected(rejection, message)
    route = classify_inbound_request(message.body, headers=headers)
    if isinstance(route, InboundLadderRejection):
        raise rejected(route, message)
    return route


def check_served(message: Message, headers: Mapping[str, str]) -> None:
    """A notification, which has no envelope: its header must name a revision that is served. Raises Refused."""
    rejection = unsupported_protocol_version_rejection(headers[MCP_PROTOCOL_VERSION_HEADER])
    if rejection is not None:
        raise rejected(rejection, message)


def check_not_modern(message: Message, headers: Mapping[str, str]) -> None:
    """A request of 2026-07-28 that lost its header is told so, instead of being asked for a session. Raises Refused."""
    meta = message.params.get("_meta") if message.params else None
    if MCP_PROTOCOL_VERSION_HEADER not in headers and isinstance(meta, dict) and PROTOCOL_VERSION_META_KEY in meta:
        rejection = InboundLadderRejection(HEADER_MISMATCH, f"{MCP_PROTOCOL_VERSION_HEADER} header is missing")
        raise rejected(rejection, message)


def check_param_headers(
    message: Message, headers: Mapping[str, str], schema_of: Callable[[str], Mapping[str, Any] | None] | None
) -> None:
    """Arguments that a tool's schema wants repeated in headers must be. No operation has any. Raises Refused."""
    if message.method != "tools/call" or schema_of is None or message.params is None:
        return
    name, arguments = message.params.get("name"), message.params.get("arguments")
    if not isinstance(name, str) or not (arguments is None or isinstance(arguments, dict)):
        return
    schema = schema_of(name)
    rejection = validate_mcp_param_headers(schema, arguments or {}, headers) if schema is not None else None
    if rejection is not None:
        raise rejected(rejection, message)


def rejected(rejection: InboundLadderRejection, message: Message) -> Refused:
    """The SDK's refusal as ours."""
    status = ERROR_CODE_HTTP_STATUS.get(rejection.code, 400)
    return Refused(status, rejection.message, rejection.code, message_id=message.id, data=rejection.data)
