"""A project that is deleted while a send from it to another is under way: whichever comes first is whole."""

import asyncio
from dataclasses import replace

import pytest

from agent_mail_core.delivery import Draft
from agent_mail_core.project_deletion import sweep_deleted
from agent_mail_store.postgres import delivery
from agent_mail_store.postgres.statements import Statements
from tests.contract.conftest import StoreFamily
from tests.contract.office import Office
from tests.contract.test_project_deletion import branch, delete

__all__ = ["branch"]


@pytest.mark.parametrize("database", [pytest.param("postgres", marks=pytest.mark.postgres)], indirect=True)
@pytest.mark.parametrize("thread_id", [None, "OLD", "NEW"])
async def test_a_send_below_its_locks_holds_its_project(
    office: Office, branch: Office, family: StoreFamily, monkeypatch: pytest.MonkeyPatch, thread_id: str | None
) -> None:
    await office.send("Ann", ["Bob"], thread_id="OLD")
    is_below, may_go_on = asyncio.Event(), asyncio.Event()
    new_ids = delivery._new_ids

    async def paused(db: Statements, drafts: list[Draft]) -> delivery._New:
        found = await new_ids(db, drafts)
        is_below.set()
        await may_go_on.wait()
        return found

    monkeypatch.setattr(delivery, "_new_ids", paused)
    sending = asyncio.create_task(office.send("Ann", ["Eve@branch"], thread_id=thread_id))
    await is_below.wait()
    other = replace(office, app=replace(office.app, store=await family.open()))
    deleting = asyncio.create_task(delete(other))
    done, _ = await asyncio.wait({deleting}, timeout=0.5)
    may_go_on.set()
    await asyncio.gather(sending, deleting)
    assert not done, "it waits for the send"
    for _ in range(5):
        inbox = await branch.inbox("Eve")
        assert (inbox.messages, inbox.unread_count) == ([], 0)
        await sweep_deleted(other.app, 50)


async def test_sends_and_the_deletion_of_their_project_at_once(office: Office, branch: Office) -> None:
    sends = [office.send("Ann", ["Eve@branch", "Bob"]) for _ in range(40)]
    results = await asyncio.gather(*sends[:20], delete(office), *sends[20:], return_exceptions=True)
    assert not isinstance(results[20], BaseException)
    for _ in range(5):
        inbox = await branch.inbox("Eve")
        assert (inbox.messages, inbox.unread_count) == ([], 0)
        await sweep_deleted(office.app, 50)
