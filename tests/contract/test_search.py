"""Search: on every engine exactly the messages that `search_query.matches` says, whatever the text."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent_mail_core.errors import AgentNotFound, EmptyQuery, Invalid, InvalidCursor, ModeUnavailable, ProjectNotFound
from agent_mail_core.search_query import MAX_LEAVES, QueryTooComplex, Searchable, matches, parse
from agent_mail_core.search_text import index_text
from tests.contract.office import Office, pages

MAIL: list[tuple[str, str, str, str]] = [
    # sender, thread, subject, body
    ("Ann", "FEAT-1", "Deploy plan", "We deploy on Monday. The deployment runs src/agent_mail/auth.py first."),
    ("Bob", "FEAT-1", "Re: Deploy plan", "Deploying takes 20 minutes; see docs/deploy.md"),
    ("Ann", "FEAT-2", "Cache", "The cache key is user_id:session. Redis, not Postgres!"),
    ("Cid", "FEAT-2", "cache misses", "CACHE_TTL_SECONDS=300, cache-control: no-store"),
    ("Bob", "bug.42", "Crash in parser", "TypeError: 'NoneType' object is not subscriptable\nat parser.py:42"),
    ("Bob", "bug.42", "Not a crash", "it's fine, don't worry — naïve café résumé"),
    ("Dot", "i18n", "Straße", "Die STRASSE ist gesperrt. ﬁne print, ½ cup, ①"),
    ("Dot", "i18n", "東京", "東京へ行く。大阪も。ﾃｽﾄ カタカナ"),
    ("Dot", "i18n", "Турция", "İstanbul IĞDIR ısı ΣΊΣΥΦΟΣ ΐ"),
    ("Cid", "i18n", "서버", "서버가 down 되었다 👍🏽 ✓ done ❤️"),
    ("Cid", "i18n", "ที่นี่", "สวัสดีครับ हिन्दी में लिखा"),
    ("Ann", "numbers", "v1.2.3", "1.2.3 and 1.2.30, 0x1F, 1e10, 1,000,000"),
    ("Ann", "numbers", "100%", "100% of 50% is * not ** 2 ^ 8"),
    ("Bob", "ops", "OR", "AND OR NOT NEAR near/3 in capitals"),
    ("Bob", "ops", "quotes", "She said \"deploy on Monday\" and left. 'single' “curly”"),
    ("Cid", "ops", "paths", "C:\\Users\\ann\\file.txt ~/.ssh/id_ed25519 /etc/hosts ./run.sh ../up"),
    ("Cid", "ops", "mail", "ann@example.com, #channel, @bob, +1-555-0100, key=value; a+b=c"),
    ("Dot", "ops", "markdown", "# Title\n\n- item *bold* _em_ `code()` [link](http://x.test/a?b=c&d=e#f)"),
    ("Dot", "code", "snake_case and camelCase", "get_user_by_id getUserById GET /api/users/{id} __init__ --flag -x"),
    ("Ann", "code", "diff", "--- a/x.py\n+++ b/x.py\n@@ -1 +1 @@\n-old_line\n+new_line"),
    ("Ann", "long", "long words", "x" * 200 + " " + "y" * 127 + "z" + " tail"),
    ("Bob", "long", "repeat", "echo " * 300 + "end of echo"),
    ("Bob", "empty", "only a subject", ""),
    ("Cid", "empty", "***", "!!! ... ???"),
    ("Cid", "empty", "spaces", "  deploy\t\ton\n\n monday  "),
    ("Ann", "deployment", "Roll-back", "roll back the roll-back; rollback"),
    ("Dot", "phrase", "one two three", "four five six"),
    ("Dot", "phrase", "two one", "three two one; one two"),
    ("Ann", "phrase", "plan deploy", "monday on deploy"),
    ("Bob", "zero", "zero\u200bwidth", "soft\u00adhyphen joi\u200dned e\u0301te\u0301 ÉTÉ été"),
    ("Bob", "FEAT-10", "similar keys", "FEAT-1 is not FEAT-10 nor FEAT-100"),
    ("Cid", "case", "İ", "i̇ I ı i"),
    ("Cid", "case", "ǅ ŉ ß ẞ", "ǆ ʼn SS ss"),
    ("Dot", "sql", "' OR 1=1 --", "Robert'); DROP TABLE messages; -- % _ \\ \" ?"),
    ("Dot", "sql", "fts", 'NEAR("a b", 5) subject:x {a b}: c ^start a* (a OR b) AND NOT c'),
    ("Ann", "fields", "from:Bob", "subject:plan thread:FEAT-1 before:2020-01-01 from: Ann"),
    ("Bob", "dates", "2026-01-31", "before:2026-01-31T09:00:00Z after 10:30, 31.01.2026"),
    ("Cid", "url", "https://example.com/a/b", "see https://example.com/a/b?c=d and http://localhost:8765/mcp"),
    ("Dot", "ids", "550e8400-e29b-41d4-a716-446655440000", "sha256:deadbeef T-ABCDEFGHIJ issue #1234"),
    ("Ann", "last", "deploy deploy deploy", "deploy " * 50),
]

QUERIES = [
    *(
        "deploy",
        "DEPLOY",
        "deploy monday",
        '"deploy on monday"',
        '"on monday"',
        '"monday on"',
        "deplo*",
        "deploy*",
        "*",
    ),
    *("-deploy", "deploy -monday", "-deploy -cache", "deploy OR cache", "deploy OR cache -plan", "OR", '"OR"', "a OR"),
    *("OR deploy", "deploy OR OR cache", "-deploy OR cache", "from:ann", "from:ANN deploy", "-from:ann", "from:nobody"),
    *("from:Bob OR from:Cid", "subject:plan", "subject:deploy", "-subject:deploy deploy", 'subject:"deploy plan"'),
    *("subject:depl*", "thread:feat-1", "thread:FEAT-1 deploy", "-thread:FEAT-1", "thread:none", "from:", "subject:"),
    *("src/agent_mail/auth.py", "auth.py", "agent_mail", "agent mail", "mail/auth", "user_id", "user", "user_*", "id"),
    *("cache-control", "cache control", "CACHE_TTL", "don't", "don", "dont", "naive", "naïve", "cafe", "café", "CAFÉ"),
    *(
        "strasse",
        "straße",
        "STRASSE",
        "fine",
        "ﬁne",
        "½",
        "1",
        "東京",
        "京都",
        "東",
        "東*",
        "行く",
        "カタカナ",
        "テスト",
    ),
    *("istanbul", "İstanbul", "ıstanbul", "σίσυφοσ", "σίσυφος", "서버", "서버가", "버가", "👍", "❤", "❤️", "✓", "สวัสดี"),
    *("हिन्दी", "1.2.3", "1.2", "1.2.*", "1.2.3*", "100%", "%", "_", "\\", "'", '"', '""', '"""', '"deploy', 'deploy"'),
    *("x" * 200, "x" * 128, "x" * 127 + "*", "y" * 127 + "z", "echo end", '"echo end"', '"echo echo"', '"end of echo"'),
    *(
        "one two",
        '"one two"',
        '"three four"',
        '"two three"',
        "-one",
        '-"one two"',
        '"one two" OR "two one"',
        "éte",
        "été",
    ),
    *(
        "FEAT-1",
        "feat 1",
        "FEAT-10",
        "FEAT-1*",
        "' OR 1=1 --",
        "DROP TABLE",
        "NEAR(a b)",
        "{a b}",
        "^start",
        "a:b",
        "(a)",
    ),
    *("AND", "NOT", "near/3", "subject:subject:x", "from:from:Bob", '"from:Bob"', "from: Ann", "before:2999-01-01"),
    *(
        "after:2999-01-01",
        "after:2000-01-01 deploy",
        "before:2000-01-01",
        "before:yesterday",
        "after:2026-02-30",
        "--flag",
    ),
    *(
        "__init__",
        "-x",
        "--",
        "-",
        "- deploy",
        "id_ed25519",
        "ann@example.com",
        "example.com",
        "#1234",
        "1234",
        "T-ABC*",
    ),
    *("https://example.com/a/b", "localhost:8765", "e29b-41d4", "sha256:deadbeef", "deadbee*", "softhyphen", "joined"),
    *(
        "zero width",
        "zerowidth",
        "ss",
        "ß",
        "i",
        "ı",
        "i̇",
        "ʼn",
        "roll-back",
        '"roll back"',
        "rollback",
        "C:\\Users\\ann",
    ),
    " ".join(f"w{number}" for number in range(MAX_LEAVES)),
    " OR ".join(["deploy"] * MAX_LEAVES),
    " ".join(f"w{number}" for number in range(MAX_LEAVES + 1)),
    "deploy " * 71,
    "-" * 500,
    "*" * 500,
    '"' * 499,
    "東" * 500,
    "\u0301" * 500,
    "😀" * 500,
]


