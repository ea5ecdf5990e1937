"""What the README tells a newcomer to paste works as it stands, word for word."""

import json
import re
import shlex
import tomllib
from urllib.parse import urlsplit

import httpx

from tests.e2e.serving import ROOT, serving

README = (ROOT / "README.md").read_text(encoding="utf-8")
ADDRESS = "http://127.0.0.1:8765"


def blocks(language: str) -> list[str]:
    """The README's code blocks in a language."""
    found: list[str] = re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    return found


def curl_commands() -> list[list[str]]:
    """The words of every curl command, as a shell splits them."""
    lines = [line for block in blocks("bash") for line in block.splitlines() if line.startswith("curl ")]
    return [shlex.split(line) for line in lines]


def replay(client: httpx.Client, words: list[str]) -> httpx.Response:
    """What `curl -sw '\\n' URL [--json BODY]` does; any other option fails here."""
    arguments = iter(words[1:])
    url, body = "", None
    for word in arguments:
        if word == "--json":
            body = next(arguments)
        elif word == "-sw":
            assert next(arguments) == r"\n"
        else:
            assert word.startswith(ADDRESS), word
            url = word.removeprefix(ADDRESS)
    if body is None:
        return client.get(url)
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    return client.post(url, content=body, headers=headers)


def test_the_exchange_of_one_message_works(fresh_sqlite: str) -> None:
    commands = curl_commands()
    with serving(fresh_sqlite) as server, httpx.Client(base_url=server.url) as client:
        for _ in range(2):  # a newcomer may paste it twice
            answers = [replay(client, words) for words in commands]
            assert [answer.text for answer in answers if answer.is_error] == []
    inbox = answers[-1].json()
    assert [(message["sender_name"], message["subject"]) for message in inbox["messages"]] == [("Ada", "Checkout")] * 2
    assert "src/checkout.py" in inbox["messages"][0]["body_md"]


def test_the_pages_that_it_names_are_served(fresh_sqlite: str) -> None:
    with serving(fresh_sqlite) as server, httpx.Client(base_url=server.url) as client:
        assert client.get("/docs").status_code == 200
        assert client.get("/openapi.json").json()["openapi"].startswith("3.1")


def test_the_configurations_of_clients_are_well_formed_and_name_the_endpoint() -> None:
    urls = [json.loads(block)["mcpServers"]["agent-mail"]["url"] for block in blocks("json")]
    urls += [tomllib.loads(block)["mcp_servers"]["agent-mail"]["url"] for block in blocks("toml")]
    assert urls == [f"{ADDRESS}/mcp"] * 2
    assert f"claude mcp add --transport http agent-mail {ADDRESS}/mcp" in README
    assert urlsplit(ADDRESS).port == 8765
