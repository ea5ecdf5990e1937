"""Install a wheel with the locked runtime packages in a clean environment, and see it serve from there.

Standard library only. It shows what an editable installation hides: a package, SQL file or page that is not in the
wheel, and a dependency that only the development lock has.
"""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import tomllib
import urllib.error
import urllib.request
import venv
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
START_TIMEOUT = 60.0


def main(wheel: Path) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    with tempfile.TemporaryDirectory(prefix="agent-mail-wheel-") as folder:
        home = Path(folder)
        venv.create(home / "venv", with_pip=True)
        pip = [str(home / "venv/bin/python"), "-m", "pip", "--quiet", "--disable-pip-version-check", "--no-input"]
        locked = str(ROOT / "requirements/runtime.txt")
        subprocess.run([*pip, "install", "--require-hashes", "-r", locked], check=True)
        subprocess.run([*pip, "install", "--no-deps", str(wheel.resolve())], check=True)
        subprocess.run([*pip, "check"], check=True)
        command = str(home / "venv/bin/agent-mail")
        said = subprocess.run([command, "--version"], check=True, cwd=home, capture_output=True, text=True).stdout
        assert version in said, f"`agent-mail --version` says {said!r}, and the wheel is {version}"
        check_serving(command, home)
    print(f"{wheel.name}: installed alone, it serves")


def check_serving(command: str, home: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        "PATH": os.defpath,
        "HOME": str(home),
        "PORT": str(port),
        "DATABASE_URL": f"sqlite:///{home}/mail.db",
    }
    log = home / "log"
    with log.open("wb") as output:
        server = subprocess.Popen([command, "serve"], cwd=home, env=environment, stdout=output, stderr=output)
    try:
        wait_until_ready(server, f"http://127.0.0.1:{port}/ready")
        made = call(f"http://127.0.0.1:{port}/api/project/ensure", {"human_key": "/wheel/check"})
        assert made["created"] is True, made
        listed = call(f"http://127.0.0.1:{port}/api/project/list")
        assert "/wheel/check" in json.dumps(listed), listed
        assert call(f"http://127.0.0.1:{port}/openapi.json")["openapi"].startswith("3.1")
        server.terminate()
        assert server.wait(30) == 0, f"the server ended with {server.returncode} after SIGTERM"
    except BaseException:
        sys.stderr.write(log.read_text(errors="replace")[-6000:])
        raise
    finally:
        server.kill()
        server.wait()


def wait_until_ready(server: subprocess.Popen[bytes], url: str) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    while True:
        try:
            call(url)
        except (urllib.error.URLError, ConnectionError) as error:
            assert server.poll() is None, f"the server ended with {server.returncode} before it was ready"
            assert time.monotonic() < deadline, f"not ready after {START_TIMEOUT:.0f} s: {error}"
            time.sleep(0.1)
        else:
            return


def call(url: str, body: dict[str, Any] | None = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
