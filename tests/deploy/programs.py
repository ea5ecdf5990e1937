"""Programs that come as wheels: beside the Python that runs the tests, wherever PATH leads."""

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def program(name: str) -> str:
    """The path of a program of this environment. A missing one is a failure, never a skip."""
    found = shutil.which(name, path=f"{sysconfig.get_path('scripts')}:{Path(sys.executable).parent}")
    assert found is not None, f"{name} is not installed: `make test` installs it"
    return found


def said(*command: str) -> str:
    """What a command writes; it must succeed."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
    return done.stdout + done.stderr
