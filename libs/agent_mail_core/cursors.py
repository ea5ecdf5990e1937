"""Cursors: opaque, signed tokens that say where a list goes on.

A list cursor names the list, its filters, the team and the last (sort key, id); an inbox cursor names the agent, the
database's epoch and a position. Both carry a keyed BLAKE2 tag, so an altered or foreign one is refused, and the rows
behind it are never trusted to be the caller's: every query is scoped by team all the same.
"""

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Sequence
from json.encoder import encode_basestring
from typing import Any

from agent_mail_core.errors import CursorExpired, InvalidCursor
from agent_mail_core.ids import AgentId
from agent_mail_core.ports import StoreIdentity

TAG_BYTES = 12


def _person(scope: str) -> bytes:
    return hashlib.blake2b(scope.encode(), digest_size=16).digest()


_INBOX = _person("inbox")


def _seal(identity: StoreIdentity, person: bytes, payload: str) -> str:
    data = payload.encode()
    tag = hashlib.blake2b(data, key=identity.cursor_key, digest_size=TAG_BYTES, person=person).digest()
    return base64.urlsafe_b64encode(tag + data).rstrip(b"=").decode()


def _open(identity: StoreIdentity, person: bytes, cursor: str) -> list[object]:
    try:
        raw = base64.urlsafe_b64decode(cursor.encode() + b"=" * (-len(cursor) % 4))
        if base64.urlsafe_b64encode(raw).rstrip(b"=") != cursor.encode():  # the decoder passes over what is no base64
            raise InvalidCursor
        tag, data = raw[:TAG_BYTES], raw[TAG_BYTES:]
        expected = hashlib.blake2b(data, key=identity.cursor_key, digest_size=TAG_BYTES, person=person).digest()
        if not hmac.compare_digest(tag, expected):
            raise InvalidCursor
        payload = json.loads(data)
    except (ValueError, binascii.Error):
        raise InvalidCursor from None
    if not isinstance(payload, list):
        raise InvalidCursor
    return payload


def list_cursor(identity: StoreIdentity, scope: str, last: Sequence[str | int]) -> str:
    """A cursor that goes on after `last`, valid for lists of the same `scope` only.

    `scope` names the operation, the team and every filter, as `list_scope` makes it.
    """
    return _seal(identity, _person(scope), json.dumps(last, separators=(",", ":"), ensure_ascii=False))


def open_list_cursor(identity: StoreIdentity, scope: str, cursor: str | None, *kinds: type) -> tuple[Any, ...] | None:
    """The sort keys of a list cursor, each an instance of its kind; None for none. Raises InvalidCursor."""
    if cursor is None:
        return None
    payload = _open(identity, _person(scope), cursor)
    if len(payload) != len(kinds) or any(type(value) is not kind for value, kind in zip(payload, kinds, strict=True)):
        raise InvalidCursor
    return tuple(payload)


def list_scope(operation: str, team_id: int, *filters: object) -> str:
    """Name a list and everything that selects its rows."""
    return json.dumps([operation, team_id, *filters], default=str)


def inbox_cursor(identity: StoreIdentity, agent_id: AgentId, position: int) -> str:
    """A cursor that goes on after `position` in an agent's inbox, until the database's epoch ends."""
    return _seal(identity, _INBOX, f"[{encode_basestring(identity.epoch)},{agent_id},{position}]")


def open_inbox_cursor(identity: StoreIdentity, agent_id: AgentId, cursor: str) -> int:
    """The position of an inbox cursor. Raises InvalidCursor for another agent's, CursorExpired for another epoch's."""
    match _open(identity, _INBOX, cursor):
        case [str(epoch), int(owner), int(position)] if owner == agent_id:
            if epoch != identity.epoch:
                raise CursorExpired(suggestion="check_inbox")
            return position
        case _:
            raise InvalidCursor
