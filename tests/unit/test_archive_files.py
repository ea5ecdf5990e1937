from __future__ import annotations

import json
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from agent_mail_core import front_matter
from agent_mail_core.archive import ArchiveBatch, ArchivedAttachment, ArchivedMessage, Correspondent
from agent_mail_core.archive_commits import commit_text, event_count, read_tip
from agent_mail_core.archive_files import LINES_A_PART, ArchiveTree, message_content, write_batch
from agent_mail_core.archive_names import agent_folder, message_name, safe, second_of_message_name, thread_path
from agent_mail_core.events import EventEntry, EventPosition
from agent_mail_core.ids import AgentId, AttachmentId, MessageId, ProjectId, TeamId

HOME = ProjectId(7)
NOON = datetime(2026, 11, 22, 12, 0, 0, 250_000, tzinfo=UTC)
MESSAGE_NAME = "2026-11-22T12-00-00Z__hello__1.md"


class Files(dict[str, bytes | str], ArchiveTree):
    """A tree in memory; links are texts."""

    def read(self, path: str) -> bytes | None:
        found = self.get(path)
        return found.encode() if isinstance(found, str) else found

    def write(self, path: str, content: bytes) -> None:
        self[path] = content

    def link(self, path: str, target: str) -> None:
        self[path] = target

    def json(self, path: str) -> dict[str, object]:
        content = self[path]
        assert isinstance(content, bytes)
        found: dict[str, object] = json.loads(content)
        return found


ANN = Correspondent(AgentId(1), "Ann", HOME, "office")
BOB = Correspondent(AgentId(2), "Bob", HOME, "office", "to")


def a_message(number: int = 1, **more: object) -> ArchivedMessage:
    fields: dict[str, object] = {
        "id": MessageId(number),
        "thread_id": 3,
        "thread_key": "FEAT-1",
        "thread_subject": "Hello",
        "thread_began_at": NOON,
        "parent_id": None,
        "sender": ANN,
        "recipients": (BOB,),
        "subject": "Hello",
        "body_md": "How are you?",
        "priority": "normal",
        "ack_required": False,
        "created_at": NOON,
        "attachments": (),
    }
    return ArchivedMessage(**{**fields, **more})  # type: ignore[arg-type] # fields of a message


def an_event(
    number: int,
    kind: str,
    agent: str | None = "Ann",
    message: int | None = None,
    data: dict[str, object] | None = None,
) -> EventEntry:
    return EventEntry(
        EventPosition(0, number),
        kind,
        TeamId(1),
        HOME,
        "office",
        AgentId(1) if agent is not None else None,
        agent,
        MessageId(message) if message is not None else None,
        data or {},
        NOON + timedelta(seconds=number),
        HOME if agent is not None else None,
        "office" if agent is not None else None,
        False,
    )


def of_a_stranger(event: EventEntry) -> EventEntry:
    """The same, done by the agent of that name in the project shop."""
    return replace(event, agent_id=AgentId(9), agent_project_id=ProjectId(8), agent_project_slug="shop")


def a_batch(*events: EventEntry, messages: tuple[ArchivedMessage, ...] = ()) -> ArchiveBatch:
    return ArchiveBatch(HOME, "office", "epoch", events, {message.id: message for message in messages}, {})


def files_of(*events: EventEntry, messages: tuple[ArchivedMessage, ...] = ()) -> Files:
    files = Files()
    write_batch(files, a_batch(*events, messages=messages))
    return files


# --- messages ---------------------------------------------------------------------------------------------------------


def test_a_message_is_a_file_with_links_from_both_mailboxes() -> None:
    files = files_of(an_event(1, "message.sent", message=1), messages=(a_message(),))
    path = f"messages/2026/11/{MESSAGE_NAME}"
    assert files[path] == (
        b'---\nmessage_id: 1\nthread_id: "FEAT-1"\nfrom: "Ann"\nto: ["Bob"]\nsubject: "Hello"\n'
        b'created_at: "2026-11-22T12:00:00.250000Z"\npriority: "normal"\nack_required: false\n---\nHow are you?\n'
    )
    assert files[f"agents/ann/outbox/2026/11/{MESSAGE_NAME}"] == f"../../../../../{path}"
    assert files[f"agents/bob/inbox/2026/11/{MESSAGE_NAME}"] == f"../../../../../{path}"