@pytest.fixture
async def mail(office: Office) -> tuple[Office, dict[int, Searchable]]:
    """The office after all MAIL was sent, and each message as the query language sees it."""
    searchable = {}
    for sender, thread, subject, body in MAIL:
        sent = await office.send(sender, ["Ann"], thread_id=thread, subject=subject, body=body)
        searchable[sent.message_id] = Searchable(index_text(subject, body), sender, sent.thread_id, sent.created_at)
    return office, searchable


async def found(office: Office, query: str, **more: Any) -> list[int] | str:
    """The ids of all hits, or why there was no search."""
    try:
        return [
            hit.message_id async for page in pages(office.search, query=query, limit=100, **more) for hit in page.hits
        ]
    except EmptyQuery as error:
        return error.code
    except Invalid as error:
        return error.code


def expected(query: str, searchable: dict[int, Searchable]) -> set[int] | str:
    try:
        parsed = parse(query)
    except QueryTooComplex:
        return Invalid.code
    if parsed.is_empty:
        return EmptyQuery.code
    return {message_id for message_id, message in searchable.items() if matches(parsed, message)}


def as_set(hits: list[int] | str) -> set[int] | str:
    return hits if isinstance(hits, str) else set(hits)


async def test_every_query_finds_exactly_what_it_means(mail: tuple[Office, dict[int, Searchable]]) -> None:
    office, searchable = mail
    wrong = {}
    hit_counts = []
    for query in QUERIES:
        hits, wanted = await found(office, query), expected(query, searchable)
        hit_counts.append(len(wanted))
        if as_set(hits) != wanted or len(hits) != len(wanted):
            wrong[query] = (hits, wanted)
    assert wrong == {}
    assert sum(1 for count in hit_counts if count) > len(QUERIES) // 2, "the table has become blunt"


