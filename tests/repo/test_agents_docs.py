"""What agents are told to do exists: the commands and files of AGENTS.md, the tools of the text for users."""

import re

import pytest

from agent_mail_server.operations import BY_NAME
from tests.repo.sources import ROOT

AGENTS = (ROOT / "AGENTS.md").read_text(encoding="utf-8")
SNIPPET = (ROOT / "docs" / "agents-snippet.md").read_text(encoding="utf-8")
CALLS = re.findall(r"`(\w+)\(([\w, ]*)\)`", SNIPPET)


def test_the_commands_are_targets_of_make() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = {
        word
        for words in re.findall(r"\bmake ((?:[a-z-]+ ?)+)", AGENTS)
        for word in words.split()
        if words.startswith(("test", "fix", "run"))
    }
    assert len(named) >= 5
    assert named <= targets


def test_the_files_exist() -> None:
    paths = re.findall(r"`((?:libs|services|tests|tools|\.ci)/[\w/.]+)`|python (tools/\w+\.py)|(\.ci/run)", AGENTS)
    named = [path for found in paths for path in found if path]
    assert len(named) >= 4
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_the_snippet_says_all_that_agents_do() -> None:
    assert [tool for tool, _ in CALLS] == [
        "start_session",
        "get_message",
        "mark_read",
        "acknowledge_message",
        "reserve_file",
        "renew_file",
        "wait_for_messages",
        "send_message",
        "reply_message",
        "list_agents",
        "hand_off",
        "release_file",
    ]


@pytest.mark.parametrize("tool, arguments", CALLS, ids=[tool for tool, _ in CALLS])
def test_a_call_of_the_snippet_is_one_that_there_is(tool: str, arguments: str) -> None:
    """Its arguments exist, and all that must be given are there."""
    fields = BY_NAME[tool].request_type.model_fields
    given = set(arguments.split(", "))
    assert given <= fields.keys()
    assert {name for name, field in fields.items() if field.is_required()} <= given


def test_the_snippet_is_short_enough_to_paste() -> None:
    assert len(SNIPPET) < 4000
