"""The image, without an engine: its stage is built in a folder, and its commands run there, without rights to write."""

import http.client
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.deploy.dockerfile import DOCKERFILE, build, environment, ignored, instructions, last
from tests.deploy.programs import ROOT, program, said
from tests.servers import free_port

TOKEN = "t" * 32
START_TIMEOUT = 30.0
OF_PIP = ("PIP_", "SSL_", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")
"""What an installer needs to know of the environment, by the beginnings of names."""


@dataclass(frozen=True)
class Image:
    """A built stage in a folder that others may read, and the two folders that may be written."""

    home: Path
    data: Path
    scratch: Path

    def environment(self, **settings: str) -> dict[str, str]:
        """What ENV says, with the paths replaced, and settings."""
        given = {
            name: value.replace("/opt/agent-mail", str(self.home / "opt")).replace("/data", str(self.data))
            for name, value in environment().items()
        }
        return {**given, "HOME": str(self.data), "TMPDIR": str(self.scratch), **settings}

    def start(self, command: list[str], **settings: str) -> "subprocess.Popen[bytes]":
        """A command of the image, as somebody who may write below /data and /tmp and nowhere else."""
        found = shutil.which(command[0], path=self.environment()["PATH"])
        assert found is not None, f"{command[0]} is not in the image"
        assert found.startswith(str(self.home)) or command[0] != "agent-mail"
        # Root without capabilities, as in the compose file, is held to the modes of files like everybody else.
        bare = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"] if os.geteuid() == 0 else []
        with (self.home / "stdout").open("wb") as output:
            return subprocess.Popen(
                [*bare, found, *command[1:]],
                cwd=self.data,
                env=self.environment(**settings),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def said(self) -> str:
        """What the command that was started last has written."""
        return (self.home / "stdout").read_text(errors="replace")


@pytest.fixture(scope="module")
def image() -> Iterator[Image]:
    """The build stage's commands, run with this Python instead of the base image's."""
    with tempfile.TemporaryDirectory(prefix="agent-mail-image-") as name:
        home = Path(name)
        home.chmod(0o755)
        index = {name: value for name, value in os.environ.items() if name.startswith(OF_PIP)}
        env = {"PATH": f"{Path(sys.executable).parent}:{os.defpath}", "HOME": os.environ.get("HOME", name), **index}
        places = {"/opt/agent-mail": home / "opt", "/opt/build": home / "build-tools", "/src": home / "source"}
        build(1, places, env)
        shutil.rmtree(home / "source")
        shutil.rmtree(home / "build-tools")
        data, scratch = home / "data", home / "scratch"
        for folder in (data, scratch):
            folder.mkdir(mode=0o700)
        for folder in (home / "opt").rglob("*"):
            if not folder.is_symlink():
                folder.chmod(folder.stat().st_mode & ~0o222)
        try:
            yield Image(home, data, scratch)
        finally:
            for folder in (home / "opt").rglob("*"):
                if folder.is_dir():
                    folder.chmod(0o755)


@contextmanager
def serving(image: Image, **settings: str) -> Iterator[tuple["subprocess.Popen[bytes]", str]]:
    """ENTRYPOINT and CMD, answering; and the port."""
    port = str(free_port())
    process = image.start([*last("ENTRYPOINT").words(), *last("CMD").words()], PORT=port, **settings)
    try:
        deadline = time.monotonic() + START_TIMEOUT
        while not _is_healthy(port):
            assert process.poll() is None, image.said()
            assert time.monotonic() < deadline, image.said()
            time.sleep(0.05)
        yield process, port
    finally:
        process.kill()
        process.wait()


def _is_healthy(port: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=5)
    try:
        connection.request("GET", "/ready")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def health(image: Image, port: str) -> int:
    """The exit status of HEALTHCHECK."""
    return image.start(last("HEALTHCHECK").words(), PORT=port).wait(30)


def everything(image: Image) -> set[Path]:
    """All files but those below /data."""
    return {path for path in image.home.rglob("*") if image.data not in path.parents}


def test_hadolint_has_nothing_to_say() -> None:
    assert said(program("hadolint"), "--no-color", str(DOCKERFILE)) == ""


def test_it_serves_from_a_read_only_tree_and_stops_when_told(image: Image) -> None:
    before = everything(image)
    with serving(image, AUTH_MODE="bearer", HTTP_BEARER_TOKEN=TOKEN) as (process, port):
        assert health(image, port) == 0
        connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=10)
        headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
        connection.request("POST", "/api/project/ensure", '{"human_key": "/image"}', headers)
        assert connection.getresponse().status == 200
        connection.close()
        assert last("STOPSIGNAL").rest == "SIGTERM"
        process.terminate()
        assert process.wait(20) == 0
    assert health(image, port) == 1, "a container whose server is gone is not healthy"
    assert (image.data / "mcp_agent_mail.db").is_file()
    assert everything(image) - before <= {image.home / "stdout"}


def test_without_settings_it_says_what_it_needs(image: Image) -> None:
    process = image.start([*last("ENTRYPOINT").words(), *last("CMD").words()])
    assert process.wait(30) == 2
    assert "AUTH_MODE" in image.said()


@pytest.mark.parametrize("command", ["--version", "config", "migrate"])
def test_other_commands_take_the_place_of_serve(command: str, image: Image) -> None:
    process = image.start([*last("ENTRYPOINT").words(), command], AUTH_MODE="bearer", HTTP_BEARER_TOKEN=TOKEN)
    assert process.wait(30) == 0, image.said()
    assert TOKEN not in image.said()


def test_the_last_stage_is_as_small_and_harmless_as_it_claims() -> None:
    found = instructions()
    bases = [instruction.rest.split()[0] for instruction in found if instruction.word == "FROM"]
    assert len(set(bases)) == 1, "a virtual environment belongs to the Python that made it"
    assert re.fullmatch(r"python:3\.\d+-slim-[a-z]+", bases[0])
    final = [instruction for instruction in found if instruction.stage == len(bases)]
    assert [instruction.rest for instruction in final if instruction.word == "COPY"] == [
        "--from=build /opt/agent-mail /opt/agent-mail"
    ]
    assert last("USER").rest == "10001:10001"
    assert environment()["HOST"] == "0.0.0.0"  # noqa: S104
    assert len([instruction for instruction in final if instruction.word == "RUN"]) == 1, "it makes the user alone"
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f"VERSION={version}" in [instruction.rest for instruction in final if instruction.word == "ARG"]


def test_nothing_private_goes_into_the_build() -> None:
    for path in (".env", ".git/config", "data/mcp_agent_mail.db", "tests/conftest.py", ".venv/pyvenv.cfg"):
        assert ignored(path), path
    assert ignored("libs/agent_mail_core/__pycache__/settings.cpython-313.pyc")
    assert not ignored("libs/agent_mail_core/settings.py")
    assert not ignored("requirements/runtime.txt")
