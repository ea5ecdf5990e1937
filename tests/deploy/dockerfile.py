"""The Dockerfile, read well enough to do outside an image what it does inside one."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from tests.deploy.programs import ROOT

DOCKERFILE = ROOT / "Dockerfile"
BUILD_TIMEOUT = 280


@dataclass(frozen=True)
class Instruction:
    """One instruction of one stage."""

    stage: int
    word: str
    rest: str

    def words(self) -> list[str]:
        """The words of an exec form."""
        start = self.rest.index("[")
        return [str(word) for word in json.loads(self.rest[start:])]


def instructions() -> list[Instruction]:
    """All of them, lines joined, comments left out."""
    lines = [line for line in DOCKERFILE.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    found = []
    stage = 0
    for line in re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines():
        word, _, rest = line.partition(" ")
        if word:
            stage += word == "FROM"
            found.append(Instruction(stage, word, rest))
    return found


def last(word: str) -> Instruction:
    """The last instruction of a kind: the one that counts."""
    return [found for found in instructions() if found.word == word][-1]


def environment() -> dict[str, str]:
    """What ENV sets in the last stage."""
    stage = instructions()[-1].stage
    pairs = [found.rest for found in instructions() if found.word == "ENV" and found.stage == stage]
    return dict(pair.split("=", 1) for pair in " ".join(pairs).split())


def ignored(path: str) -> bool:
    """Whether .dockerignore keeps a path of the tree out of the build; the last rule that fits decides."""
    is_ignored = False
    for rule in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines():
        pattern = rule.removeprefix("!")
        if not pattern or pattern.startswith("#"):
            continue
        if pattern.startswith("**/"):
            fits = any(fnmatch(part, pattern[3:]) for part in Path(path).parts)
        else:
            fits = any(fnmatch(str(parent), pattern) for parent in (Path(path), *Path(path).parents) if parent.name)
        if fits:
            is_ignored = not rule.startswith("!")
    return is_ignored


def context_files(source: str) -> Iterator[Path]:
    """What COPY takes of the tree for a source, relative to it."""
    path = ROOT / source
    assert path.exists(), f"COPY {source}: there is no such thing"
    for found in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if found.is_file() and not ignored(str(found.relative_to(ROOT))):
            yield found.relative_to(ROOT)


def build(stage: int, places: Mapping[str, Path], env: Mapping[str, str]) -> None:
    """Run a stage's COPY and RUN, with the image's paths replaced by `places`."""

    def placed(text: str) -> str:
        for inside, outside in places.items():
            text = re.sub(rf"(?<!\S){inside}(?![\w-])", str(outside), text)
        return text

    folder = Path("/")
    for found in instructions():
        if found.stage != stage:
            continue
        if found.word == "WORKDIR":
            folder = Path(placed(found.rest))
            folder.mkdir(parents=True, exist_ok=True)
        elif found.word == "COPY":
            *sources, target = found.rest.split()
            for source in sources:
                for file in context_files(source):
                    inside = file.relative_to(source) if (ROOT / source).is_dir() else Path(file.name)
                    to = folder / target / inside
                    to.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(ROOT / file, to)
        elif found.word == "RUN":
            done = subprocess.run(
                ["/bin/sh", "-ec", placed(found.rest)],
                cwd=folder,
                env=dict(env),
                capture_output=True,
                text=True,
                timeout=BUILD_TIMEOUT,
            )
            assert done.returncode == 0, f"{found.rest}\n{done.stdout}{done.stderr}"
        else:
            assert found.word == "FROM", found
