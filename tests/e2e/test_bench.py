"""The benchmark measures what it says: errors are counted and shown, percentiles are right, and a short run works."""

import asyncio
import json
import math
import subprocess
import sys

from bench.connection import joined
from bench.driver import Driver, is_tool_result
from bench.report import percentile
from bench.scenarios import health_rest
from tests.e2e.serving import ROOT, clean_environment


def test_percentiles_are_nearest_ranks_in_milliseconds() -> None:
    assert [percentile([0.001 * n for n in range(1, 101)], p) for p in (50, 95, 99)] == [50, 95, 99]
    assert percentile([0.004], 99) == 4
    assert math.isnan(percentile([], 50))


def test_a_chunked_body_is_joined() -> None:
    assert joined(b"4\r\nwait\r\n1\r\n \r\na\r\nfor chunks\r\n0\r\n\r\n") == b"wait for chunks"


def test_only_a_result_counts_as_a_tools_result() -> None:
    assert is_tool_result(200, b'{"jsonrpc":"2.0","id":1,"result":{"structuredContent":{"status":"healthy"}}}')
    assert not is_tool_result(200, b'{"jsonrpc":"2.0","id":1,"result":{"isError":true,"content":[]}}')
    assert not is_tool_result(200, b'{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"no"}}')


async def test_refused_and_broken_answers_are_errors_and_not_in_the_rate() -> None:
    answered, enough = {"good": 0, "refused": 0, "broken": 0}, asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                kind = ("good", "refused", "broken")[sum(answered.values()) % 3]
                answered[kind] += 1
                if answered["broken"] == 3:
                    enough.set()
                if kind == "broken":
                    break
                status = b"200 OK" if kind == "good" else b"503 Service Unavailable"
                writer.write(b"HTTP/1.1 " + status + b"\r\nContent-Length: 2\r\n\r\n{}")
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        driver = Driver({"port": server.sockets[0].getsockname()[1], "seed": 1})
        driver.is_measuring = True
        load = asyncio.create_task(health_rest(driver, 0))
        await asyncio.wait_for(enough.wait(), 20)
        driver.is_measuring = False
        load.cancel()
        await asyncio.gather(load, return_exceptions=True)
        for connection in driver.connections:
            connection.abort()
        await asyncio.sleep(0)
    failed = driver.errors["health"]
    assert answered["refused"] + answered["broken"] - 1 <= failed <= answered["refused"] + answered["broken"]
    assert answered["good"] - 1 <= len(driver.latencies["health"]) <= answered["good"]
    assert any("503" in sample for sample in driver.samples)


def test_a_short_run_prints_a_table_and_writes_its_figures() -> None:
    path = ROOT / "bench" / "results" / "test.json"
    command = [sys.executable, str(ROOT / "bench" / "main.py"), "--quick", "--seconds", "0.5", "--name", "test"]
    command += ["--engine", "sqlite", "--only", "health,health-mcp,health-session"]
    environment = clean_environment(ROOT, {})
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    try:
        assert ran.returncode == 0, ran.stdout + ran.stderr
        assert "health, MCP 2026-07-28" in ran.stdout
        figures = json.loads(path.read_text(encoding="utf-8"))["figures"]
    finally:
        path.unlink(missing_ok=True)
    measured = {row["scenario"]: row for row in figures}
    assert set(measured) == {"bare", "health", "health-mcp", "health-session"}
    assert all(row["requests"] > 10 and row["errors"] == 0 and row["server_cpu"] > 0 for row in figures)
