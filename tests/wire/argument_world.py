"""A world in which every argument of every operation can change something: two teams' worth of mail, leases and jobs.

Its clock stands still wherever it is not moved by hand, so that what two calls on two copies of it answer is the same
but for what is drawn at random.
"""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from agent_mail_archive.opening import open_archive
from agent_mail_core.clock import from_microseconds
from agent_mail_core.jobs import work_at_hand
from agent_mail_core.ports import Clock
from agent_mail_core.settings import Settings
from agent_mail_server import running
from agent_mail_server.running import RunningServer, running_server
from agent_mail_store.opening import open_store
from tests.wire.server import client_of, post

BEGINNING = 1_800_000_000
"""Seconds since 1970 when the first half of the world is made."""

LATER, NOW = BEGINNING + 1000, BEGINNING + 2000
"""When its second half is, and when the calls are made."""

BETWEEN = from_microseconds((BEGINNING + 500) * 1_000_000).isoformat().replace("+00:00", "Z")
"""A time between the two halves."""

FOLLOWERS = {"outbox", "archive", "summary"}

SHOP, WEB = {"project_slug": "shop"}, {"project_slug": "web"}
WHO = {"program": "pytest", "model": "none"}


class HandClock(Clock):
    """Shows what it was set to."""

    def __init__(self, seconds: int) -> None:
        self.seconds = seconds

    def now(self) -> Any:
        return from_microseconds(self.microseconds())

    def microseconds(self) -> int:
        return self.seconds * 1_000_000


@dataclass(frozen=True)
class World:
    """A folder with a database and an archive, and the ids in it that nobody can know before."""

    folder: Path
    ids: dict[str, str] = field(default_factory=dict)

    @property
    def database(self) -> Path:
        return self.folder / "mail.db"

    def copy(self, folder: Path) -> World:
        """The same world once more, to do something to."""
        shutil.copytree(self.folder, folder)
        return World(folder, self.ids)


@asynccontextmanager
async def inhabited(world: World, clock: HandClock) -> AsyncIterator[tuple[RunningServer, httpx.AsyncClient]]:
    """A server of the world, and a client."""
    settings = Settings.model_validate(
        {
            "database_url": f"sqlite:///{world.database}",
            "archive_root": str(world.folder / "archive"),
            "rate_limit_enabled": False,
            "webhook_allowed_networks": "127.0.0.0/8",
        }
    )
    async with AsyncExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setattr(running, "SystemClock", lambda: clock)
        store = await open_store(settings, clock, single_server=False)
        stack.push_async_callback(store.close)
        archive = await stack.enter_async_context(open_archive(settings))
        server = await stack.enter_async_context(running_server(settings, store, archive=archive))
        yield server, await stack.enter_async_context(client_of(server))


async def make_world(template: Path, folder: Path) -> World:
    """Make it, in two halves that are archived one after the other."""
    world = World(folder)
    shutil.copytree(template.parent, folder)
    clock = HandClock(BEGINNING)
    async with inhabited(world, clock) as (server, client):
        await _first_half(client)
        await _settled(server, clock)
        log = (await client.get("/api/archive/log", params=SHOP)).json()
        world.ids["FIRST_COMMIT"] = log["commits"][0]["commit"]
        clock.seconds = LATER
        await _second_half(client, world.ids)
        await _settled(server, clock)
    with closing(sqlite3.connect(world.database)) as database, database:  # what only comes after hours of failures
        database.executemany(
            "INSERT INTO jobs (kind, subject_id, team_id, state, run_at, created_at) VALUES (?, ?, 1, 'dead', ?, ?)",
            [(kind, subject, LATER, LATER) for kind, subject in (("summary", 8), ("summary", 9), ("embedding", 1))],
        )
        database.execute(
            "INSERT INTO webhook_deliveries"
            " (webhook_id, position_xact, event_id, kind, state, attempts, created_at, attempted_at)"
            " SELECT 1, position_xact, event_id - 1, kind, 'failed', 9, created_at, attempted_at"
            " FROM webhook_deliveries WHERE webhook_id = 1"
        )
    return world


