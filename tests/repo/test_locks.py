"""The locked requirements: hashes, no address, no path, and nothing that pyproject.toml does not lead to."""

import re
import tomllib
from pathlib import Path

import pytest

from tests.repo.sources import ROOT

LOCKS = sorted(path.name for path in (ROOT / "requirements").iterdir())
FORBIDDEN = re.compile(r"://|file:|index-url|find-links|trusted-host|(?:^|[\s\"'=@])(?:~?/|\.\.?/|[A-Za-z]:\\)")
PIN = re.compile(r"^(?P<name>[a-z0-9-]+)==(?P<version>[^\s;\\]+)", re.MULTILINE)


def pins(lock: str) -> dict[str, str]:
    return {found["name"]: found["version"] for found in PIN.finditer((ROOT / "requirements" / lock).read_text())}


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[^A-Za-z0-9._-]", requirement)[0].lower().replace("_", "-") for requirement in requirements}


def test_the_lock_files_are_the_three_that_make_lock_writes() -> None:
    assert LOCKS == ["build.txt", "dev.txt", "runtime.txt"]


@pytest.mark.parametrize("path", [f"requirements/{lock}" for lock in LOCKS] + ["pyproject.toml", ".ci/run", "Makefile"])
def test_no_lock_or_build_file_names_an_index(path: str) -> None:
    lines = (ROOT / path).read_text().splitlines()
    if path.startswith("requirements/"):
        assert [line for line in lines if FORBIDDEN.search(line)] == []
    addresses = [line for line in lines if re.search(r"https?://|(?<!emit-)(?:index-url|find-links)", line)]
    assert addresses == []


@pytest.mark.parametrize("lock", LOCKS)
def test_every_locked_package_has_a_hash(lock: str) -> None:
    blocks = re.split(r"\n(?=\S)", (ROOT / "requirements" / lock).read_text().strip())
    packages = [block for block in blocks if not block.startswith("#")]
    assert packages
    assert [block for block in packages if not PIN.match(block) or "--hash=sha256:" not in block] == []


def test_the_locks_follow_pyproject_and_each_other() -> None:
    project = tomllib.loads(Path(ROOT / "pyproject.toml").read_text())
    wanted = names(project["project"]["dependencies"])
    groups = {
        name: names([r for r in group if isinstance(r, str)]) for name, group in project["dependency-groups"].items()
    }
    runtime, build, dev = pins("runtime.txt"), pins("build.txt"), pins("dev.txt")
    assert wanted - runtime.keys() == set(), "run `make lock`"
    assert groups["build"] - build.keys() == set(), "run `make lock`"
    assert groups["dev"] - dev.keys() == set(), "run `make lock`"
    assert (runtime | build).items() - dev.items() == set(), (
        "the versions that tests run on are not those that are served"
    )
