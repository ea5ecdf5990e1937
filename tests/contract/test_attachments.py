"""Attachments: the identical bytes, stored once a team, within its quota, for whoever may read them."""

import asyncio
import base64
import hashlib
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from agent_mail_core import attachments
from agent_mail_core.attachment_errors import AttachmentNotFound, AttachmentTooLarge, StorageQuotaExceeded
from agent_mail_core.attachments import (
    AddAttachment,
    AddedAttachment,
    AttachmentContent,
    GetAttachment,
    NewAttachment,
    add_attachment,
    check_linked,
    get_attachment,
    sweep_unlinked,
)
from agent_mail_core.errors import AgentNotFound, AgentNotYours, AgentRetired, IdempotencyConflict
from agent_mail_core.ids import MessageId
from agent_mail_core.ports import App, Role
from tests.contract.databases import Database
from tests.contract.foreign_mail import agent_id
from tests.contract.office import TEAM, Office
from tests.contract.test_races import insisting, outcomes

PLAN = b"# Plan\n"


async def add(office: Office, agent: str = "Ann", content: bytes = PLAN, **more: Any) -> AddedAttachment:
    fields = {
        "project_slug": office.slug,
        "agent_name": agent,
        "file_name": "plan.md",
        "content_base64": base64.b64encode(content).decode(),
        **more,
    }
    return await add_attachment(office.app, office.caller, AddAttachment(**fields))


async def get(office: Office, attachment_id: str) -> AttachmentContent:
    return await get_attachment(office.app, office.caller, GetAttachment(attachment_id=attachment_id))


async def link(office: Office, sender: str, *attachment_ids: str, to: str = "Bob") -> int:
    """A message with these attached, as a send links them."""
    sent = await office.send(sender, [to])
    async with office.app.store.write() as db:
        found = await db.attachments.linkable(await agent_id(office, sender), attachment_ids)
        await db.attachments.link(MessageId(sent.message_id), check_linked(attachment_ids, found))
    return sent.message_id


async def used(database: Database) -> list[str]:
    return (await database.dump())["team_usage"]


async def counts(database: Database) -> tuple[int, int]:
    dump = await database.dump()
    return len(dump["attachments"]), len(dump["blobs"])


@pytest.mark.parametrize(
    "content", [b"", b"\0", bytes(range(256)) * 41, "東京\r\n".encode(), b"x" * (10 * 1024 * 1024)], ids=len
)
async def test_the_bytes_come_back_as_they_were(office: Office, content: bytes) -> None:
    added = await add(office, content=content, media_type="application/x-thing")
    assert (added.size, added.sha256, added.replayed) == (len(content), hashlib.sha256(content).hexdigest(), False)
    found = await get(office, added.attachment_id)
    assert found.content_base64 == content
    assert found.model_dump(exclude={"content_base64"}) == added.model_dump(exclude={"created_at", "replayed"})
    assert found.model_dump(mode="json")["content_base64"] == base64.b64encode(content).decode()


async def test_a_file_larger_than_the_limit_is_refused(office: Office, database: Database) -> None:
    with pytest.raises(AttachmentTooLarge):
        await add(office, content=b"x" * (10 * 1024 * 1024 + 1))
    assert await counts(database) == (0, 0)


async def test_name_and_type_are_made_harmless(office: Office) -> None:
    added = await add(office, file_name="../../etc/pass\u202ewd.html", media_type="Text/HTML; charset=x")
    assert (added.file_name, added.media_type) == ("passwd.html", "text/html")
    assert (await add(office, file_name="data.bin", content=b"\x00\xff")).media_type == "application/octet-stream"


async def test_ids_cannot_be_guessed_and_equal_bytes_have_ids_of_their_own(office: Office) -> None:
    ids = {(await add(office)).attachment_id for _ in range(5)}
    assert len(ids) == 5
    assert all(len(bytes.fromhex(public_id)) == 16 for public_id in ids)


async def test_equal_bytes_are_stored_once_a_team_and_never_across(office: Office, database: Database) -> None:
    for _ in range(3):
        await add(office)
    assert await counts(database) == (3, 1)
    stranger = office.of("stranger", team_id=await database.add_team("other"))
    await stranger.ensure("office")
    await stranger.register("Ann")
    await add(stranger)
    assert await counts(database) == (4, 2)


async def test_before_it_is_linked_it_is_its_uploaders_alone(office: Office) -> None:
    added = await add(office)
    with pytest.raises(AttachmentNotFound) as seen:
        await get(office.of("somebody"), added.attachment_id)
    with pytest.raises(AttachmentNotFound) as unknown:
        await get(office.of("somebody"), "0" * 32)
    assert seen.value.args == unknown.value.args
    assert seen.value.data.keys() == unknown.value.data.keys()
    assert (await get(office.of("root", role=Role.admin), added.attachment_id)).content_base64 == PLAN
    await link(office, "Ann", added.attachment_id)
    assert (await get(office.of("somebody"), added.attachment_id)).content_base64 == PLAN


async def test_another_teams_is_unknown(office: Office, database: Database) -> None:
    added = await add(office)
    await link(office, "Ann", added.attachment_id)
    stranger = office.of("stranger", Role.admin, await database.add_team("other"))
    with pytest.raises(AttachmentNotFound):
        await get(stranger, added.attachment_id)


async def test_only_an_agents_owner_uploads_for_it(office: Office) -> None:
    with pytest.raises(AgentNotYours):
        await add(office.of("somebody"))
    with pytest.raises(AgentNotFound):
        await add(office, "Nobody")
    await office.retire("Ann")
    with pytest.raises(AgentRetired):
        await add(office)


