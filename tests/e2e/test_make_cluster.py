"""`make cluster` as its caller meets it: what is set in the environment is set in the servers and in the job worker."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import httpx
import pytest

from agent_mail_core.settings_errors import SettingsError
from tests.contract.webhook_receiver import receiver, verified
from tests.e2e.serving import ROOT, started
from tests.servers import free_port
from tools.cluster import OWN, passed_on

SHOP = {"project_slug": "shop"}


def test_settings_are_passed_on_and_nothing_else() -> None:
    given = {"LLM_BASE_URL": "http://127.0.0.1:1/v1", "LLM_MODEL": "tiny", "WEBHOOK_ALLOWED_NETWORKS": "127.0.0.0/8"}
    others = {"PATH": "/bin", "HOME": "/home/ann", "LLM_API_KEY": "", "EMBEDDINGS_PATHS": "model"}
    settings, warnings = passed_on({**given, **others})
    assert settings == given
    assert warnings == ["EMBEDDINGS_PATHS is not a setting; did you mean EMBEDDINGS_PATH?"]


def test_what_the_cluster_makes_itself_is_left_out() -> None:
    settings, warnings = passed_on(dict.fromkeys(OWN, "nonsense"))
    assert settings == {}
    assert [warning.split()[0] for warning in warnings] == list(OWN)
    assert passed_on({"DATABASE_URL_FILE": "nowhere"}) == ({}, [])
    readme = (ROOT / "README.md").read_text()
    assert ", ".join(f"`{name}`" for name in OWN) + "." in readme


def test_paths_are_those_of_the_caller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "token").write_text("a-token-of-some-length")
    paths = {"EMBEDDINGS_PATH": "model", "HTTP_BEARER_TOKEN_FILE": "token", "ARCHIVE_REMOTE": "remote"}
    settings, _ = passed_on({"EMBEDDINGS": "local", **paths})
    assert settings == {"EMBEDDINGS": "local", **{name: str(tmp_path / path) for name, path in paths.items()}}
    assert passed_on({"ARCHIVE_REMOTE": "ssh://git.invalid/x"})[0] == {"ARCHIVE_REMOTE": "ssh://git.invalid/x"}


def test_a_setting_that_is_wrong_is_told_before_anything_starts() -> None:
    with pytest.raises(SettingsError, match="WEBHOOK_ALLOWED_NETWORKS"):
        passed_on({"WEBHOOK_ALLOWED_NETWORKS": "the-loopback"})


@pytest.mark.postgres
@pytest.mark.valkey
async def test_webhooks_go_where_the_caller_allows_it() -> None:
    port = free_port()
    command = [sys.executable, "-m", "tools.cluster", "--port", str(port), "--workers", "2"]
    settings = {"WEBHOOK_ALLOWED_NETWORKS": "127.0.0.0/8", "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/nothing"}
    async with receiver() as there:
        with started(command, port, settings) as cluster:
            async with httpx.AsyncClient(base_url=f"{cluster.url}/api", timeout=10) as client:
                secret = await furnish(client, there.url)
            async with asyncio.timeout(30):
                await there.has_answered.wait()
            assert "Settings  WEBHOOK_ALLOWED_NETWORKS, of the environment" in cluster.output
    assert verified(there.received[0], secret)["type"] == "message.sent"


async def furnish(client: httpx.AsyncClient, url: str) -> str:
    """A webhook, and a message that it tells of; the webhook's secret."""
    await done(client, "project/ensure", human_key="shop")
    for name in ("Ann", "Bob"):
        await done(client, "agent/register", **SHOP, name=name, program="shell", model="none")
    added = await done(client, "webhook/add", **SHOP, url=url, events=["message.sent"])
    message = {"sender_name": "Ann", "recipient_names": ["Bob"], "subject": "Hello", "body_md": "Bob"}
    await done(client, "message/send", **SHOP, **message)
    return str(added.json()["secret"])


async def done(client: httpx.AsyncClient, path: str, **body: object) -> httpx.Response:
    """The answer of a call that must succeed."""
    answer = await client.post(path, json=body)
    assert answer.is_success, answer.text
    return answer
