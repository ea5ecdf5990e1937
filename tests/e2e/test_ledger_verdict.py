"""The ledger's verdict: each way to break a promise is counted under its own name, and nothing else is."""

from loadtests.verdict import Box, Entry, Seen, Verdict, judge


def entry(counter: int, message_id: int | None, *recipients: str) -> Entry:
    key = f"Writer {counter}"
    return Entry("Writer", counter, key, f"body {counter}", recipients or ("Reader",), message_id)


def seen(counter: int, message_id: int) -> Seen:
    return Seen(message_id, f"Writer {counter}", f"body {counter}")


THREE = [seen(1, 11), seen(2, 12), seen(3, 13)]


def verdict(
    stored: list[Seen],
    followed: list[Seen] | None = None,
    entries: list[Entry] | None = None,
    unread: int | None = None,
    backward: list[int] | None = None,
    other: list[Seen] | None = None,
) -> dict[str, int]:
    """What is found beside zeros, when Writer has sent three messages to Reader."""
    sent = entries or [entry(1, 11), entry(2, 12), entry(3, 13)]
    inboxes = {"Reader": Box(stored, unread, backward), "Other": Box(other or [])}
    found = judge(sent, inboxes, {}, {"Reader": stored if followed is None else followed, "Other": other or []})
    assert found.is_clean == (not any(found.counts().values()))
    return {name: count for name, count in found.counts().items() if count}


def test_all_in_order_is_clean() -> None:
    assert verdict(THREE, unread=3, backward=[11, 12, 13]) == {}


def test_an_acknowledged_message_that_is_absent_is_lost() -> None:
    assert verdict([THREE[0], THREE[2]]) == {"lost": 1}


def test_a_message_that_one_of_two_recipients_lacks_is_lost_if_acknowledged_and_else_partial() -> None:
    both = ("Reader", "Other")
    sent = [entry(1, 11, *both), entry(2, 12), entry(3, 13)]
    assert verdict(THREE, entries=sent) == {"lost": 1}
    sent[0].message_id = None
    assert verdict(THREE, entries=sent) == {"partial": 1, "unsettled": 1}
    assert verdict(THREE, entries=sent, other=[THREE[0]]) == {"unsettled": 1}


def test_a_key_stored_twice_is_duplicated() -> None:
    twice = verdict([*THREE, seen(3, 14)])
    assert twice.pop("duplicated") >= 1
    assert twice == {}
    assert verdict([*THREE, seen(3, 13)], followed=THREE)["duplicated"] == 1


def test_a_key_under_one_id_here_and_another_there_is_duplicated() -> None:
    sent = [entry(1, 11, "Reader", "Other"), entry(2, 12), entry(3, 13)]
    assert verdict(THREE, entries=sent, other=[seen(1, 21)]) == {"duplicated": 1}


def test_a_later_message_in_front_of_an_earlier_one_is_reordered() -> None:
    assert verdict([THREE[1], THREE[0], THREE[2]]) == {"reordered": 1}


def test_other_words_or_another_inbox_are_foreign() -> None:
    assert verdict([*THREE[:2], Seen(13, "Writer 3", "other words")]) == {"foreign": 1}
    assert verdict(THREE, other=[THREE[0]]) == {"foreign": 1}


def test_another_id_than_the_acknowledged_one_is_renumbered() -> None:
    assert verdict([*THREE[:2], seen(3, 14)]) == {"renumbered": 1}


def test_what_a_follower_missed_saw_again_or_saw_elsewhere_is_told_apart() -> None:
    assert verdict(THREE, followed=THREE[:2]) == {"skipped": 1}
    assert verdict(THREE, followed=[*THREE, THREE[1]]) == {"repeated": 1}
    assert verdict(THREE, followed=[THREE[1], THREE[0], THREE[2]]) == {"disordered": 2}
    assert verdict(THREE[:2], followed=THREE) == {"lost": 2}, "from the writer's view, and from the follower's"


def test_a_wrong_count_and_another_order_backward_are_found() -> None:
    assert verdict(THREE, unread=2) == {"miscounted": 1}
    assert verdict(THREE, backward=[11, 13, 12]) == {"inconsistent": 1}


def test_a_refusal_is_no_lack_of_patience() -> None:
    refused = entry(4, None)
    refused.refusal = "409 idempotency_conflict"
    assert verdict(THREE, entries=[entry(1, 11), entry(2, 12), entry(3, 13), refused]) == {"refused": 1}


def test_what_a_sender_sent_is_in_its_outbox() -> None:
    found = judge(
        [entry(1, 11), entry(2, 12)], {"Reader": Box(THREE[:2])}, {"Writer": Box(THREE[:1])}, {"Reader": THREE[:2]}
    )
    assert found.counts()["lost"] == 1


def test_verdicts_add_up() -> None:
    one, two = Verdict(lost=1, samples=["lost: a"]), Verdict(lost=2, repeated=3)
    assert (one + two).counts()["lost"] == 3
    assert (one + two).counts()["repeated"] == 3
    assert (one + two).samples == ["lost: a"]