WORDS = sorted({word for _, _, subject, body in MAIL for word in (subject + " " + body[:300]).split()})
term = st.one_of(
    st.sampled_from(WORDS),
    st.sampled_from(["deploy", "cache", "one", "two", "on", "monday", "feat", "plan", "東京", "x", "OR", "AND"]),
    st.text(max_size=8),
)
spelled = st.builds(
    "".join,
    st.tuples(
        st.sampled_from(["", "", "", "-"]),
        st.sampled_from(["", "", "", "", "from:", "subject:", "thread:", "before:", "AFTER:"]),
        st.one_of(term, st.lists(term, min_size=1, max_size=3).map(lambda words: f'"{" ".join(words)}"')),
        st.sampled_from(["", "", "*"]),
    ),
)
queries = st.lists(spelled, min_size=1, max_size=5).map(" ".join).filter(lambda text: 0 < len(text) <= 500)


@given(query=st.one_of(queries, st.text(min_size=1, max_size=500)))
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_any_text_finds_exactly_what_it_means(mail: tuple[Office, dict[int, Searchable]], query: str) -> None:
    if "\x00" in query:
        query = query.replace("\x00", " ")
    office, searchable = mail
    assert as_set(await found(office, query)) == expected(query, searchable)


async def test_hits_come_ranked_page_by_page_without_repeats(mail: tuple[Office, dict[int, Searchable]]) -> None:
    office, _ = mail
    whole = (await office.search("deploy OR cache", limit=100)).hits
    assert [hit.rank for hit in whole] == list(range(1, len(whole) + 1))
    for limit in (1, 3, len(whole)):
        paged = [hit async for page in pages(office.search, query="deploy OR cache", limit=limit) for hit in page.hits]
        assert paged == whole


async def test_a_subject_that_says_it_thrice_is_the_best_hit(mail: tuple[Office, dict[int, Searchable]]) -> None:
    office, _ = mail
    assert (await office.search("deploy")).hits[0].subject == "deploy deploy deploy"


async def test_a_query_without_words_is_newest_first(mail: tuple[Office, dict[int, Searchable]]) -> None:
    office, searchable = mail
    hits = await found(office, "from:Ann after:2000-01-01")
    assert isinstance(hits, list)
    assert hits == sorted(hits, reverse=True)
    assert len(hits) == sum(1 for message in searchable.values() if message.sender_name == "Ann")


async def test_every_hit_has_its_facts_and_a_snippet(mail: tuple[Office, dict[int, Searchable]]) -> None:
    office, searchable = mail
    page = await office.search("monday")
    assert page.mode == "text"
    for hit in page.hits:
        message = searchable[hit.message_id]
        assert (hit.sender_name, hit.thread_id, hit.created_at) == (
            message.sender_name,
            message.thread_key,
            message.created_at,
        )
        assert "**monday**" in hit.snippet.lower()
        assert "\n" not in hit.snippet
        assert (hit.project_slug, hit.priority) == ("office", "normal")
    [hit] = (await office.search("only subject", limit=100)).hits
    assert hit.snippet == "**only** a **subject**"


