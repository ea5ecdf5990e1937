"""The page /docs: its examples are performed, and it loads nothing that is not ours."""

import json
import re
import shlex
from collections.abc import AsyncIterator
from html.parser import HTMLParser

import httpx
import pytest
from pydantic import SecretStr

from agent_mail_core.ports import Role
from agent_mail_core.settings import Settings
from agent_mail_server.docs_page import docs_html
from agent_mail_server.examples import EXAMPLES, Example
from agent_mail_server.operations import BY_NAME, OPERATIONS, Operation
from agent_mail_server.reference import error_rows, grouped
from tests.wire.server import Place, client_of, fleet_with_worker


class Page(HTMLParser):
    """What a page holds and loads."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.inline: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        for name, value in attributes:
            if name == "id":
                self.ids.append(value or "")
            if name in ("href", "src", "action"):
                self.links.append(value or "")
            if name == "style" or name.startswith("on"):
                self.inline.append(f"{tag} {name}")
        if tag == "style" or (tag == "script" and not dict(attributes).get("src")):
            self.inline.append(tag)


@pytest.fixture
async def client(place: Place) -> AsyncIterator[httpx.AsyncClient]:
    async with fleet_with_worker(place) as servers, client_of(servers) as talking:
        yield talking


def test_every_operation_has_an_example() -> None:
    assert {example.operation for example in EXAMPLES} == {operation.name for operation in OPERATIONS}


async def test_every_example_works_in_order(client: httpx.AsyncClient) -> None:
    answers: dict[str, httpx.Response] = {}
    for example in EXAMPLES:
        asked = example.after(answers[example.taken_from].json()) if example.taken_from else example
        method, path, body = asked.request()
        response = answers[example.operation] = await client.request(method, path, json=body)
        assert response.status_code == BY_NAME[example.operation].status, (example, response.text)
        if example.operation == "wait_for_messages":
            assert response.json()["timed_out"] is False


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.operation)
def test_the_shell_command_is_the_example(example: Example) -> None:
    words = shlex.split(example.curl("http://host", with_token=True))
    method, path, body = example.request()
    assert words[:3] == ["curl", "-sS", f"http://host{path}"]
    assert ("-d" in words) == (method == "POST")
    if body is not None:
        assert json.loads(words[words.index("-d") + 1]) == body
    assert ("Authorization: Bearer $HTTP_BEARER_TOKEN" in words) != BY_NAME[example.operation].is_public


def test_every_operation_stands_under_a_heading_of_its_own_kind() -> None:
    headings = {heading: [operation.name for operation in operations] for heading, operations in grouped().items()}
    assert headings["Server"] == ["health", "ready", "metrics"]
    assert "reserve_file" in headings["File reservations"]
    assert max(map(len, headings.values())) <= 12
    with pytest.raises(KeyError):
        grouped([Operation(BY_NAME["health"].use_case, ("GET /api/unheard-of/list",), Role.reader)])


async def test_what_is_no_tool_is_marked(client: httpx.AsyncClient) -> None:
    page = (await client.get("/docs")).text
    articles = list(re.finditer(r'<article id="(\w+)".*?</article>', page, re.DOTALL))
    assert len(articles) == len(OPERATIONS)
    assert {article[1] for article in articles if "REST only" in article[0]} == {
        operation.name for operation in OPERATIONS if not operation.is_tool
    }


async def test_it_shows_every_operation_argument_and_error(client: httpx.AsyncClient) -> None:
    response = await client.get("/docs")
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    page = Page(response.text)
    assert len(page.ids) == len(set(page.ids))
    for operation in OPERATIONS:
        assert operation.name in page.ids
        for field in operation.request_type.model_fields:
            assert f"<code>{field}</code>" in response.text
    for row in error_rows():
        assert f"<code>{row.code}</code>" in response.text


async def test_it_loads_only_from_this_server_and_runs_nothing_inline(client: httpx.AsyncClient) -> None:
    page = Page((await client.get("/docs")).text)
    assert page.inline == []
    for link in page.links:
        if link.startswith("#"):
            assert link[1:] in page.ids
        else:
            assert link.startswith("/"), link
            assert (await client.get(link)).status_code == 200, link
    for asset in ("/docs/docs.css", "/docs/docs.js"):
        text = (await client.get(asset)).text
        assert not re.search(r"https?://|@import|url\(", text)


def test_an_address_is_quoted_for_html_and_shell() -> None:
    html = docs_html("<b>", Settings(host="<script>alert(1)</script>"))
    assert "<script>alert" not in html
    assert "&lt;b&gt;" in html


def test_examples_name_the_token_when_one_is_needed() -> None:
    locked = Settings(auth_mode="bearer", http_bearer_token=SecretStr("a-token-of-some-length"), host="::", port=9000)
    html = docs_html("1", locked)
    assert "Bearer $HTTP_BEARER_TOKEN" in html
    assert "a-token-of-some-length" not in html
    assert "http://[::1]:9000/api/project/ensure" in html
