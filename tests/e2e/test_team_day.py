"""The day of a twelve-agent team on three workers: `loadtests.team_day` runs, and would notice."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from agent_mail_client.client import MailClient
from loadtests import staff, team_day
from tests.e2e.serving import ROOT, clean_environment

pytestmark = [pytest.mark.postgres, pytest.mark.valkey]


def test_the_day_ends_with_the_counts_that_it_should(tmp_path: Path) -> None:
    environment = clean_environment(tmp_path, {})
    ended = subprocess.run(
        [sys.executable, "-m", "loadtests.team_day"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    counts = json.loads(ended.stdout)
    assert counts["messages read back"] == team_day.DUE
    assert counts["holders of one file"] == counts["claims of one review"] == 1
    assert counts["holders of a slot for three"] == 3


def test_a_count_that_is_not_due_ends_the_day() -> None:
    day = staff.Day({}, MailClient("http://127.0.0.1:1"))
    with pytest.raises(staff.Wrong, match="2, and 1 were due"):
        day.count("holders of one file", 2, 1)
