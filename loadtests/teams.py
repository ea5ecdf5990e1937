"""Agents at work in teams: they look or wait for mail, read it, acknowledge, answer, write, search, and check it all.

What an agent reads is compared with what it knows: nothing comes twice or behind a later message of its sender, the
unread count is what arrived less what it read itself, an answer is in its thread, a message that was sent is found.
What does not hold is a failure of its own in Locust's statistics, of the type CHECK.
"""

from __future__ import annotations

import itertools
import logging
import random
import secrets
from collections import Counter
from typing import Any

from locust import between, task
from locust.contrib.fasthttp import FastHttpUser

from loadtests.transports import GaveUp, Transport

TEAM = 10
PAGE = 50
LONGEST_WAIT = 5
RUN = secrets.token_hex(3)
"""New projects for every run: mail of earlier ones is in nobody's way."""

CHECKS: Counter[str] = Counter()
"""How often each thing was checked and held."""

WORDS = "parser cache retry index schema socket ledger cursor thread lease mutex branch merge patch token queue".split()
numbers = itertools.count()


class Broken(Exception):
    """A promise that did not hold."""


class Teammate(FastHttpUser):
    """One agent; its subclasses say how it calls and how it learns of news."""

    abstract = True
    wait_time = between(0.05, 0.5)
    network_timeout = 30.0
    connection_timeout = 10.0
    transport_class: type[Transport]
    is_waiting = False

    def on_start(self) -> None:
        """Join a team."""
        number = next(numbers)
        options = self.environment.parsed_options
        token = getattr(options, "token", None) or None
        self.chance = random.Random(f"{RUN} {number}")
        self.transport = self.transport_class(self.client, token, self.chance)
        self.project = f"load-{RUN}-{number // TEAM}"
        self.name = f"Mate{number}"
        self.others: list[str] = []
        self.cursor: str | None = None
        self.seen: set[int] = set()
        self.unread: set[int] = set()
        self.latest: dict[str, int] = {}
        self.sent = 0
        self.turns = 0
        self.call("ensure_project", human_key=self.project, slug=self.project)
        self.call("register_agent", project_slug=self.project, name=self.name, program="locust", model="none")

    def call(self, operation: str, **arguments: Any) -> dict[str, Any]:
        """The operation's result; raises GaveUp."""
        return self.transport.call(operation, **arguments)

    def check(self, what: str, holds: bool, detail: str) -> None:
        """Count that something holds, or report that it does not."""
        if holds:
            CHECKS[what] += 1
            return
        logging.getLogger(__name__).error("%s %s: %s: %s", self.project, self.name, what, detail)
        self.environment.events.request.fire(
            request_type="CHECK",
            name=what,
            response_time=0,
            response_length=0,
            exception=Broken(what),
            context={},
        )

    @task
    def turn(self) -> None:
        """Look for news, deal with it, and write."""
        self.turns += 1
        try:
            if self.turns % 20 == 1:
                page = self.call("list_agents", project_slug=self.project, limit=100)
                self.others = [agent["name"] for agent in page["agents"] if agent["name"] != self.name]
            news = self.look()
            if news:
                self.read(news)
            if news and self.chance.random() < 0.5:
                self.answer(self.chance.choice(news))
            elif self.others:
                self.write()
        except GaveUp:
            return

    # --- reading

    def look(self) -> list[dict[str, Any]]:
        """What came since the last look."""
        me = {"project_slug": self.project, "agent_name": self.name}
        if self.cursor is None:
            page = self.call("check_inbox", **me, limit=PAGE)
            is_whole = "older_cursor" not in page
            news = page["messages"][::-1]
        elif self.is_waiting:
            page = self.call("wait_for_messages", **me, cursor=self.cursor, timeout_seconds=LONGEST_WAIT)
            news, is_whole = page["messages"], len(page["messages"]) < 20
        else:
            page = self.call("check_inbox", **me, cursor=self.cursor, limit=PAGE, include_bodies=True)
            news, is_whole = page["messages"], len(page["messages"]) < PAGE
        self.cursor = page["cursor"]
        for message in news:
            self._notice(message)
        count, known = page["unread_count"], len(self.unread)
        holds = count == known if is_whole else count >= known
        self.check("unread is what came less what was read", holds, f"{count} unread, {known} known")
        return list(news)

    def _notice(self, message: dict[str, Any]) -> None:
        message_id, sender = message["message_id"], message["sender_name"]
        self.check("no message comes twice", message_id not in self.seen, str(message_id))
        self.seen.add(message_id)
        self.unread.add(message_id)
        number = int(message["subject"].rpartition("#")[2].split()[0])
        if not message["subject"].startswith("Re: "):
            last = self.latest.get(sender, 0)
            self.check("a sender's messages come in order", number > last, f"{sender}'s {number} after {last}")
            self.latest[sender] = max(number, last)

    def read(self, news: list[dict[str, Any]]) -> None:
        """Mark all as read, and acknowledge what asks for it."""
        me = {"project_slug": self.project, "agent_name": self.name}
        marked = self.call("mark_read", **me, message_ids=[message["message_id"] for message in news])
        for mark in marked["messages"]:
            self.check("what came can be marked as read", "read_at" in mark, str(mark))
            self.unread.discard(mark["message_id"])
        for message in news:
            if message["ack_required"]:
                first = self.call("acknowledge_message", **me, message_id=message["message_id"])
                again = self.call("acknowledge_message", **me, message_id=message["message_id"])
                self.check("the first acknowledgement stays", first == again, f"{first} and {again}")

    # --- writing

    def write(self) -> None:
        """A new message to one to three others; now and then it is searched for."""
        self.sent += 1
        token = f"t{RUN}n{self.name.lower()}x{self.sent}"
        recipients = self.chance.sample(self.others, min(len(self.others), self.chance.randint(1, 3)))
        sent = self.call(
            "send_message",
            project_slug=self.project,
            sender_name=self.name,
            recipient_names=recipients,
            subject=f"{self.chance.choice(WORDS)} #{self.sent} {token}",
            body_md=" ".join(self.chance.choices(WORDS, k=60)),
            ack_required=self.chance.random() < 0.3,
            idempotency_key=secrets.token_hex(12),
        )
        reached = sorted(delivery["name"] for delivery in sent["deliveries"])
        self.check("a message goes to those it is for", reached == sorted(recipients), f"{reached}, not {recipients}")
        if self.chance.random() < 0.2:
            found = self.call("search_messages", project_slug=self.project, query=token, limit=5)
            ids = [hit["message_id"] for hit in found["hits"]]
            self.check("what was sent is found", sent["message_id"] in ids, f"{token}: {ids}")

    def answer(self, message: dict[str, Any]) -> None:
        """Reply, and see the reply in the thread."""
        reply = self.call(
            "reply_message",
            project_slug=self.project,
            sender_name=self.name,
            message_id=message["message_id"],
            body_md=" ".join(self.chance.choices(WORDS, k=30)),
            idempotency_key=secrets.token_hex(12),
        )
        same = reply["thread_id"] == message["thread_id"]
        self.check("a reply stays in its thread", same, f"{reply['thread_id']}, not {message['thread_id']}")
        where = {"project_slug": self.project, "thread_id": message["thread_id"]}
        page = self.call("get_thread", **where, limit=100, include_bodies=False)
        ids = [each["message_id"] for each in page["messages"]]
        self.check("a thread is in order", ids == sorted(ids), str(ids))
        if "next_cursor" not in page:
            both = {message["message_id"], reply["message_id"]}
            self.check("a thread holds message and reply", both <= set(ids), f"{both}: {ids}")
