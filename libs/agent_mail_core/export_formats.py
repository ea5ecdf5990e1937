"""How an export is written: JSON, Markdown, HTML or CSV, piece by piece, as the records come.

Records come in this order: one project; agents; each thread, followed by its messages; contacts, reservations, slots,
reviews. Nothing of a record can break out of its place in the document.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from typing import Any, Literal, Protocol

from agent_mail_core.export_csv import csv_line

Format = Literal["json", "markdown", "html", "csv"]
Record = Mapping[str, Any]
Kind = Literal["project", "agent", "thread", "message", "contact", "reservation", "slot", "review"]

HEADINGS: dict[str, str] = {
    "agent": "Agents",
    "thread": "Threads",
    "contact": "Contacts",
    "reservation": "Reservations",
    "slot": "Build slots",
    "review": "Reviews",
}


class ExportFormat(Protocol):
    """Writes one export; each method gives the next piece of the document."""

    media_type: str
    extension: str

    def begin(self, about: Record) -> str:
        """What stands before all records; `about` says when and how it was made."""
        ...

    def record(self, kind: Kind, record: Record) -> str:
        """The next record."""
        ...

    def end(self, replaced: Mapping[str, int] | None) -> str:
        """What stands after them: how much was scrubbed, by kind, or None when that was not asked for."""
        ...


def on_wire(value: Any) -> Any:
    """For json.dumps: times in RFC 3339."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    raise TypeError(type(value).__name__)


def dumped(value: Any) -> str:
    """One value as JSON."""
    return json.dumps(value, default=on_wire, ensure_ascii=False)


class JsonExport(ExportFormat):
    """One document. Threads hold their messages."""

    media_type = "application/json"
    extension = "json"

    def __init__(self) -> None:
        self._section: str | None = None
        self._thread_is_open = False
        self._has_messages = False
        self._missing = dict.fromkeys(HEADINGS)

    def begin(self, about: Record) -> str:
        return f'{{"format": "agent-mail-export", "version": 1, "about": {dumped(about)}'

    def record(self, kind: Kind, record: Record) -> str:
        if kind == "project":
            return f',\n"project": {dumped(record)}'
        if kind == "message":
            comma, self._has_messages = ",\n" if self._has_messages else "\n", True
            return f"{comma}  {dumped(record)}"
        text = self._end_thread()
        if kind != self._section:
            text += f'{self._end_section()},\n"{kind}s": [\n'
            self._missing.pop(kind)
        else:
            text += ",\n"
        self._section = kind
        if kind != "thread":
            return text + dumped(record)
        self._thread_is_open, self._has_messages = True, False
        return f'{text}{dumped(record)[:-1]}, "messages": ['

    def end(self, replaced: Mapping[str, int] | None) -> str:
        scrubbed = f',\n"replaced": {dumped(replaced)}' if replaced is not None else ""
        empty = "".join(f',\n"{kind}s": []' for kind in self._missing)
        return f"{self._end_thread()}{self._end_section()}{empty}{scrubbed}}}\n"

    def _end_thread(self) -> str:
        was_open, self._thread_is_open = self._thread_is_open, False
        return "]}" if was_open else ""

    def _end_section(self) -> str:
        return "\n]" if self._section is not None else ""


class CsvExport(ExportFormat):
    """A row a record: the first columns for people, the last one all of it as JSON."""

    media_type = "text/csv; charset=utf-8"
    extension = "csv"
    columns = ("record", "id", "at", "who", "subject", "text", "all")

    def begin(self, about: Record) -> str:
        return csv_line(self.columns) + self._row("about", about)

    def record(self, kind: Kind, record: Record) -> str:
        return self._row(kind, record)

    def end(self, replaced: Mapping[str, int] | None) -> str:
        return self._row("replaced", replaced) if replaced is not None else ""

    def _row(self, kind: str, record: Record) -> str:
        shown = (
            ("message_id", "thread_id", "id", "name", "slug"),
            ("created_at", "granted_at", "requested_at", "registered_at", "exported_at"),
            ("sender_name", "agent_name", "requester_name", "name"),
            ("subject", "pattern", "contact_name", "human_key"),
            ("body_md", "reason", "note", "task_description", "description"),
        )
        cells = [_first(record, names) for names in shown]
        return csv_line([kind, *cells, dumped(record)])


def _first(record: Record, names: Sequence[str]) -> str:
    for name in names:
        value = record.get(name)
        if value is not None:
            return value if isinstance(value, str) else dumped(value).strip('"')
    return ""


