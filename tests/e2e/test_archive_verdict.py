"""The verdict on archives: each way to spoil one is counted under its own name, and nothing else is."""

import json
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from loadtests.archive_mail import failures
from loadtests.archive_reading import read_archive
from loadtests.archive_verdict import Archived, judge_archive
from loadtests.disks import plain_disk
from loadtests.verdict import Entry

WHOLE = Archived(
    events=[1, 2, 3],
    added=[1, 2, 3],
    counts=[(2, 2), (1, 3)],
    subjects={11: "Writer 1", 12: "Writer 2"},
)
SENT = [Entry("Writer", number, f"Writer {number}", "", (), 10 + number) for number in (1, 2)]


def found(archived: Archived, stored: list[int] | None = None, sent: list[Entry] | None = None) -> dict[str, int]:
    """What is found beside zeros, when the database has three events, and two messages were sent."""
    verdict = judge_archive("shop", archived, stored or [1, 2, 3], SENT if sent is None else sent, [])
    assert verdict.is_clean == (not any(verdict.counts().values()))
    return {name: count for name, count in verdict.counts().items() if count}


def test_all_of_it_once_is_clean() -> None:
    assert found(WHOLE) == {}


def test_an_event_that_is_missing() -> None:
    assert found(WHOLE, stored=[1, 2, 3, 4]) == {"unarchived": 1}
    assert found(replace(WHOLE, events=[1, 3], added=[1, 3], counts=[(2, 2)])) == {"unarchived": 1}


def test_an_event_that_the_database_does_not_have() -> None:
    assert found(WHOLE, stored=[1, 2]) == {"invented": 1}


def test_an_event_that_is_there_twice() -> None:
    assert found(replace(WHOLE, events=[1, 2, 2, 3])) == {"repeated": 1}
    assert found(replace(WHOLE, added=[1, 2, 3, 2], counts=[(3, 3), (1, 4)])) == {"repeated": 1}


def test_an_event_that_a_later_commit_took_away_or_changed() -> None:
    assert found(replace(WHOLE, removed=[2])) == {"rewritten": 1}
    assert found(replace(WHOLE, events=[1, 3], removed=[2]), stored=[1, 3]) == {"rewritten": 1, "unaccounted": 1}


def test_commits_that_do_not_follow_each_other() -> None:
    assert found(replace(WHOLE, counts=[(2, 2), (1, 4)])) == {"miscounted": 1}
    assert found(replace(WHOLE, counts=[(2, 2)])) == {"miscounted": 1}


def test_a_message_that_was_acknowledged_and_is_not_archived() -> None:
    assert found(replace(WHOLE, subjects={11: "Writer 1"})) == {"lost": 1}
    assert found(replace(WHOLE, subjects={11: "Writer 1", 12: "Writer 1"})) == {"lost": 1}


def test_a_message_that_was_never_acknowledged() -> None:
    assert found(WHOLE, sent=[*SENT, Entry("Writer", 3, "Writer 3", "", ())]) == {"refused": 1}


def test_a_faulty_repository_and_differences_of_the_products_own_comparison() -> None:
    assert found(replace(WHOLE, faults="missing blob")) == {"broken": 1}
    assert judge_archive("shop", WHOLE, [1, 2, 3], SENT, ["a.md: missing"]).differing == 1


def test_only_answers_that_say_to_come_again_are_no_failures() -> None:
    unclear = {"503 overloaded": 3, "429 rate_limited": 1, "500 internal": 2, "timeout": 1, "ReadError": 1}
    assert failures(unclear) == {"500 internal": 2, "timeout": 1, "ReadError": 1}


# --- as git shows it --------------------------------------------------------------------------------------------------


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """An archive of three events in two commits, made by hand."""
    git(tmp_path, "init", "-q", "-b", "main")
    add(tmp_path, [1, 2], "2 of 2", {11: "Writer 1"})
    add(tmp_path, [3], "1 of 3", {12: "Writer 2"})
    return tmp_path


def git(repository: Path, *arguments: str) -> None:
    who = ["-c", "user.name=Somebody", "-c", "user.email=somebody@example.com"]
    subprocess.run(["git", "-C", str(repository), *who, *arguments], check=True, capture_output=True, timeout=30)


def add(repository: Path, events: list[int], count: str, messages: dict[int, str]) -> None:
    files = {repository / "events" / "000" / "000000.jsonl": [json.dumps({"event_id": number}) for number in events]}
    for number, subject in messages.items():
        front = ["---", f"message_id: {number}", f"subject: {json.dumps(subject)}", "---", 'subject: "in the body"']
        files[repository / "messages" / "2026" / f"{number}.md"] = front
    for path, lines in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file:
            file.writelines(f"{line}\n" for line in lines)
    git(repository, "add", ".")
    git(repository, "commit", "-q", "-m", f"Some events\n\nAgent-Mail-Count: {count}")


async def read(repository: Path) -> Archived:
    return await read_archive(plain_disk(repository.parent), repository)


async def test_git_shows_all_of_it(repository: Path) -> None:
    assert await read(repository) == WHOLE


async def test_git_shows_what_is_doubled_and_what_was_rewritten(repository: Path) -> None:
    add(repository, [2], "1 of 4", {})
    assert found(await read(repository)) == {"repeated": 2}
    path = repository / "events" / "000" / "000000.jsonl"
    path.write_text(path.read_text().replace('{"event_id": 2}\n', ""))
    git(repository, "commit", "-q", "-a", "-m", "Nobody will notice")
    assert found(await read(repository)) == {"unarchived": 1, "repeated": 1, "rewritten": 2, "unaccounted": 1}


def damage(repository: Path) -> None:
    """Change one byte in the middle of all that it holds."""
    git(repository, "repack", "-a", "-d", "-q")
    pack = next(repository.glob(".git/objects/pack/*.pack"))
    pack.chmod(0o644)
    content = bytearray(pack.read_bytes())
    content[len(content) // 2] ^= 0xFF
    pack.write_bytes(content)


async def test_git_shows_a_damaged_pack(repository: Path) -> None:
    damage(repository)
    assert found(await read(repository))["broken"] == 1


async def test_git_shows_that_there_is_nothing(tmp_path: Path) -> None:
    assert found(await read(tmp_path / "nothing")).keys() == {"unarchived", "lost", "broken"}
