"""Two worlds that differ in bcc deliveries alone, each on a database of its own, so that even their ids are the same.

In both Ann of the project `shop` writes to Bob and Cid there and to Dan of `depot`. In one of them the same mail goes
as bcc to Zebulon of the shop and to Xerxes of the depot too, who read it, acknowledge it and look at it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from agent_mail_core.archive_reading import ArchiveView
from agent_mail_core.errors import AgentMailError
from agent_mail_core.jobs import perform
from agent_mail_core.ports import App, Role
from agent_mail_core.project_export import ProjectExport
from agent_mail_core.summary_jobs import summarize
from tests.contract.office import Office, caller
from tests.contract.test_summaries import claim
from tests.servers import query, with_database

SECRETS = ("Zebulon", "Xerxes")
CAST = {"shop": ("Ann", "Bob", "Cid", "Eve", "Zebulon"), "depot": ("Dan", "Zoe", "Xerxes")}

_MASKS = (
    (re.compile(r"\d{4}\\?-\d\d\\?-\d\dT[0-9:.\\]+Z"), "<time>"),
    (re.compile(r"\b\d{8}T\d{6}\d*Z?|\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d[0-9.]*Z?"), "<time>"),
    (re.compile(r'\{"names":\[.*\]\}'), "<names>"),
    (re.compile(r'\b(cursor|older_cursor|next_cursor|last_event_id)":"[^"]*"'), r'\1":"<cursor>"'),
    (re.compile(r"\bT\\?-[A-Z2-7]{10}\b"), "<thread>"),
    (re.compile(r"\bwhsec_[A-Za-z0-9+/=]+"), "<secret>"),
    (re.compile(r"\b[0-9a-f]{32,40}\b"), "<random>"),
    (re.compile(r"Agent-Mail-Position: \d+\."), "Agent-Mail-Position: <transaction>."),
    (re.compile(r'"(uptime_seconds|age_seconds)":[0-9.]+'), r'"\1":"<age>"'),
)
"""What no two databases have in common."""


@contextmanager
def cloned_postgres(server_url: str, template: str, name: str) -> Iterator[str]:
    """One more migrated, empty database on a server."""
    query(server_url, f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
    try:
        yield with_database(server_url, name)
    finally:
        query(server_url, f'DROP DATABASE "{name}" WITH (FORCE)')


@dataclass(frozen=True)
class World:
    """One of the two."""

    app: App
    told: Mapping[str, Any]
    """Ids that the answers brought, by what they are of."""

    def office(self, name: str) -> Office:
        """As the agent's own principal meets its project; `Root` is an administrator without an agent."""
        slug = "depot" if name in CAST["depot"] else "shop"
        return Office(self.app, caller(f"p-{name.lower()}", Role.admin if name == "Root" else Role.writer), slug)

    async def answer(self, name: str, operation: str, arguments: Mapping[str, Any]) -> str:
        """What it is answered, byte by byte but for what no two databases have in common; of a refusal the error."""
        filled = {key: self._filled(value) for key, value in arguments.items()}
        try:
            result = await self.office(name).call(operation, **filled)
        except AgentMailError as error:
            return masked(f"{error.code} {error.message} {error.data}")
        if (
            isinstance(result, ArchiveView) and result.messages
        ):  # those of one second are in the order of their subjects
            in_order = sorted(result.messages, key=lambda mail: mail.message_id)
            result = result.model_copy(update={"messages": in_order})
        text = result.to_json().decode()
        if isinstance(result, ProjectExport):
            text += b"".join([chunk async for chunk in result.chunks()]).decode()
        return masked(text)

    def _filled(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._filled(each) for each in value]
        return self.told[value[1:]] if isinstance(value, str) and value.startswith("$") else value


def masked(text: str) -> str:
    """The text without what is a database's own."""
    for pattern, mask in _MASKS:
        text = pattern.sub(mask, text)
    return text


async def settle(world: World) -> None:
    """Make the summaries of the threads: else whoever prepares one would wait for it."""
    app = world.app
    threads = {"project_slug": "shop", "thread_ids": ["Feat-1", "Feat-2", "Feat-3"], "wait_seconds": 0}
    await world.office("Root").call("summarize_thread", **threads)
    while (job := await claim(app)) is not None:
        assert (await perform(app, {"summary": summarize}, job)).outcome == "done"


async def made(app: App, with_secrets: bool) -> World:
    """A world in which all this has happened."""
    world = World(app, {})
    for slug, names in CAST.items():
        await world.office(names[0]).ensure(slug)
        for name in names:
            await world.office(name).register(name)
    ann, zebulon, xerxes = world.office("Ann"), world.office("Zebulon"), world.office("Xerxes")
    await ann.call("ensure_product", name="All")
    for slug in CAST:
        await ann.call("link_project", product_name="All", project_slug=slug)
    file = await ann.call(
        "add_attachment", project_slug="shop", agent_name="Ann", file_name="plan.md", content_base64="IyBQbGFuCg=="
    )
    bcc = ["Zebulon", "Xerxes@depot"] if with_secrets else []
    first = await ann.send(
        "Ann",
        ["Bob"],
        cc=["Cid", "Dan@depot"],
        bcc=bcc,
        thread_id="Feat-1",
        subject="Plan",
        body="Bob, please measure the plan.",
        ack_required=True,
        attachment_ids=[file.attachment_id],
        idempotency_key="first",
    )
    second = await world.office("Bob").reply("Bob", first.message_id, reply_all=True, body_md="Let's go with the plan.")
    third = await ann.send("Ann", ["Bob"], bcc=bcc, thread_id="Feat-2", subject="More", ack_required=True)
    note = await ann.send("Ann", ["Ann"], bcc=bcc, thread_id="Feat-3", subject="Note")
    review = await world.office("Cid").call(
        "request_review", project_slug="shop", requester_name="Cid", message_id=first.message_id
    )
    await settle(world)
    if with_secrets:
        for name, office, key in (("Zebulon", zebulon, "Feat-1"), ("Xerxes", xerxes, "Feat-1@shop")):
            await office.mark_read(name, first.message_id)
            await office.acknowledge(name, third.message_id)
            await office.inbox(name, include_bodies=True)
            await office.call("prepare_thread", project_slug=office.slug, agent_name=name, thread_id=key)
            await office.call("get_attachment", attachment_id=file.attachment_id)
    ids = {"first": first, "second": second, "third": third, "note": note}
    told = {name: sent.message_id for name, sent in ids.items()}
    return replace(world, told={**told, "file": file.attachment_id, "review": review.review_id})
