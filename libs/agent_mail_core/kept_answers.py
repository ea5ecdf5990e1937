"""Answers kept under idempotency keys, for operations that do more than one send (SPEC §3.3 rule 2).

`answered_before` takes the key, in its place in DESIGN 5's order of locks; who gets None from it stores its answer with
`keep_answer` before the transaction ends. Without a key both do nothing.
"""

from __future__ import annotations

import hashlib
import json
from typing import TypeVar

from agent_mail_core.fields import Request, Result, name_key
from agent_mail_core.idempotency import NO_AGENT, IdempotencyScope, check_same, fingerprint
from agent_mail_core.ids import AgentId, ProjectId
from agent_mail_core.ports import Caller, Transaction

R = TypeVar("R", bound=Result)


def key_scope(caller: Caller, agent_id: AgentId, operation: str, key: str | None) -> IdempotencyScope | None:
    """Whose key it is, for the acting agent; None without a key."""
    if key is None:
        return None
    return IdempotencyScope(caller.team_id, caller.principal, agent_id, operation, key)


def newcomer_scope(
    caller: Caller, project: ProjectId | str, name: str | None, operation: str, key: str | None
) -> IdempotencyScope | None:
    """Whose key it is when the acting agent may not be there yet: that of whoever takes the name in the project.

    Two agents of one principal that pick the same key are not each other's retries.
    """
    if key is None:
        return None
    whose = json.dumps([project, name_key(name or ""), key])
    digest = hashlib.blake2b(whose.encode(), digest_size=16).hexdigest()
    return key_scope(caller, NO_AGENT, operation, digest)


async def answered_before(db: Transaction, scope: IdempotencyScope | None, request: Request, kind: type[R]) -> R | None:
    """What was answered under the key, with `replayed` set; None: nothing, and it is taken.

    Raises IdempotencyConflict.
    """
    if scope is None:
        return None
    asked = fingerprint(request)
    answer = await db.idempotency.take(scope, asked)
    if answer is None:
        return None
    return kind.model_validate_json(check_same(answer, asked)).model_copy(update={"replayed": True})


async def keep_answer(db: Transaction, scope: IdempotencyScope | None, answer: Result) -> None:
    """Store what a retry is to get."""
    if scope is not None:
        await db.idempotency.keep(scope, answer.model_dump_json())
