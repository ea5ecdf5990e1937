"""May this agent write to that one: the rule of SPEC 3.3.4, over every combination of what it looks at.

`by_the_letter` says the rule again, in the order of the specification's sentences, and `TABLE` writes the interesting
cases down by hand.
"""

from itertools import product
from typing import get_args

import pytest

from agent_mail_core.admission import Acquaintance, Meeting, Tie, Verdict, admit, is_closed, needs_facts, tie, welcomes
from agent_mail_core.fields import ContactPolicy

POLICIES: tuple[ContactPolicy, ...] = get_args(ContactPolicy)
TIES: tuple[Tie | None, ...] = (None, *get_args(Tie))
BOTH = (False, True)


def by_the_letter(meeting: Meeting, known: Acquaintance) -> Verdict:
    """The rule as the specification has it: each line overrules those above it."""
    verdict: Verdict = "contact_required" if known.tie != "rejected" else "contact_rejected"
    if meeting.policy == "open":
        verdict = "admitted"
    if meeting.policy == "auto" and (meeting.is_same_project or known.is_same_product):
        verdict = "admitted"
    if known.tie == "accepted" or known.tie == "asked_by_recipient":
        verdict = "admitted"
    if meeting.policy == "block_all":
        verdict = "contact_refused"
    if known.is_answer:
        verdict = "admitted"
    if known.is_blocked:
        verdict = "contact_refused"
    if meeting.is_same_agent:
        verdict = "admitted"
    if meeting.is_from_service:
        verdict = "admitted"
    return verdict


def every_meeting() -> list[Meeting]:
    return [Meeting(*values) for values in product(POLICIES, BOTH, BOTH, BOTH, BOTH)]


def every_acquaintance() -> list[Acquaintance]:
    return [Acquaintance(*values) for values in product(BOTH, TIES, BOTH, BOTH)]


@pytest.mark.parametrize("policy", POLICIES)
def test_every_combination_is_decided_as_the_specification_says(policy: ContactPolicy) -> None:
    meetings = [meeting for meeting in every_meeting() if meeting.policy == policy]
    cases = list(product(meetings, every_acquaintance()))
    assert len(cases) == 16 * 32
    wrong = [(m, a, admit(m, a)) for m, a in cases if admit(m, a) != by_the_letter(m, a)]
    assert wrong == []


HERE, AWAY = True, False
TABLE: list[tuple[str, ContactPolicy, bool, Acquaintance, Verdict]] = [
    ("open takes anybody", "open", AWAY, Acquaintance(), "admitted"),
    ("open, but blocked", "open", AWAY, Acquaintance(is_blocked=True), "contact_refused"),
    ("open, though it turned a request down", "open", AWAY, Acquaintance(tie="rejected"), "admitted"),
    ("auto takes its project", "auto", HERE, Acquaintance(), "admitted"),
    ("auto takes its product", "auto", AWAY, Acquaintance(is_same_product=True), "admitted"),
    ("auto wants others to ask", "auto", AWAY, Acquaintance(), "contact_required"),
    ("auto and turned down", "auto", AWAY, Acquaintance(tie="rejected"), "contact_rejected"),
    ("auto and a contact", "auto", AWAY, Acquaintance(tie="accepted"), "admitted"),
    ("auto asked the sender itself", "auto", AWAY, Acquaintance(tie="asked_by_recipient"), "admitted"),
    ("auto wrote in this thread", "auto", AWAY, Acquaintance(is_answer=True), "admitted"),
    ("auto, of its project, but blocked", "auto", HERE, Acquaintance(is_blocked=True), "contact_refused"),
    ("contacts_only in its project", "contacts_only", HERE, Acquaintance(), "contact_required"),
    ("contacts_only in its product", "contacts_only", AWAY, Acquaintance(is_same_product=True), "contact_required"),
    ("contacts_only and a contact", "contacts_only", AWAY, Acquaintance(tie="accepted"), "admitted"),
    ("contacts_only, a contact, but blocked", "contacts_only", AWAY, Acquaintance(True, "accepted"), "contact_refused"),
    ("contacts_only wrote in this thread", "contacts_only", HERE, Acquaintance(is_answer=True), "admitted"),
    ("block_all in its project", "block_all", HERE, Acquaintance(), "contact_refused"),
    ("block_all and a contact", "block_all", HERE, Acquaintance(tie="accepted"), "contact_refused"),
    ("block_all wrote in this thread", "block_all", AWAY, Acquaintance(is_answer=True), "admitted"),
    ("wrote in this thread, then blocked", "open", HERE, Acquaintance(True, None, True, True), "contact_refused"),
]


