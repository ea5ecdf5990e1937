"""A stand-in for a language model's endpoint: it says the same good summary until it is told otherwise."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tests.contract import stand_in
from tests.contract.stand_in import StandIn, http, listening

GOOD = {
    "text": "Ann and Bob take Redis.",
    "decisions": [{"text": "They take Redis.", "message_id": 2}],
    "open_questions": [{"text": "Who pays?", "message_id": 3}],
    "action_items": [
        {"text": "Measure both.", "message_id": 1, "owner": "bob"},
        {"text": "Tell Zed.", "message_id": 1, "owner": "Zed", "done": True},
    ],
    "key_message_ids": [2, 1, 2],
}


def completion(answer: Any, finish_reason: str = "stop") -> bytes:
    """The body of an endpoint's answer."""
    content = answer if isinstance(answer, str) else json.dumps(answer)
    return json.dumps({"choices": [{"message": {"content": content}, "finish_reason": finish_reason}]}).encode()


FAULTS: dict[str, bytes] = {
    **stand_in.FAULTS,
    "400": http(b"{}", "400 No"),
    "204": b"HTTP/1.1 204 No Content\r\n\r\n",
    "truncated JSON": http(completion(GOOD)[:60]),
    "cut off by its length": http(completion(GOOD, "length")),
    "too large": http(b" " * 300_000 + completion(GOOD)),
    "no choice": http(b'{"choices": []}'),
    "no text": http(completion("")),
    "prose": http(completion("Sure! Here is the summary.")),
    "another schema": http(completion({"summary": "x"})),
    "wrong types": http(completion({**GOOD, "decisions": [{"text": "x", "message_id": "2"}]})),
    "too many": http(completion({**GOOD, "decisions": [{"text": "x", "message_id": 2}] * 41})),
    "too long": http(completion({**GOOD, "text": "x" * 2001})),
    "other messages": http(
        completion(
            {**GOOD, "decisions": [{"text": "x", "message_id": 9}], "open_questions": [], "action_items": []}
            | {"key_message_ids": []}
        )
    ),
}


class ModelServer(StandIn):
    """Where a language model is asked."""

    path = "/v1"


@asynccontextmanager
async def model_server() -> AsyncIterator[ModelServer]:
    """A stand-in on a port of its own."""
    async with listening(ModelServer([http(completion(GOOD))])) as server:
        yield server
