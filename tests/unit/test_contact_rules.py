"""What asking and answering make of the requests that two agents have: every combination, written down by hand."""

from datetime import UTC, datetime, timedelta

import pytest

from agent_mail_core.contacts import ContactRecord, ContactRequest, NewContact, RequestStatus, answered, asked, standing
from agent_mail_core.ids import AgentId, ContactId, TeamId

ANN, BOB = AgentId(1), AgentId(2)
THEN = datetime(2026, 11, 1, tzinfo=UTC)
NOW = datetime(2026, 11, 22, tzinfo=UTC)
HOUR = timedelta(hours=1)


def wish(is_welcome: bool = False, ttl: timedelta | None = None) -> NewContact:
    """Ann asks Bob."""
    return NewContact(TeamId(1), ANN, BOB, is_welcome, reason="Now", ttl=ttl)


def request(of: str, status: RequestStatus | None, ttl: timedelta | None = None) -> ContactRecord | None:
    """A live request of Ann to Bob, or of Bob to Ann."""
    if status is None:
        return None
    asker, contact = (ANN, BOB) if of == "Ann" else (BOB, ANN)
    expires_at = None if status == "accepted" else THEN + timedelta(days=30)
    return ContactRecord(
        ContactId(7), ContactRequest(asker, contact, status, "Then", ttl, THEN, None, expires_at), is_changed=False
    )


@pytest.mark.parametrize(
    "own, other, unwelcome, welcome",
    [
        (None, None, "Ann pending", "Ann accepted"),
        ("pending", None, None, "Ann accepted"),
        ("accepted", None, None, None),
        ("rejected", None, None, None),
        (None, "pending", "Bob accepted", "Bob accepted"),
        (None, "accepted", None, None),
        (None, "rejected", "Ann pending", "Ann accepted"),
        ("rejected", "pending", "Bob accepted", "Bob accepted"),
        ("rejected", "accepted", None, None),
        ("rejected", "rejected", None, None),
        ("accepted", "pending", None, None),
        ("accepted", "rejected", None, None),
        ("pending", "rejected", None, "Ann accepted"),
        ("pending", "accepted", None, None),
    ],
)
def test_asking(
    own: RequestStatus | None, other: RequestStatus | None, unwelcome: str | None, welcome: str | None
) -> None:
    for is_welcome, expected in ((False, unwelcome), (True, welcome)):
        stored = asked(wish(is_welcome), request("Ann", own), request("Bob", other), NOW)
        found = f"{'Ann' if stored.agent_id == ANN else 'Bob'} {stored.status}" if stored is not None else None
        assert found == expected


def test_a_new_request_waits_thirty_days_and_keeps_its_time_for_when_it_is_accepted() -> None:
    made = asked(wish(ttl=HOUR), None, None, NOW)
    assert made == ContactRequest(ANN, BOB, "pending", "Now", HOUR, NOW, None, NOW + timedelta(days=30))
    accepted = answered(made, True, NOW + HOUR)
    assert accepted is not None
    assert (accepted.decided_at, accepted.expires_at) == (NOW + HOUR, NOW + HOUR + HOUR)


@pytest.mark.parametrize(
    "one, two, shorter", [(None, None, None), (HOUR, None, HOUR), (None, HOUR, HOUR), (2 * HOUR, HOUR, HOUR)]
)
def test_the_shorter_time_counts_when_both_asked(
    one: timedelta | None, two: timedelta | None, shorter: timedelta | None
) -> None:
    stored = asked(wish(ttl=one), None, request("Bob", "pending", two), NOW)
    assert stored is not None
    assert (stored.ttl, stored.reason, stored.requested_at) == (shorter, "Then", THEN)
    assert stored.expires_at == (NOW + shorter if shorter else None)


@pytest.mark.parametrize(
    "before, accept, after",
    [
        ("pending", True, "accepted"),
        ("pending", False, "rejected"),
        ("accepted", True, None),
        ("accepted", False, "rejected"),
        ("rejected", True, "accepted"),
        ("rejected", False, None),
    ],
)
def test_answering(before: RequestStatus, accept: bool, after: RequestStatus | None) -> None:
    found = request("Ann", before)
    assert found is not None
    stored = answered(found.request, accept, NOW)
    assert (stored.status if stored is not None else None) == after
    if stored is not None:
        assert stored.decided_at == NOW
        assert stored.expires_at == (NOW + timedelta(hours=24) if after == "rejected" else None)


@pytest.mark.parametrize(
    "own, other, chosen",
    [
        (None, None, None),
        ("pending", None, "Ann"),
        (None, "pending", "Bob"),
        ("rejected", "accepted", "Bob"),
        ("accepted", "rejected", "Ann"),
        ("rejected", "pending", "Ann"),
    ],
)
def test_the_request_that_counts(own: RequestStatus | None, other: RequestStatus | None, chosen: str | None) -> None:
    found = standing(request("Ann", own), request("Bob", other))
    assert (None if found is None else "Ann" if found.request.agent_id == ANN else "Bob") == chosen
