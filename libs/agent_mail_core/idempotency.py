"""Idempotency keys: a retried create answers what the first one answered (SPEC §3.3 rule 2)."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from agent_mail_core.errors import IdempotencyConflict
from agent_mail_core.fields import Request
from agent_mail_core.ids import AgentId, Principal, TeamId

KEPT_FOR = timedelta(hours=24)
SAID_BY_SCOPE = frozenset({"project_slug", "agent_name", "name", "sender_name", "from_agent", "requester_name"})
"""The fields that say who acts, and where."""

NO_AGENT = AgentId(0)
"""The acting agent of operations that have none."""


@dataclass(frozen=True, slots=True)
class IdempotencyScope:
    """Whose key it is: the same key of another principal, agent or operation is another key."""

    team_id: TeamId
    principal: Principal
    agent_id: AgentId
    operation: str
    key: str


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """What a key is taken for: the fingerprint of the request and the result as JSON."""

    fingerprint: bytes
    response: str


class Idempotency(Protocol):
    """Store of idempotency keys and the answers given under them."""

    async def take(self, scope: IdempotencyScope, fingerprint: bytes) -> StoredAnswer | None:
        """Take the key for this transaction, or say what is stored under it.

        None: the key was free (or older than KEPT_FOR) and is now held; call `keep` before the transaction ends. A
        racing transaction with the key waits here until the first one ends.
        """
        ...

    async def keep(self, scope: IdempotencyScope, response: str) -> None:
        """Store the answer under the key that this transaction holds."""
        ...

    async def amend(self, scope: IdempotencyScope, response: str) -> None:
        """Put another answer in the place of one that an earlier transaction stored; its age stays.

        TransactionConflict when that has gone.
        """
        ...


def fingerprint(request: Request, *contents: bytes, without: Collection[str] = ()) -> bytes:
    """A digest of the canonical arguments, after aliases and defaults, and of `contents` that stand for some of them.

    Without the key itself, and without project and acting agent, which have more than one spelling: which they are is
    in the scope.
    """
    text = request.model_dump_json(exclude={"idempotency_key", *SAID_BY_SCOPE, *without})
    return hashlib.blake2b(text.encode() + b"".join(contents), digest_size=16).digest()


def check_same(answer: StoredAnswer, fingerprint: bytes) -> str:
    """The stored response, if it was given to the same request; else IdempotencyConflict."""
    if answer.fingerprint != fingerprint:
        raise IdempotencyConflict(suggestion="send again with a new idempotency_key")
    return answer.response