def test_attachments_are_stored_by_their_digest_and_named_in_the_message() -> None:
    file = ArchivedAttachment(AttachmentId(1), "a1", "log.txt", "text/plain", 3, b"\xab" * 32)
    message = a_message(attachments=(file,))
    batch = a_batch(an_event(1, "message.sent", message=1), messages=(message,))
    files = Files()
    write_batch(files, ArchiveBatch(HOME, "office", "e", batch.events, batch.messages, {file.sha256: b"abc"}))
    path = f"attachments/ab/{'ab' * 32}"
    assert files[path] == b"abc"
    fields, _ = front_matter.parse(message_content(message, HOME).decode())
    assert fields["attachments"] == [
        {"file_name": "log.txt", "media_type": "text/plain", "size": 3, "path": path},
    ]


def test_agents_of_another_project_have_folders_of_their_own() -> None:
    stranger = Correspondent(AgentId(9), "Bob", ProjectId(8), "shop", "to")
    files = files_of(an_event(1, "message.sent", message=1), messages=(a_message(recipients=(BOB, stranger)),))
    assert f"agents/bob@shop-8/inbox/2026/11/{MESSAGE_NAME}" in files
    assert f"agents/bob/inbox/2026/11/{MESSAGE_NAME}" in files
    content = files[f"messages/2026/11/{MESSAGE_NAME}"]
    assert isinstance(content, bytes)
    assert b'to: ["Bob", "Bob@shop"]' in content


def test_a_message_that_retention_has_removed_leaves_its_event() -> None:
    files = files_of(an_event(1, "message.sent", message=1))
    assert list(files) == ["events/000/000.jsonl"]


def test_a_full_thread_goes_on_in_a_new_part_that_names_the_earlier_one() -> None:
    count = LINES_A_PART + 1
    files = files_of(
        *(an_event(number, "message.sent", message=number) for number in range(1, count + 1)),
        messages=tuple(a_message(number, subject="a](../../../messages/b") for number in range(1, count + 1)),
    )
    now, earlier = files["threads/2026/11/feat-1.md"], files["threads/2026/11/earlier/feat-1.md/000001.md"]
    assert isinstance(now, bytes)
    assert isinstance(earlier, bytes)
    assert (now.count(b"\n- "), earlier.count(b"\n- ")) == (1, LINES_A_PART)
    fields, _ = front_matter.parse(now.decode())
    assert fields["part"] == 2
    assert fields["earlier"] == "threads/2026/11/earlier/feat-1.md/000001.md"
    assert earlier.count(b"](../../../../../messages/2026/11/") == LINES_A_PART


# --- marks and states -------------------------------------------------------------------------------------------------


def test_the_first_time_that_a_message_was_read_stays() -> None:
    files = files_of(an_event(1, "message.read", "Bob", 5), an_event(2, "message.read", "Bob", 5))
    assert files.json("state/000/000/5__bob.read.json")["at"] == "2026-11-22T12:00:01.250000Z"


def test_a_profile_is_what_the_events_have_told() -> None:
    profile: dict[str, object] = {
        "name": "Ann",
        "program": "shell",
        "model": "m-1",
        "task_description": "Tests",
        "contact_policy": "auto",
    }
    path = "agents/ann/profile.json"
    files = files_of(an_event(1, "agent.registered", data={**profile, "retired": False}))
    assert files.json(path)["program"] == "shell"
    write_batch(files, a_batch(an_event(2, "agent.retired", data={"name": "Ann"})))
    assert files.json(path)["retired_at"] == "2026-11-22T12:00:02.250000Z"
    write_batch(files, a_batch(an_event(3, "agent.updated", data={**profile, "model": "m-2", "retired": True})))
    assert files.json(path)["model"] == "m-2"
    assert "retired_at" in files.json(path)
    write_batch(files, a_batch(an_event(4, "agent.updated", data={**profile, "retired": False})))
    assert "retired_at" not in files.json(path)
    assert files.json(path)["registered_at"] == "2026-11-22T12:00:01.250000Z"


