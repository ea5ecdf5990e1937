"""An office whose events go to a receiver, and its webhooks' jobs, done when a test says so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from agent_mail_core.events import FIRST_POSITION, EventFilter
from agent_mail_core.ids import WebhookId
from agent_mail_core.jobs import LEASE, Job, perform
from agent_mail_core.ports import App, Role
from agent_mail_core.webhook_jobs import deliver_webhook, want_webhooks
from agent_mail_outbound.http_outbound import HttpOutbound, Timeouts
from tests.contract.databases import Database
from tests.contract.office import Office
from tests.contract.webhook_receiver import Receiver, receiver, verified

LOOPBACK = ("127.0.0.0/8",)
HASTY = Timeouts(total=2.0, connect=1.0, last_words=0.1)


@dataclass
class HookedOffice:
    """An office, asked by its administrator where it is about webhooks."""

    office: Office
    receiver: Receiver
    database: Database
    secrets: dict[int, str]

    @property
    def app(self) -> App:
        return self.office.app

    async def ask(self, operation: str, **arguments: Any) -> Any:
        """What the administrator is answered."""
        return await self.office.of("local", Role.admin).call(operation, **arguments)

    async def add(self, *events: str, **more: Any) -> int:
        """A webhook of the project; of the whole team with `project_slug=None`."""
        arguments = {"url": self.receiver.url, "events": list(events), "project_slug": self.office.slug, **more}
        added = await self.ask("add_webhook", **arguments)
        self.secrets[added.webhook.webhook_id] = added.secret
        return int(added.webhook.webhook_id)

    async def webhook(self, webhook_id: int) -> Any:
        """As it is listed."""
        found = (await self.ask("list_webhooks", limit=100)).webhooks
        return next(webhook for webhook in found if webhook.webhook_id == webhook_id)

    async def deliveries(self, webhook_id: int) -> list[Any]:
        """Newest first."""
        found = await self.ask("list_webhook_deliveries", webhook_id=webhook_id, limit=100)
        return list(found.deliveries)

    def payloads(self, webhook_id: int) -> list[Any]:
        """What was received, each with a good signature of that webhook."""
        return [verified(call, self.secrets[webhook_id]) for call in self.receiver.received]

    async def claim(self) -> Job | None:
        async with self.app.store.write() as db:
            return await db.jobs.claim(["webhook"], LEASE)

    async def due(self) -> Job:
        """The job of the only webhook, for which there is an event that can be read."""
        while True:  # a transaction of another database's may hide it for a moment
            async with self.app.store.read() as db:
                if not (await db.events.after(FIRST_POSITION, EventFilter(), 1000)).is_behind:
                    break
            await asyncio.sleep(0.01)
        await want_webhooks(self.app)
        job = await self.claim()
        assert job is not None
        return job

    async def do_jobs(self) -> int:
        """Do what is due, as one worker; how many jobs that were."""
        done = 0
        while (job := await self.claim()) is not None:
            performed = await perform(self.app, {"webhook": deliver_webhook}, job)
            assert performed.outcome == "done", performed
            done += 1
        return done

    async def work(self) -> None:
        """Do all there is to do for webhooks now, as the only worker."""
        while True:
            await want_webhooks(self.app)
            done = await self.do_jobs()
            async with self.app.store.read() as db:
                if not await db.webhooks.behind(WebhookId(0), 1):
                    return
            if not done:  # an open transaction hid an event: its job looks again a moment later
                await self.database.age("jobs", timedelta(seconds=1), "run_at")

    async def pass_time(self, by: timedelta) -> None:
        """As if so much had gone by."""
        await self.database.age("webhooks", by, "failing_since", "next_attempt_at", "disabled_at")
        await self.database.age("jobs", by, "run_at")


@asynccontextmanager
async def hooked(office: Office, database: Database) -> AsyncIterator[HookedOffice]:
    """The office with a receiver on the loopback address, which is allowed."""
    settings = office.app.settings.model_copy(update={"webhook_allowed_networks": LOOPBACK})
    outbound = HttpOutbound(LOOPBACK, timeouts=HASTY)
    async with receiver() as stand_in:
        app = replace(office.app, settings=settings, outbound=outbound)
        yield HookedOffice(office.at(app), stand_in, database, {})
    outbound.close()