async def test_dates_part_the_mail_at_the_instant(office: Office) -> None:
    ids = [(await office.send("Ann", ["Bob"], subject=f"S{number}")) for number in range(3)]
    at = ids[1].created_at
    instant = at.isoformat().replace("+00:00", "Z")
    assert as_set(await found(office, f"before:{instant}")) == {ids[0].message_id}
    assert as_set(await found(office, f"after:{instant}")) == {ids[1].message_id, ids[2].message_id}
    assert as_set(await found(office, f"-after:{instant}")) == {ids[0].message_id}
    assert as_set(await found(office, "after:2000-01-01", since=at)) == {ids[1].message_id, ids[2].message_id}
    later = at + timedelta(microseconds=1)
    assert as_set(await found(office, "after:2000-01-01", since=later)) == {ids[2].message_id}


async def test_a_search_keeps_to_its_project_or_takes_the_whole_team(office: Office) -> None:
    await office.ensure("second")
    second = Office(office.app, office.caller, "second")
    await second.register("Ann")
    here = (await office.send("Ann", ["Bob"], subject="needle")).message_id
    there = (await second.send("Ann", ["Ann"], subject="needle")).message_id
    assert await found(office, "needle") == [here]
    assert await found(second, "needle") == [there]
    everywhere = (await office.search("needle", project_slug=None)).hits
    assert {(hit.message_id, hit.project_slug) for hit in everywhere} == {(here, "office"), (there, "second")}


async def test_a_search_by_agent_finds_what_it_sent_or_received(office: Office) -> None:
    sent = (await office.send("Bob", ["Ann"], subject="needle")).message_id
    received = (await office.send("Ann", ["Cid"], cc=["Bob"], subject="needle")).message_id
    hidden = (await office.send("Ann", ["Cid"], bcc=["Bob"], subject="needle")).message_id
    await office.send("Ann", ["Cid"], subject="needle")
    assert as_set(await found(office, "needle", agent_name="bob")) == {sent, received, hidden}
    assert as_set(await found(office.of("somebody"), "needle", agent_name="Bob")) == {sent, received}


async def test_a_message_is_found_as_soon_as_it_is_sent_and_one_that_was_refused_is_not(office: Office) -> None:
    with pytest.raises(Exception, match="Nothing was sent"):
        await office.send("Ann", ["Nobody"], subject="needle")
    assert await found(office, "needle") == []
    sent = await office.send("Ann", ["Bob"], subject="needle")
    assert await found(office, "needle") == [sent.message_id]


async def test_a_search_shows_a_thousand_hits_at_most(office: Office) -> None:
    await asyncio.gather(
        *(office.send("Ann", ["Bob"], subject=f"needle {number}", body="", thread_id="T") for number in range(1005))
    )
    hits = await found(office, "needle")
    assert len(hits) == 1000
    assert len(set(hits)) == 1000


async def test_the_longest_body_is_searched(office: Office) -> None:
    body = "word " * 40_000 + "needle"
    sent = await office.send("Ann", ["Bob"], body=body)
    [hit] = (await office.search("needle")).hits
    assert hit.message_id == sent.message_id
    assert len(hit.snippet) < 400


async def test_modes_that_need_embeddings_are_refused(office: Office) -> None:
    for mode in ("semantic", "hybrid"):
        with pytest.raises(ModeUnavailable) as refused:
            await office.search("x", mode=mode)
        assert refused.value.data["mode"] == mode
    assert (await office.search("x", mode="auto")).mode == "text"


async def test_a_search_that_cannot_be_right_says_why(office: Office) -> None:
    with pytest.raises(EmptyQuery) as refused:
        await office.search("*** ??")
    assert refused.value.data == {"query": "*** ??", "suggestion": "give a word to search for"}
    with pytest.raises(Invalid):
        await office.search("x", project_slug=None, agent_name="Ann")
    with pytest.raises(ProjectNotFound):
        await office.search("x", project_slug="elsewhere")
    with pytest.raises(AgentNotFound):
        await office.search("x", agent_name="Nobody")


async def test_search_cursors_of_another_search_are_refused(office: Office) -> None:
    for _ in range(2):
        await office.send("Ann", ["Bob"], subject="needle")
    cursor = (await office.search("needle", limit=1)).next_cursor
    assert cursor is not None
    others: list[dict[str, Any]] = [
        {"query": "needles"},
        {"query": "needle", "project_slug": None},
        {"query": "needle", "agent_name": "Ann"},
        {"query": "needle", "since": "2000-01-01T00:00:00Z"},
        {"query": "needle", "cursor": cursor[:-1]},
    ]
    for other in others:
        with pytest.raises(InvalidCursor):
            await office.search(**{"cursor": cursor, **other})