def test_a_reservation_has_its_latest_state() -> None:
    data: dict[str, object] = {"reservation_id": 1234, "pattern": "src/**", "fence": 3}
    files = files_of(an_event(1, "reservation.granted", data=data), an_event(2, "reservation.released", data=data))
    record = files.json("reservations/000/001/1234.json")
    assert (record["state"], record["agent"], record["pattern"]) == ("released", "Ann", "src/**")
    assert (record["since"], record["at"]) == ("2026-11-22T12:00:01.250000Z", "2026-11-22T12:00:02.250000Z")


def test_a_block_says_nothing_but_that_there_was_one() -> None:
    assert list(files_of(an_event(1, "contact.blocked", None))) == ["events/000/000.jsonl"]


def test_a_project_knows_its_products_and_its_end() -> None:
    files = files_of(
        an_event(1, "project.created", None, data={"slug": "office"}),
        an_event(2, "product.linked", None, data={"product": "Suite"}),
        an_event(3, "product.linked", None, data={"product": "Beta"}),
        an_event(4, "product.unlinked", None, data={"product": "Suite"}),
        an_event(5, "project.deleted", None, data={"slug": "office"}),
    )
    project = files.json("project.json")
    assert (project["slug"], project["products"]) == ("office", ["Beta"])
    assert project["deleted_at"] == "2026-11-22T12:00:05.250000Z"


def test_how_events_are_cut_into_batches_does_not_matter() -> None:
    events = [an_event(number, "message.sent", message=number) for number in range(1, 2 * LINES_A_PART)]
    events += [an_event(1000 + number, "message.read", "Bob", number) for number in range(1, 50)]
    messages = tuple(a_message(number, subject=f"No. {number}") for number in range(1, 2 * LINES_A_PART))
    together = files_of(*events, messages=messages)
    apart = Files()
    random_cuts = random.Random(4)
    rest = events
    while rest:
        count = random_cuts.randint(1, 60)
        write_batch(apart, a_batch(*rest[:count], messages=messages))
        rest = rest[count:]
    assert apart == together


# --- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["con", "nul", "com1", "lpt9", "aux.notes", "prn"])
def test_names_of_devices_are_made_safe(name: str) -> None:
    assert safe(name) == f"_{name}"


def test_thread_files_of_two_keys_are_never_the_same() -> None:
    keys = ["a:b", "a_b", "A.md", "a", "con", "con:1", "earlier"]
    paths = {thread_path(key, number, NOON) for number, key in enumerate(keys)}
    assert len(paths) == len(keys)
    assert all(":" not in path for path in paths)


def test_an_agent_is_found_in_lower_case() -> None:
    assert agent_folder("BlueLake", HOME, "office", HOME) == "agents/bluelake"
    assert agent_folder("Nul", HOME, "office", HOME) == "agents/_nul"


@pytest.mark.parametrize(
    "subject, slug",
    [("Привет", "message"), ("../../etc/passwd", "etc-passwd"), ("x" * 200, "x" * 60), ("a" * 59 + " b", "a" * 59)],
)
def test_subjects_become_harmless_names(subject: str, slug: str) -> None:
    name = message_name(MessageId(1), subject, NOON)
    assert name == f"2026-11-22T12-00-00Z__{slug}__1.md"
    assert second_of_message_name(name) == NOON.replace(microsecond=0)


# --- front matter and commits -----------------------------------------------------------------------------------------

ANY_LINE = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"))


@given(ANY_LINE, st.lists(ANY_LINE))
def test_front_matter_is_yaml_whatever_stands_in_it(text: str, texts: list[str]) -> None:
    fields = {"subject": text, "to": texts, "count": 3, "is_it": True}
    dumped = front_matter.dump(fields)
    assert yaml.safe_load(dumped.removeprefix("---\n").removesuffix("---\n")) == fields
    assert front_matter.parse(dumped + "---\nbody") == (fields, "---\nbody")


