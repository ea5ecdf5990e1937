"""The types that requests and results are made of: what a text, a name, a key, a time may be.

Every field of every request uses one of these, so a limit is stated once and both transports and the schemas share it.
Text never holds U+0000; single-line text holds no control characters at all. Lone surrogates are refused by pydantic.
"""

import re
import unicodedata
from datetime import UTC, datetime
from enum import IntEnum
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from agent_mail_core.ids import LARGEST_ID

HUMAN_KEY_LENGTH = 1024
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_UNSEEN = frozenset({"Zs", "Zl", "Zp", "Cc", "Cf", "Mn", "Me"})
_FILLERS = frozenset("\u115f\u1160\u2800\u3164\uffa0")
"""Letters and symbols by their category, and blank by design."""

SURROGATE = re.compile(r"[\ud800-\udfff]")
RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)")
AGENT_NAME = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$"
THREAD_KEY = r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$"
RESERVED_AGENT_NAMES = frozenset({"overseer", "system", "all", "everyone", "me"})
RESERVED_THREAD_KEYS = frozenset({"list", "search", "summarize"})


class Request(BaseModel):
    """Arguments of an operation: strictly typed, unknown ones refused."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", hide_input_in_errors=True)


class Result(BaseModel):
    """Answer of an operation. Fields that are None are left out on the wire."""

    model_config = ConfigDict(frozen=True)

    def to_json(self) -> bytes:
        """The answer as it goes over the wire. Pages of many rows override it with a shorter way to the same JSON."""
        return self.__pydantic_serializer__.to_json(self, exclude_none=True)


class NoArguments(Request):
    """For operations that take none."""


def _whole_characters(text: str) -> str:
    """Pydantic looks for lone surrogates only where it has a length or a pattern to check."""
    if not text.isascii() and SURROGATE.search(text):
        raise PydanticCustomError("lone_surrogate", "lone surrogates are not allowed")
    return text


def _without_nul(text: str) -> str:
    if "\x00" in text:
        raise PydanticCustomError("nul_character", "U+0000 is not allowed")
    return _whole_characters(text)


def _one_line(text: str) -> str:
    _whole_characters(text)
    if CONTROL.search(text):
        raise PydanticCustomError("control_character", "control characters and line breaks are not allowed")
    return text


def is_blank(text: str) -> bool:
    """Whether nothing of it can be seen: spaces, characters without a shape, marks that have no letter."""
    return all(unicodedata.category(each) in _UNSEEN or each in _FILLERS for each in text)


def _not_blank(text: str) -> str:
    if is_blank(text):
        raise PydanticCustomError("blank", "must not be blank")
    return text


def _human_key(text: str) -> str:
    key = unicodedata.normalize("NFC", text).rstrip("/") or "/"
    if is_blank(key):
        raise PydanticCustomError("blank", "must not be blank")
    if len(key) > HUMAN_KEY_LENGTH:
        raise PydanticCustomError("too_long", "must have at most 1024 characters once normalized (NFC)")
    return key


def name_key(text: str) -> str:
    """How names and keys compare: the case of ASCII is ignored, and no other letter is ever taken for an ASCII one."""
    return text.lower() if text.isascii() else text


def _agent_name(name: str) -> str:
    if name.lower() in RESERVED_AGENT_NAMES:
        raise PydanticCustomError("reserved_name", "this name is reserved")
    return name


def _thread_key(key: str) -> str:
    if key.lower() in RESERVED_THREAD_KEYS:
        raise PydanticCustomError("reserved_name", "this thread id is reserved")
    return key


def _timestamp(value: Any) -> Any:
    if isinstance(value, str):
        if not RFC_3339.fullmatch(value):
            raise PydanticCustomError("timestamp", "must be an RFC 3339 time such as 2026-11-22T13:41:00Z")
        return datetime.fromisoformat(value.upper().replace("Z", "+00:00"))
    if not isinstance(value, datetime):
        raise PydanticCustomError("timestamp", "must be an RFC 3339 time such as 2026-11-22T13:41:00Z")
    return value


def _as_utc(value: datetime) -> datetime:
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise PydanticCustomError("timestamp", "is outside the years 1 to 9999") from None


Text = Annotated[str, AfterValidator(_without_nul)]
Line = Annotated[str, AfterValidator(_one_line)]
"""One line of text: no control characters."""

HumanKey = Annotated[
    str,
    Field(
        min_length=1,
        max_length=HUMAN_KEY_LENGTH,
        description="Stable key of the project, often the repository's absolute path; a label, never opened",
    ),
    AfterValidator(_one_line),
    AfterValidator(_human_key),
]
Slug = Annotated[str, Field(pattern=r"^[a-z0-9](?:[a-z0-9-]{0,98}[a-z0-9])?$")]
ProjectRef = Annotated[
    str,
    Field(min_length=1, max_length=1024, description="Its slug or human_key"),
    AfterValidator(_one_line),
]
NewAgentName = Annotated[
    str,
    Field(pattern=AGENT_NAME, description="1-64 of A-Z a-z 0-9 _ -; unique in the project ignoring case"),
    AfterValidator(_agent_name),
]
AgentName = Annotated[str, Field(min_length=1, max_length=64), AfterValidator(_one_line)]
"""A name to look up: whatever cannot exist simply is not found."""

Address = Annotated[str, Field(min_length=1, max_length=170), AfterValidator(_one_line)]
"""A recipient: `Name`, or `Name@slug` in another project."""

ThreadKey = Annotated[
    str,
    Field(pattern=THREAD_KEY, description="Thread id such as FEAT-123"),
    AfterValidator(_thread_key),
]
Subject = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_one_line), AfterValidator(_not_blank)]
Profile = Annotated[str, Field(min_length=1, max_length=128), AfterValidator(_one_line), AfterValidator(_not_blank)]
"""A program's or model's name."""

Description = Annotated[str, Field(max_length=4000), AfterValidator(_without_nul)]
Id = Annotated[int, Field(ge=1, le=LARGEST_ID)]
PageSize = Annotated[int, Field(ge=1, le=100, description="At most this many")]
Cursor = Annotated[str, Field(min_length=1, max_length=2048)]
IdempotencyKey = Annotated[
    str,
    Field(min_length=1, max_length=128, description="Random. A repeat within 24 h is answered, not done again"),
    AfterValidator(_one_line),
]
Timestamp = Annotated[AwareDatetime, Field(strict=False), BeforeValidator(_timestamp), AfterValidator(_as_utc)]

BODY_LIMIT = 256 * 1024
"""Bytes of UTF-8 in a message body."""


def _body(text: str) -> str:
    if "\x00" in text:
        raise PydanticCustomError("nul_character", "U+0000 is not allowed")
    # A character is at least one byte and at most four: only texts between the two need encoding.
    if len(text) * 4 > BODY_LIMIT and len(text.encode()) > BODY_LIMIT:
        raise PydanticCustomError("body_too_long", "must be at most 256 KiB of UTF-8")
    return text


Body = Annotated[str, Field(max_length=BODY_LIMIT, description="GitHub-flavoured Markdown"), AfterValidator(_body)]


class PriorityRank(IntEnum):
    """Priorities as stored and compared; the seed's integers."""

    low = -1
    normal = 0
    high = 1
    urgent = 2


INTEGER_TEXTS = frozenset({"-1", "0", "1", "2"})
PriorityWord = Literal["low", "normal", "high", "urgent"]


def _priority(value: Any) -> Any:
    if isinstance(value, str) and value in INTEGER_TEXTS:  # as query strings give them
        return PriorityRank(int(value)).name
    if isinstance(value, int) and not isinstance(value, bool) and -1 <= value <= 2:
        return PriorityRank(value).name
    return value


Priority = Annotated[PriorityWord, BeforeValidator(_priority)]
"""A word; the seed's integers -1 to 2 are read too."""

RecipientKind = Literal["to", "cc", "bcc"]
RECIPIENT_KINDS: tuple[RecipientKind, ...] = ("to", "cc", "bcc")
"""Stored as the index in this tuple."""

ContactPolicy = Literal["open", "auto", "contacts_only", "block_all"]
