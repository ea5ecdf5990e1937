"""Who may write to whom: the one rule behind every send, reply, broadcast, hand-off and request (SPEC §3.3 rule 4).

The rule is pure. Most mail stays in a project whose agents are open to each other, and is admitted on what is known of
the two agents alone (`needs_facts`); for the rest the store reads an `Acquaintance` in the delivering transaction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from agent_mail_core.fields import ContactPolicy
from agent_mail_core.ids import AgentId, ProjectId

Verdict = Literal["admitted", "contact_required", "contact_rejected", "contact_refused"]
"""What a sender is told about a recipient.

`contact_required`: as a contact it could write, and asking may make it one. `contact_rejected`: it asked, and was
turned down lately. `contact_refused`: asking would not help. Whether that is a block or the policy is not said.
"""

Tie = Literal["accepted", "asked_by_recipient", "rejected"]
"""What binds two agents, the strongest first; asking oneself in vain so far binds nothing."""


@dataclass(frozen=True, slots=True)
class Acquaintance:
    """What the database says about a sender and a recipient beyond their own rows; by default, nothing."""

    is_blocked: bool = False
    """The recipient blocked the sender."""
    tie: Tie | None = None
    """Of live requests only."""
    is_same_product: bool = False
    """A product holds the projects of both."""
    is_answer: bool = False
    """The recipient wrote to the sender in this thread before."""


STRANGERS = Acquaintance()


class Pair(NamedTuple):
    """A sender and a recipient, and the thread that is written in: its project and its key; None for a new one."""

    sender_id: AgentId
    recipient_id: AgentId
    thread: tuple[ProjectId, str] | None = None


@dataclass(frozen=True, slots=True)
class Meeting:
    """A sender before a recipient, as far as their own rows tell."""

    policy: ContactPolicy
    """The recipient's."""
    is_same_project: bool
    is_same_agent: bool = False
    is_from_service: bool = False
    """Overseer or System writes."""
    has_blocks: bool = False
    """The recipient blocked somebody; whom, the Acquaintance tells."""


def needs_facts(meeting: Meeting) -> bool:
    """Whether an Acquaintance could change the verdict: False for nearly all mail, which then costs no query."""
    if meeting.is_same_agent or meeting.is_from_service:
        return False
    return meeting.has_blocks or not welcomes(meeting.policy, meeting.is_same_project, False)


def admit(meeting: Meeting, known: Acquaintance = STRANGERS) -> Verdict:
    """May this sender write to this recipient?"""
    if meeting.is_same_agent or meeting.is_from_service:
        return "admitted"
    if known.is_blocked:
        return "contact_refused"
    if known.is_answer:
        return "admitted"
    if meeting.policy == "block_all":
        return "contact_refused"
    if known.tie in ("accepted", "asked_by_recipient"):
        return "admitted"
    if welcomes(meeting.policy, meeting.is_same_project, known.is_same_product):
        return "admitted"
    return "contact_rejected" if known.tie == "rejected" else "contact_required"


def tie(asked_recipient: str | None, asked_sender: str | None) -> Tie | None:
    """What binds two agents, from the states of the sender's live request to the recipient, and of the reverse one."""
    if "accepted" in (asked_recipient, asked_sender):
        return "accepted"
    if asked_sender == "pending":
        return "asked_by_recipient"
    return "rejected" if asked_recipient == "rejected" else None


def is_closed(policy: ContactPolicy, known: Acquaintance) -> bool:
    """Whether an agent of that policy does not even take requests from this one; what it asked may be answered."""
    return known.is_blocked or (policy == "block_all" and known.tie != "asked_by_recipient")


def welcomes(policy: ContactPolicy, is_same_project: bool, is_same_product: bool) -> bool:
    """Whether an agent of that policy takes mail, and requests, from one that it has nothing to do with yet."""
    return policy == "open" or (policy == "auto" and (is_same_project or is_same_product))
