"""Webhooks by processes: a server alone on SQLite, and a server with a job worker on PostgreSQL and Valkey."""

from __future__ import annotations

import json
import signal
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from standardwebhooks import Webhook

from tests.contract.valkey_server import valkey_server
from tests.e2e.serving import Serving, serving
from tests.e2e.working import until, working

NETWORKS = {"WEBHOOK_ALLOWED_NETWORKS": "127.0.0.0/8"}


@dataclass
class Told:
    """What a receiver was told, in order, and what it answers."""

    url: str = ""
    status: int = 204
    calls: list[tuple[dict[str, str], bytes]] = field(default_factory=list)

    def numbers(self, secret: str) -> list[int]:
        """The messages' ids, each of a call with a good signature."""
        verifier = Webhook(secret)
        return [verifier.verify(body, headers)["data"]["message_id"] for headers, body in self.calls]


@contextmanager
def listening() -> Iterator[Told]:
    """A receiver in a thread."""
    told = Told()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            told.calls.append((dict(self.headers.items()), body))
            self.send_response(told.status)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
            return None

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    told.url = f"http://127.0.0.1:{server.server_port}/"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield told
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def post(server: Serving, path: str, **body: Any) -> Any:
    request = urllib.request.Request(
        f"{server.url}/api/{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


def furnish(server: Serving, told: Told) -> str:
    """A project with two agents and a webhook; its secret."""
    post(server, "project/ensure", human_key="shop")
    for name in ("Ann", "Bob"):
        post(server, "agent/register", project_slug="shop", program="shell", model="m", name=name)
    added = post(server, "webhook/add", url=told.url, events=["message.sent"], project_slug="shop")
    return str(added["secret"])


def send(server: Serving) -> int:
    mail = {"project_slug": "shop", "sender_name": "Ann", "recipient_names": ["Bob"], "subject": "s", "body_md": "b"}
    return int(post(server, "message/send", **mail)["message_id"])


def test_a_server_alone_tells_and_forgets_nothing_when_it_is_killed(fresh_sqlite: str) -> None:
    with listening() as told:
        with serving(fresh_sqlite, **NETWORKS) as server:
            secret = furnish(server, told)
            first = send(server)
            until(lambda: told.numbers(secret) == [first])
            told.status = 500
            missed = [send(server) for _ in range(3)]
            until(lambda: len(told.calls) == 2)
            server.kill()
        told.status = 204
        with serving(fresh_sqlite, **NETWORKS):
            until(lambda: told.numbers(secret) == [first, missed[0], *missed])


@pytest.mark.postgres
@pytest.mark.valkey
def test_a_killed_workers_webhook_is_gone_on_with_by_another(fresh_postgres: str) -> None:
    with ExitStack() as stack:
        told = stack.enter_context(listening())
        valkey = stack.enter_context(valkey_server())
        shared = {"REDIS_URL": valkey.url, **NETWORKS}
        server = stack.enter_context(serving(fresh_postgres, **shared))
        secret = furnish(server, told)
        with working(None, DATABASE_URL=fresh_postgres, **shared) as worker:
            sent = [send(server) for _ in range(20)]
            until(lambda: len(told.calls) >= 3)
            worker.process.send_signal(signal.SIGKILL)
            worker.process.wait()
        sent += [send(server) for _ in range(5)]
        with working(None, DATABASE_URL=fresh_postgres, **shared):
            until(lambda: told.numbers(secret)[-1:] == sent[-1:], patience=60)
        numbers = told.numbers(secret)
        assert list(dict.fromkeys(numbers)) == sent, "each in order"
        assert len(numbers) <= len(sent) + 1, "at most the one in flight came twice"
        ids = [headers["webhook-id"] for headers, _ in told.calls]
        assert len(set(ids)) == len(sent), "what came twice came under one id"
