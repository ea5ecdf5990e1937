"""`agent-mail doctor`: a line for each part, and an exit status that a script can go by."""

import json
from pathlib import Path

import pytest

from tests.e2e.test_processes import run
from tests.servers import free_port


def findings(folder: Path, **settings: str) -> tuple[int, dict[str, tuple[str, str]]]:
    """The exit status, and by name what was found."""
    ended = run(folder, "doctor", "--json", **settings)
    assert "Traceback" not in ended.stderr
    return ended.returncode, {row["name"]: (row["status"], row["detail"]) for row in json.loads(ended.stdout)}


@pytest.mark.postgres
@pytest.mark.valkey
def test_all_is_well(fresh_postgres: str, valkey_url: str, tmp_path: Path) -> None:
    code, found = findings(tmp_path, DATABASE_URL=fresh_postgres, REDIS_URL=valkey_url)
    assert code == 0, found
    assert list(found) == ["database", "database clock", "settings", "connections", "schema", "redis", "redis clock"]
    assert {status for status, _ in found.values()} == {"ok"}
    assert "WORKERS 1 × DATABASE_POOL_SIZE 10 = 10 connections a server" in found["connections"][1]


def test_an_embedded_server_is_well(fresh_sqlite: str, tmp_path: Path) -> None:
    code, found = findings(tmp_path, DATABASE_URL=fresh_sqlite)
    assert (code, list(found)) == (0, ["schema", "disk"])


@pytest.mark.postgres
def test_a_pool_that_the_database_has_no_room_for_is_told(fresh_postgres: str, valkey_url: str, tmp_path: Path) -> None:
    settings = {"DATABASE_URL": fresh_postgres, "REDIS_URL": valkey_url, "WORKERS": "8", "DATABASE_POOL_SIZE": "50"}
    code, found = findings(tmp_path, **settings)
    assert (code, found["connections"][0]) == (10, "failed")
    assert "room for 0 such servers" in found["connections"][1]


def test_what_is_away_is_told_and_no_password(tmp_path: Path) -> None:
    settings = {
        "DATABASE_URL": f"postgresql://mail:hunter22@127.0.0.1:{free_port()}/mail",
        "REDIS_URL": f"redis://:hunter22@127.0.0.1:{free_port()}/0",
    }
    code, found = findings(tmp_path, **settings)
    assert code == 10
    assert {name: status for name, (status, _) in found.items()} == dict.fromkeys(
        ("database", "schema", "redis"), "failed"
    )
    assert "hunter22" not in str(found)


def test_a_database_that_was_not_migrated_is_told(tmp_path: Path) -> None:
    code, found = findings(tmp_path, DATABASE_URL=f"sqlite:///{tmp_path}/none.db")
    assert (code, found["schema"][0]) == (10, "failed")