async def test_the_same_key_answers_the_same_again(office: Office, database: Database) -> None:
    first = await add(office, idempotency_key="k")
    again = await add(office, idempotency_key="k")
    assert again == first.model_copy(update={"replayed": True})
    assert await counts(database) == (1, 1)
    for other in ({"content": b"other"}, {"file_name": "other"}, {"media_type": "text/x"}):
        with pytest.raises(IdempotencyConflict):
            await add(office, idempotency_key="k", **other)
    assert (await add(office, "Bob", idempotency_key="k")).attachment_id != first.attachment_id


async def test_racing_uploads_with_one_key_store_one(workers: list[App], office: Office, database: Database) -> None:
    calls = [insisting(lambda n=n: add(office.at(workers[n % len(workers)]), idempotency_key="k")) for n in range(12)]  # type: ignore[misc]
    answers, errors = await outcomes(calls)
    assert errors == []
    assert len({answer.attachment_id for answer in answers}) == 1
    assert await counts(database) == (1, 1)


async def test_the_quota_holds_under_a_race(
    workers: list[App], office: Office, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attachments, "TEAM_QUOTA", 1000)

    def upload(number: int) -> Callable[[], Any]:
        return lambda: add(office.at(workers[number % len(workers)]), content=b"%03d" % number * 100)

    answers, errors = await outcomes([insisting(upload(n)) for n in range(12)])
    assert len(answers) == 3
    assert {type(error) for error in errors} == {StorageQuotaExceeded}
    assert "900" in (await used(database))[0]
    assert await counts(database) == (3, 3)
    again = await add(office, content=await _bytes_of(office, answers[0]))  # it is there already
    assert again.size == 300
    assert "900" in (await used(database))[0]


async def _bytes_of(office: Office, added: AddedAttachment) -> bytes:
    return (await get(office, added.attachment_id)).content_base64


async def test_one_may_link_its_own_and_what_it_sent_or_received(office: Office) -> None:
    async def linkable(agent: str, *ids: str) -> list[str]:
        async with office.app.store.write() as db:
            found = await db.attachments.linkable(await agent_id(office, agent), ids)
        return [record.public_id for record in found]

    one, two = (await add(office)).attachment_id, (await add(office, "Bob")).attachment_id
    assert await linkable("Ann", two, one, "0" * 32) == [one]
    assert await linkable("Cid", one, two) == []
    await link(office, "Ann", one, to="Cid")
    assert await linkable("Cid", two, one) == [one]
    assert await linkable("Dot", one) == []


async def test_a_message_shows_its_attachments_in_order(office: Office) -> None:
    ids = [(await add(office, file_name=f"{n}.txt")).attachment_id for n in range(3)]
    first = await link(office, "Ann", ids[2], ids[0])
    second = await link(office, "Ann", ids[1])
    bare = (await office.send("Ann", ["Bob"])).message_id
    async with office.app.store.read() as db:
        found = await db.attachments.of_messages([MessageId(n) for n in (second, bare, first)])
    assert {message: [file.file_name for file in files] for message, files in found.items()} == {
        first: ["2.txt", "0.txt"],
        second: ["1.txt"],
    }


async def test_the_sweep_removes_what_no_message_links_to_after_a_day(office: Office, database: Database) -> None:
    linked, loose, same_bytes = await add(office), await add(office, content=b"loose"), await add(office)
    await link(office, "Ann", linked.attachment_id)
    assert await sweep_unlinked(office.app) == 0
    await database.age("attachments", timedelta(hours=25))
    young = await add(office, content=b"young")
    assert await sweep_unlinked(office.app, limit=1) == 1
    assert await sweep_unlinked(office.app) == 1
    assert await counts(database) == (2, 2)
    assert str(len(PLAN) + 5) in (await used(database))[0]
    for gone in (loose, same_bytes):
        with pytest.raises(AttachmentNotFound):
            await get(office, gone.attachment_id)
    assert (await get(office, linked.attachment_id)).content_base64 == PLAN
    assert (await get(office, young.attachment_id)).content_base64 == b"young"


async def test_a_sweep_never_takes_bytes_that_an_upload_refers_to(
    workers: list[App], office: Office, database: Database
) -> None:
    for _ in range(8):
        await add(office)
        await database.age("attachments", timedelta(hours=25))
        calls = [insisting(lambda n=n: add(office.at(workers[n % len(workers)]))) for n in range(4)]  # type: ignore[misc]
        sweeps = [insisting(lambda n=n: sweep_unlinked(workers[n % len(workers)])) for n in range(2)]  # type: ignore[misc]
        added, _ = await asyncio.gather(outcomes(calls), outcomes(sweeps))
        assert added[1] == []
        for answer in added[0]:
            assert await _bytes_of(office, answer) == PLAN
    assert (await counts(database))[1] == 1
    assert str(len(PLAN)) in (await used(database))[0]


async def test_a_file_that_cannot_be_stored_leaves_nothing(office: Office, database: Database) -> None:
    before = await database.dump()
    new = NewAttachment(
        "0" * 32, TEAM, (await _project_id(office)), await agent_id(office, "Ann"), "a", "b/c", b"x" * 32, PLAN
    )
    with pytest.raises(StorageQuotaExceeded):
        async with office.app.store.write() as db:
            await db.attachments.add(new, len(PLAN) - 1)
    assert await database.dump() == before


async def _project_id(office: Office) -> Any:
    async with office.app.store.read() as db:
        project = await db.projects.find(TEAM, office.slug)
    assert project is not None
    return project.id