async def _first_half(client: httpx.AsyncClient) -> None:
    for key in ("shop", "web", "old"):
        await post(client, "project/ensure", human_key=f"/code/{key}", slug=key)
    for project, names in ((SHOP, ("Ann", "Bob", "Cid", "Dot", "Eve", "Gus")), (WEB, ("Ann", "Bob", "Wim"))):
        for name in names:
            await post(client, "agent/register", **project, **WHO, name=name)
    await post(client, "contact/policy", **SHOP, agent_name="Cid", policy="contacts_only")
    for product in ("Store", "Void"):
        await post(client, "product/ensure", name=product)
    for project in (SHOP, WEB):
        await post(client, "product/link", product_name="Store", **project)
    await _mail(client, "Ann", ["Bob"], "Apple pie", thread_id="FEAT-1")
    await _mail(client, "Ann", ["Bob"], "Pear", thread_id="FEAT-2", priority="urgent", ack_required=True)
    await post(client, "message/reply", **SHOP, sender_name="Bob", message_id=1, body_md="Fine.")
    await post(client, "message/read", **SHOP, agent_name="Bob", message_ids=[1])
    await post(client, "file/reserve", **SHOP, agent_name="Ann", paths=["src/**", "x[1]"], ttl_seconds=7200)
    await post(client, "file/reserve", **SHOP, agent_name="Bob", paths=["docs/*.md"], ttl_seconds=60)


async def _second_half(client: httpx.AsyncClient, ids: dict[str, str]) -> None:
    await _mail(client, "Wim", ["Ann", "Bob"], "Apples on the web", project=WEB, thread_id="WEB-1")
    await _mail(client, "Ann", ["Bob"], "Apple cart", thread_id="FEAT-3", priority="low", ack_required=True)
    await _mail(client, "Ann", ["Bob"], "Apple tree", thread_id="FEAT-3", cc_names=["Eve"])
    for name in ("Ann", "Eve"):
        await post(client, "contact/add", **SHOP, agent_name=name, contact_name="Cid")
    await post(client, "contact/respond", **SHOP, agent_name="Cid", contact_name="Eve", accept=True)
    await post(client, "contact/block", **SHOP, agent_name="Bob", contact_name="Eve")
    await post(client, "file/reserve", **SHOP, agent_name="Eve", paths=["lib/**"], exclusive=False)
    for holder, slot_name, slot_type, capacity in (("Ann", "ci", "build", 1), ("Bob", "ci", "test", 2)):
        slot = {"slot_name": slot_name, "slot_type": slot_type, "capacity": capacity}
        await post(client, "build/acquire", **SHOP, agent_name=holder, **slot)
    for name, slot_type in (("Ann", "test"), ("Eve", "deploy")):
        slot = {"slot_name": "idle", "slot_type": slot_type}
        await post(client, "build/acquire", **SHOP, agent_name=name, **slot)
        await post(client, "build/release", **SHOP, agent_name=name, **slot)
    await _reviews(client)
    for name, text in (("plan.md", "IyBQbGFuCg=="), ("note.txt", "bm90ZQ==")):
        added = await post(client, "attachment/add", **SHOP, agent_name="Ann", file_name=name, content_base64=text)
        ids[name] = added["attachment_id"]
    for project in ({}, SHOP):
        await post(client, "webhook/add", url="https://127.0.0.1:9/hook", events=["message.read"], **project)
    for message_id in (2, 5):
        await post(client, "message/read", **SHOP, agent_name="Bob", message_ids=[message_id])
    for key in ("old", "web"):
        await post(client, "admin/hold/set", project_slug=key, on_hold=True, reason="Case 1")
    await post(client, "thread/summarize", **SHOP, thread_ids=["FEAT-1"], wait_seconds=20)
    await post(client, "agent/retire", **SHOP, agent_name="Dot")


async def _reviews(client: httpx.AsyncClient) -> None:
    """One that is asked for, one that is claimed, one that was cancelled, and one in the other project."""
    ann = {**SHOP, "requester_name": "Ann"}
    await post(client, "review/request", **ann, thread_id="FEAT-1", reviewer_names=["Bob"])
    await post(client, "review/request", **ann, message_id=2, reviewer_names=["Bob", "Eve"])
    await post(client, "review/claim", **SHOP, agent_name="Bob", review_id=2)
    await post(client, "review/request", **ann, thread_id="FEAT-3")
    await post(client, "review/cancel", **SHOP, review_id=3)
    await post(client, "review/request", **WEB, requester_name="Wim", thread_id="WEB-1")


async def _mail(
    client: httpx.AsyncClient, sender: str, to: list[str], subject: str, project: Any = SHOP, **more: Any
) -> None:
    words = {"subject": subject, "body_md": f"About: {subject}. Ask ann@example.com."}
    await post(client, "message/send", **project, sender_name=sender, recipient_names=to, **words, **more)


async def _settled(server: RunningServer, clock: HandClock) -> None:
    """Let seconds go by until followers have done all that was to be done; fail after 20 real ones."""
    async with asyncio.timeout(20):
        while not FOLLOWERS.isdisjoint({figures.kind for figures in await work_at_hand(server.app.store)}):
            clock.seconds += 1
            await asyncio.sleep(0.05)
