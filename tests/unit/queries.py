"""Queries and texts for properties of the search, of any kind and small ones, which often match; and mail of them."""

from datetime import UTC, datetime

from hypothesis import strategies as st

from agent_mail_core.search_query import Searchable
from agent_mail_core.search_text import index_text

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)

SYNTAX = [
    '"',
    "*",
    "-",
    " ",
    "\n",
    " OR ",
    "from:",
    "subject:",
    "thread:",
    "before:",
    "after:",
    "2026-01-31",
    "T00:00:00Z",
]
TERMS = ["auth", "src/auth.py", "é", "e\u0301", "東京", "😀", "ﷺ", "\0", "NEAR(", "{a}:", "^", "'", "\\", ")", "%", "_"]
QUERY_PIECES = st.sampled_from(SYNTAX + TERMS)
any_query = st.one_of(st.text(max_size=500), st.lists(QUERY_PIECES, max_size=30).map("".join))

TEXT_PIECES = st.sampled_from(
    [
        "a",
        "ab",
        "abc",
        "b",
        "A",
        "é",
        "e\u0301",
        "ß",
        "ss",
        "東",
        "京",
        "😀",
        "_",
        "-",
        "/",
        ".",
        " ",
        "  ",
        "\n",
        "b/a",
        "a.b",
    ]
)
small_text = st.lists(TEXT_PIECES, max_size=10).map("".join)
small_query = st.one_of(small_text, small_text.map(lambda text: f'"{text}"'), small_text.map(lambda text: f'"{text}"*'))


def mail(subject: str = "", body: str = "") -> Searchable:
    return Searchable(index_text(subject, body), "BlueLake", "FEAT-123", NOON)