@pytest.mark.parametrize("name, policy, is_same_project, known, verdict", TABLE, ids=[row[0] for row in TABLE])
def test_a_case_written_by_hand(
    name: str, policy: ContactPolicy, is_same_project: bool, known: Acquaintance, verdict: Verdict
) -> None:
    assert admit(Meeting(policy, is_same_project), known) == verdict


@pytest.mark.parametrize("policy", POLICIES)
def test_overseer_system_and_oneself_pass_everything(policy: ContactPolicy) -> None:
    worst = Acquaintance(is_blocked=True, tie="rejected")
    assert admit(Meeting(policy, AWAY, is_from_service=True), worst) == "admitted"
    assert admit(Meeting(policy, HERE, is_same_agent=True), worst) == "admitted"


def test_facts_are_only_asked_for_where_they_can_matter() -> None:
    """Where none are needed, the verdict is the same whatever they would be; a block needs the mark of a blocker."""
    possible = [known for known in every_acquaintance() if not known.is_blocked]
    for meeting in every_meeting():
        of_it = every_acquaintance() if meeting.has_blocks else possible
        verdicts = {admit(meeting, known) for known in of_it}
        if not needs_facts(meeting):
            assert verdicts == {admit(meeting)}, meeting
        else:
            assert len(verdicts) > 1, meeting


def test_mail_within_a_project_of_open_agents_needs_no_facts() -> None:
    assert not needs_facts(Meeting("auto", HERE))
    assert not needs_facts(Meeting("open", AWAY))
    assert needs_facts(Meeting("auto", AWAY))
    assert needs_facts(Meeting("auto", HERE, has_blocks=True))


@pytest.mark.parametrize(
    "asked_recipient, asked_sender, expected",
    [
        (None, None, None),
        ("pending", None, None),
        ("accepted", None, "accepted"),
        ("rejected", None, "rejected"),
        (None, "pending", "asked_by_recipient"),
        (None, "accepted", "accepted"),
        (None, "rejected", None),
        ("rejected", "accepted", "accepted"),
        ("rejected", "pending", "asked_by_recipient"),
        ("rejected", "rejected", "rejected"),
        ("pending", "rejected", None),
        ("accepted", "rejected", "accepted"),
        ("pending", "pending", "asked_by_recipient"),
    ],
)
def test_the_strongest_of_both_requests_binds(
    asked_recipient: str | None, asked_sender: str | None, expected: Tie | None
) -> None:
    assert tie(asked_recipient, asked_sender) == expected


@pytest.mark.parametrize("policy", POLICIES)
def test_only_a_block_and_block_all_refuse_requests(policy: ContactPolicy) -> None:
    assert is_closed(policy, Acquaintance()) == (policy == "block_all")
    assert is_closed(policy, Acquaintance(tie="accepted")) == (policy == "block_all")
    assert not is_closed(policy, Acquaintance(tie="asked_by_recipient"))
    assert is_closed(policy, Acquaintance(is_blocked=True, tie="asked_by_recipient"))


def test_who_is_welcome_at_once() -> None:
    welcome = {(policy, *near) for policy in POLICIES for near in product(BOTH, BOTH) if welcomes(policy, *near)}
    near = {("auto", True, False), ("auto", False, True), ("auto", True, True)}
    assert welcome == {("open", *both) for both in product(BOTH, BOTH)} | near
