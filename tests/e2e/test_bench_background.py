"""A short run of the benchmark's rows of background work."""

import json
import subprocess
import sys

import pytest

from tests.e2e.serving import ROOT, clean_environment


@pytest.mark.postgres
@pytest.mark.valkey
@pytest.mark.timeout(300)
def test_background_work_is_measured_on_a_cluster_of_its_own() -> None:
    path = ROOT / "bench" / "results" / "test-background.json"
    command = [sys.executable, str(ROOT / "bench" / "main.py"), "--quick", "--seconds", "0.5"]
    command += ["--name", "test-background", "--engine", "cluster", "--only", "archive-10,archive-lag,summary"]
    ran = subprocess.run(command, env=clean_environment(ROOT, {}), capture_output=True, text=True, timeout=290)
    try:
        assert ran.returncode == 0, ran.stdout + ran.stderr
        figures = json.loads(path.read_text(encoding="utf-8"))["figures"]
    finally:
        path.unlink(missing_ok=True)
    rows = {row["scenario"]: row for row in figures if row["scenario"] != "bare"}
    assert set(rows) == {"archive-10", "archive-lag", "archive-lag-sends", "summary", "summary-again"}
    assert all(row["errors"] == 0 and row["requests"] > 0 for row in rows.values())
    assert rows["archive-10"]["requests"] == 2000
    assert rows["archive-10"]["server_cpu"] > 0
    assert rows["archive-lag"]["requests"] >= 0.9 * rows["archive-lag-sends"]["requests"]
    assert all(0 < rows[name]["p50"] <= rows[name]["p99"] for name in rows if name != "archive-10")
