"""Every error says what to do next (SPEC §4), and what it names is there to be called."""

import importlib
import pkgutil
import re
from pathlib import Path

import pytest

import agent_mail_core
from agent_mail_core.error_suggestions import SUGGESTIONS
from agent_mail_core.errors import AgentMailError
from agent_mail_server.operations import BY_NAME


def error_classes() -> list[type[AgentMailError]]:
    """All of the tree, wherever in the core they are defined."""
    for module in pkgutil.iter_modules(agent_mail_core.__path__, "agent_mail_core."):
        importlib.import_module(module.name)
    found, waiting = [AgentMailError], [AgentMailError]
    while waiting:
        children = waiting.pop().__subclasses__()
        found += children
        waiting += children
    return found


CLASSES = error_classes()
TREE = Path(agent_mail_core.__path__[0]).parents[1]
RAISED = {
    suggestion
    for folder in ("libs", "services")
    for source in (TREE / folder).rglob("*.py")
    for suggestion in re.findall(r"suggestion=\"([^\"]+)\"", source.read_text(encoding="utf-8"))
}
"""What those say who raise an error and know better."""

FIELDS = {field for operation in BY_NAME.values() for field in operation.request_type.model_fields}


def test_every_code_has_its_suggestion_and_there_are_no_others() -> None:
    assert {error.code for error in CLASSES} == SUGGESTIONS.keys()
    assert len(CLASSES) > 60


@pytest.mark.parametrize("suggestion", sorted({*SUGGESTIONS.values(), *RAISED}))
def test_what_a_suggestion_names_is_there(suggestion: str) -> None:
    for word in re.findall(r"\b[a-z]+(?:_[a-z]+)+\b", suggestion):
        assert word in BY_NAME or word in FIELDS, word


def test_suggestions_of_those_who_know_better_are_found() -> None:
    assert {"get_review", "reply_message without reply_all and recipient_names"} <= RAISED


def test_who_raises_an_error_may_know_better() -> None:
    for error in CLASSES:
        assert error().data["suggestion"] == SUGGESTIONS[error.code]
        assert error(suggestion="check_inbox").data["suggestion"] == "check_inbox"
