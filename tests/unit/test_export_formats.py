"""Export formats: nothing of a record breaks out of its place, and what is meant for programs reads back exactly."""

import csv
import io
import json
from datetime import UTC, datetime
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_mail_core.export_csv import csv_line, guarded, unguarded
from agent_mail_core.export_formats import FORMATS, CsvExport, Format, HtmlExport, JsonExport, Kind, MarkdownExport

NOW = datetime(2026, 11, 22, 13, 41, tzinfo=UTC)
HOSTILE = "=1+1 </pre><script>alert(1)</script>\n# Heading\n---\n'\"\r\n`x` ]]> -->"


def message(number: int, text: str = HOSTILE) -> dict[str, Any]:
    return {
        "message_id": number,
        "thread_id": "T-1",
        "sender_name": "Ann",
        "subject": text.splitlines()[0] if text else "-",
        "body_md": text,
        "created_at": NOW,
        "recipients": [{"name": "Bob", "kind": "to"}],
    }


RECORDS: list[tuple[Kind, dict[str, Any]]] = [
    ("project", {"slug": "shop", "human_key": "/code/<b>shop</b>", "description": None, "created_at": NOW}),
    ("agent", {"name": "Ann", "program": "=cmd|' /C calc'!A0"}),
    ("agent", {"name": "Bob", "program": "<img src=x onerror=alert(1)>"}),
    ("thread", {"thread_id": "T-1", "subject": "<script>", "created_at": NOW}),
    ("message", message(1)),
    ("message", message(2, "plain")),
    ("thread", {"thread_id": "T-2", "subject": "empty", "created_at": NOW}),
    ("reservation", {"id": 4, "agent_name": "Ann", "pattern": "@src/**", "reason": HOSTILE, "granted_at": NOW}),
]


def written(name: Format, records: list[tuple[Kind, dict[str, Any]]] = RECORDS, replaced: Any = None) -> str:
    document = FORMATS[name]()
    about = {"exported_at": NOW, "scrub": "none"}
    pieces = [document.begin(about), *(document.record(kind, record) for kind, record in records)]
    return "".join([*pieces, document.end(replaced)])


def plain(record: dict[str, Any]) -> Any:
    return {**record, **{k: "2026-11-22T13:41:00Z" for k, v in record.items() if isinstance(v, datetime)}}


def test_json_is_one_document_whose_threads_hold_their_messages() -> None:
    document = json.loads(written("json", replaced={"secret": 1}))
    assert document["format"] == "agent-mail-export"
    assert document["project"] == plain(RECORDS[0][1])
    assert [agent["name"] for agent in document["agents"]] == ["Ann", "Bob"]
    assert document["threads"][0]["messages"] == [plain(message(1)), plain(message(2, "plain"))]
    assert document["threads"][1]["messages"] == []
    assert document["reservations"] == [plain(RECORDS[-1][1])]
    assert (document["contacts"], document["slots"], document["reviews"]) == ([], [], [])
    assert document["replaced"] == {"secret": 1}


def test_json_of_an_empty_project_is_a_document_too() -> None:
    document = json.loads(written("json", RECORDS[:1]))
    assert document["agents"] == document["threads"] == document["contacts"] == []
    assert "replaced" not in document
    ending_in_a_thread = json.loads(written("json", RECORDS[:5]))
    assert len(ending_in_a_thread["threads"][0]["messages"]) == 1


def test_csv_gives_back_every_record() -> None:
    rows = list(csv.reader(io.StringIO(written("csv", replaced={"email": 2}), newline="")))
    assert rows[0] == list(CsvExport.columns)
    assert [row[0] for row in rows[1:]] == ["about", *(kind for kind, _ in RECORDS), "replaced"]
    for row, (_, record) in zip(rows[2:], RECORDS, strict=False):
        assert json.loads(unguarded(row[-1])) == plain(record)
    body = unguarded(rows[6][5])
    assert (rows[6][0], body) == ("message", HOSTILE)


@given(st.text())
def test_a_cell_survives_and_starts_no_formula(cell: str) -> None:
    [[read]] = csv.reader(io.StringIO(csv_line([cell]), newline=""))
    assert unguarded(read) == cell
    assert not read.lstrip(" ").startswith(("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠"))


@pytest.mark.parametrize("cell", ["=1", "+1", "-1", "@a", "\t=1", "\r=1", "'=1", " =1", "＝1"])
def test_a_formula_gets_an_apostrophe(cell: str) -> None:
    assert guarded(cell) == f"'{cell}"


class Tags(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attributes}

    def handle_data(self, data: str) -> None:
        self.text += data


def test_html_holds_no_tag_of_a_record_and_loads_nothing() -> None:
    page = Tags(written("html", replaced={"email": 2}))
    assert page.tags <= set("html head meta title style body p h1 h2 h3 h4 dl dt dd article pre".split())
    assert page.attributes <= {"lang", "charset", "http-equiv", "content", "name"}
    assert "<script>alert(1)</script>" in page.text
    assert "Bob" in page.text


def test_markdown_quotes_bodies_and_escapes_the_rest() -> None:
    text = written("markdown", replaced={"email": 2})
    lines = text.splitlines()
    assert "> # Heading" in lines
    assert not any(line.startswith(("# Heading", "---", "<script", "<img")) for line in lines)
    assert "# /code/\\<b\\>shop\\</b\\>" in lines
    assert "### T\\-1: \\<script\\>" in lines
    assert "- email: 2" in lines


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_says_what_it_is(name: Format) -> None:
    document = FORMATS[name]
    assert document in (JsonExport, CsvExport, HtmlExport, MarkdownExport)
    assert "/" in document.media_type
    assert written(name)