class MarkdownExport(ExportFormat):
    """A page to read. Bodies are quoted, so that no heading of theirs becomes one of the page."""

    media_type = "text/markdown; charset=utf-8"
    extension = "md"

    def __init__(self) -> None:
        self._section: str | None = None

    def begin(self, about: Record) -> str:
        return f"<!-- agent-mail export, {_plain(about['exported_at'])} -->\n"

    def record(self, kind: Kind, record: Record) -> str:
        if kind == "project":
            return f"\n# {_inline(record['human_key'])}\n\n{_fields(record, ('human_key',))}"
        heading = ""
        if kind != self._section and kind != "message":
            self._section = kind
            heading = f"\n## {HEADINGS[kind]}\n"
        if kind == "thread":
            return f"{heading}\n### {_inline(record['thread_id'])}: {_inline(record['subject'])}\n"
        if kind == "message":
            body = "".join(f"> {line}\n" for line in str(record["body_md"]).splitlines() or [""])
            title = f"{_inline(record['sender_name'])}: {_inline(record['subject'])}"
            return f"\n#### {title}\n\n{_fields(record, ('sender_name', 'subject', 'body_md'))}\n{body}"
        return f"{heading}\n{_fields(record, ())}"

    def end(self, replaced: Mapping[str, int] | None) -> str:
        return f"\n## Replaced\n\n{_fields(replaced, ())}" if replaced is not None else ""


_MARKDOWN = str.maketrans({character: f"\\{character}" for character in "\\`*_{}[]<>()#+-.!|~&"})


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else dumped(value).strip('"')


def _inline(value: Any) -> str:
    """A value as text of one line that is no Markdown."""
    return " ".join(_plain(value).split()).translate(_MARKDOWN)


def _fields(record: Record, left_out: Sequence[str]) -> str:
    rows = [(name, value) for name, value in record.items() if value not in (None, [], "") and name not in left_out]
    return "".join(f"- {_inline(name)}: {_inline(value)}\n" for name, value in rows)


_HTML_HEAD = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Agent Mail export</title>
<style>
:root { color-scheme: light dark; font-family: system-ui, sans-serif; line-height: 1.5 }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
article { border-top: 1px solid; margin-top: 1rem; padding-top: .5rem }
pre { white-space: pre-wrap; overflow-wrap: anywhere }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 0 1rem; overflow-wrap: anywhere }
dd { margin: 0 }
</style>
</head>
<body>
"""


class HtmlExport(ExportFormat):
    """A page that stands alone: nothing is loaded, nothing runs, and Markdown is shown as it was written."""

    media_type = "text/html; charset=utf-8"
    extension = "html"

    def __init__(self) -> None:
        self._section: str | None = None

    def begin(self, about: Record) -> str:
        return f"{_HTML_HEAD}<p>Exported {escape(_plain(about['exported_at']))}</p>\n"

    def record(self, kind: Kind, record: Record) -> str:
        if kind == "project":
            return f"<h1>{escape(_plain(record['human_key']))}</h1>\n{_html_fields(record, ('human_key',))}"
        heading = ""
        if kind != self._section and kind != "message":
            self._section = kind
            heading = f"<h2>{HEADINGS[kind]}</h2>\n"
        if kind == "thread":
            return f"{heading}<h3>{escape(record['thread_id'])}: {escape(record['subject'])}</h3>\n"
        if kind == "message":
            return (
                f"<article>\n<h4>{escape(record['sender_name'])}: {escape(record['subject'])}</h4>\n"
                f"{_html_fields(record, ('sender_name', 'subject', 'body_md'))}"
                f"<pre>{escape(record['body_md'])}</pre>\n</article>\n"
            )
        return f"{heading}<article>\n{_html_fields(record, ())}</article>\n"

    def end(self, replaced: Mapping[str, int] | None) -> str:
        report = f"<h2>Replaced</h2>\n{_html_fields(replaced, ())}" if replaced is not None else ""
        return f"{report}</body>\n</html>\n"


def _html_fields(record: Record, left_out: Sequence[str]) -> str:
    rows = [(name, value) for name, value in record.items() if value not in (None, [], "") and name not in left_out]
    cells = "".join(f"<dt>{escape(name)}</dt><dd>{escape(_plain(value))}</dd>\n" for name, value in rows)
    return f"<dl>\n{cells}</dl>\n"


FORMATS: dict[Format, type[JsonExport | MarkdownExport | HtmlExport | CsvExport]] = {
    "json": JsonExport,
    "markdown": MarkdownExport,
    "html": HtmlExport,
    "csv": CsvExport,
}
