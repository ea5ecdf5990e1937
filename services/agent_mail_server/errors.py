"""The one table from kinds of errors to HTTP status and exit code, and the one error body (STYLE §7)."""

from typing import Any

from agent_mail_core.error_suggestions import SUGGESTIONS
from agent_mail_core.errors import AgentMailError

STATUS_AND_EXIT: dict[str, tuple[int, int]] = {
    "malformed": (400, 2),
    "method_not_allowed": (405, 2),
    "misdirected": (421, 2),
    "invalid": (422, 2),
    "unauthenticated": (401, 3),
    "forbidden": (403, 4),
    "not_found": (404, 5),
    "conflict": (409, 6),
    "gone": (410, 7),
    "too_large": (413, 8),
    "limited": (429, 9),
    "unavailable": (503, 10),
    "internal": (500, 1),
}
RETRY_AFTER_SECONDS = 1


def http_status(error: AgentMailError) -> int:
    """The status of an answer that is this error."""
    return STATUS_AND_EXIT[error.kind][0]


def error_body(error: AgentMailError, request_id: str) -> dict[str, Any]:
    """The body of every refused request, on both transports."""
    return {"error": {"code": error.code, "message": error.message, "data": error.data, "request_id": request_id}}


def internal_error(request_id: str) -> dict[str, Any]:
    """The body for a fault of ours: its cause is in the log under the request id, never in the answer."""
    return {
        "error": {
            "code": "internal",
            "message": f"Something went wrong on our side; the log has it under request id {request_id}.",
            "data": {"suggestion": SUGGESTIONS["internal"]},
            "request_id": request_id,
        }
    }