def test_a_commit_of_one_agent_has_it_as_its_author() -> None:
    text = commit_text(a_batch(an_event(1, "message.sent", message=1), messages=(a_message(),)), 0, 0)
    assert (text.author, text.author_address) == ("Ann", "ann@office.invalid")
    assert text.message.splitlines()[0] == "Ann: Hello"


def test_a_commit_of_several_names_them_all() -> None:
    text = commit_text(a_batch(an_event(1, "message.read", "Ann", 1), an_event(2, "message.read", "Bob", 1)), 0, 10)
    assert text.author == "Agent Mail"
    assert "Co-authored-by: Bob <bob@office.invalid>" in text.message
    tip = read_tip("c", "t", text.message)
    assert tip is not None
    assert (tip.position, tip.archived_events, tip.epoch) == (EventPosition(0, 2), 12, "epoch")
    assert event_count(text.message) == 2


def test_times_of_commits_never_go_back() -> None:
    later = int(NOON.timestamp()) + 500
    assert commit_text(a_batch(an_event(1, "message.read", "Bob", 1)), later, 1).at == later


def test_what_agents_write_is_never_taken_for_a_trailer() -> None:
    name = "Agent-Mail-Count"
    message = a_message(subject="9 of 9", sender=Correspondent(AgentId(1), name, HOME, "office"))
    events = [an_event(1, "message.sent", name, 1), an_event(2, "message.read", name, 1)]
    for batch in (a_batch(events[0], messages=(message,)), a_batch(*events, messages=(message,))):
        text = commit_text(batch, 0, 0)
        assert event_count(text.message) == len(batch.events)
        tip = read_tip("c", "t", text.message)
        assert tip is not None
        assert tip.archived_events == len(batch.events)


# --- agents of other projects -----------------------------------------------------------------------------------------


def test_what_an_agent_of_another_project_does_is_said_of_nobody_here() -> None:
    read = an_event(2, "message.read", "Bob", message=1)
    asked = an_event(3, "contact.requested", "Bob", data={"contact_id": 5})
    files = files_of(of_a_stranger(read), of_a_stranger(asked))
    assert "state/000/000/1__bob.read.json" not in files
    assert json.loads(files["state/000/000/1__bob@shop-8.read.json"])["agent"] == "Bob@shop"
    assert json.loads(files["contacts/000/000/5.json"])["agent"] == "Bob@shop"
    listed = files.read("events/000/000.jsonl") or b""
    assert [json.loads(line)["agent"] for line in listed.splitlines()] == ["Bob@shop"] * 2


def test_a_commit_names_agents_of_other_projects_with_theirs() -> None:
    read = an_event(1, "message.read", "Bob", message=1)
    alone = commit_text(a_batch(of_a_stranger(read)), 0, 0)
    assert (alone.author, alone.author_address) == ("Bob@shop", "bob@shop.invalid")
    both = commit_text(a_batch(read, of_a_stranger(replace(read, position=EventPosition(0, 2)))), 0, 0)
    assert both.author == "Agent Mail"
    assert "- Bob: message read #1\n- Bob@shop: message read #1\n" in both.message
    assert "Co-authored-by: Bob <bob@office.invalid>\nCo-authored-by: Bob@shop <bob@shop.invalid>\n" in both.message


@pytest.mark.parametrize("hostile", ["\n", "\r\n", "\x85", "\u2028", "\u2029", "\u202e", "\u2066", "\x1b", "\x7f"])
def test_what_an_agent_writes_stays_one_line_of_a_commit(hostile: str) -> None:
    forged = f"x{hostile}{hostile}Co-authored-by: Ada <ada@office.invalid>"
    events = (an_event(1, "reservation.granted", data={"reservation_id": 1, "pattern": forged}), an_event(2, "x.y"))
    for batch in (a_batch(*events), a_batch(events[0])):
        text = commit_text(batch, 0, 0).message
        assert not any(line.startswith("Co-authored-by") for line in text.splitlines())
        assert len(text.splitlines()) == text.count("\n")
        assert f"\\u{ord(hostile[0]):04x}" in text
