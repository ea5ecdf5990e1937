"""`agent-mail doctor`: a line for each part, and an exit status that a script can go by."""

import json
import socket
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
    of_database = ["database", "database clock", "settings", "connections", "schema"]
    assert list(found) == [*of_database, "redis", "redis clock", "archive"]
    assert {status for status, _ in found.values()} == {"ok"}
    assert "WORKERS 1 × DATABASE_POOL_SIZE 10 = 10 connections a server" in found["connections"][1]


def test_an_embedded_server_is_well(fresh_sqlite: str, tmp_path: Path) -> None:
    code, found = findings(tmp_path, DATABASE_URL=fresh_sqlite)
    assert (code, list(found)) == (0, ["schema", "disk", "archive"])


def test_the_model_of_searches_is_asked(fresh_sqlite: str, tmp_path: Path) -> None:
    vectors = Path(__file__).parents[1] / "contract" / "labelled_vectors"
    local = {"EMBEDDINGS": "local", "EMBEDDINGS_PATH": str(vectors)}
    code, found = findings(tmp_path, DATABASE_URL=fresh_sqlite, **local)
    assert (code, found["vectors"]) == (0, ("ok", "sqlite-vec is loaded"))
    assert "128 dimensions" in found["embeddings"][1]
    nobody = {"EMBEDDINGS_BASE_URL": "http://127.0.0.1:1/v1", "EMBEDDINGS_MODEL": "m", "EMBEDDINGS_DIMENSIONS": "8"}
    code, found = findings(tmp_path, DATABASE_URL=fresh_sqlite, EMBEDDINGS="http", **nobody)
    assert (code, found["embeddings"][0]) == (10, "failed")


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
    assert {name for name, (status, _) in found.items() if status == "failed"} == {"database", "schema", "redis"}
    assert "hunter22" not in str(found)


def test_a_database_that_was_not_migrated_is_told(tmp_path: Path) -> None:
    code, found = findings(tmp_path, DATABASE_URL=f"sqlite:///{tmp_path}/none.db")
    assert (code, found["schema"][0]) == (10, "failed")


def test_an_archive_that_cannot_be_written_is_told(fresh_sqlite: str, valkey_url: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    settings = {"DATABASE_URL": fresh_sqlite, "ARCHIVE_ROOT": str(tmp_path / "file" / "archive")}
    code, found = findings(tmp_path, **settings)
    assert (code, found["archive"][0]) == (10, "failed")
    assert "cannot be written" in found["archive"][1]
    code, found = findings(tmp_path, **settings, REDIS_URL=valkey_url)
    assert (code, found["archive"][0]) == (0, "warning")


def test_the_archives_remote_is_asked(fresh_sqlite: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as git_host:
        remotes = {
            f"ssh://git:hunter22@127.0.0.1:{git_host.getsockname()[1]}/archive": "ok",
            f"https://git:hunter22@127.0.0.1:{free_port()}/archive": "failed",
            str(tmp_path): "ok",
            "git:hunter22@no-such-host.invalid:archive": "failed",
            str(tmp_path / "not yet"): "warning",
        }
        for remote, wanted in remotes.items():
            code, found = findings(tmp_path, DATABASE_URL=fresh_sqlite, ARCHIVE_REMOTE=remote)
            assert found["archive remote"][0] == wanted, found
            assert code == (10 if wanted == "failed" else 0)
            assert "hunter22" not in str(found)
