"""The head of a Markdown file: YAML, of which each value is JSON on one line: any YAML reader reads it, and `parse`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

_FENCE = "---\n"
# What YAML does not take as it is, or breaks lines at; in a JSON string each has an escape. No text of ours holds a
# lone surrogate.
_ESCAPED = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")


def wire_time(at: datetime) -> str:
    """RFC 3339, to the microsecond."""
    return at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def value_text(value: Any) -> str:
    """JSON that is YAML too, on one line."""
    text = json.dumps(value, ensure_ascii=False)
    return text if text.isascii() and "\x7f" not in text else _ESCAPED.sub(lambda c: f"\\u{ord(c[0]):04x}", text)


def dump(fields: Mapping[str, Any]) -> str:
    """The fields between their fences; those that are None are left out."""
    lines = [f"{name}: {value_text(value)}\n" for name, value in fields.items() if value is not None]
    return f"{_FENCE}{''.join(lines)}{_FENCE}"


def parse(text: str) -> tuple[dict[str, Any], str]:
    """The fields of a file that `dump` began, and what stands below them. ValueError for another text."""
    if not text.startswith(_FENCE):
        raise ValueError("no front matter")
    head, fence, body = text[len(_FENCE) :].partition(f"\n{_FENCE}")
    if not fence:
        raise ValueError("the front matter has no end")
    fields: dict[str, Any] = {}
    for line in head.split("\n"):
        name, colon, value = line.partition(": ")
        if not colon:
            raise ValueError("a line of the front matter names no field")
        fields[name] = json.loads(value)
    return fields, body
