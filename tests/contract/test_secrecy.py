"""bcc is the one secret: nobody but the sender and that recipient can tell it from any answer (SPEC 3.3 rule 8).

Two projects are told apart only by bcc deliveries to Zebulon. Whatever a bystander or a visible recipient can ask must
answer the same in both.
"""

import re
from collections.abc import Awaitable, Callable

import pytest

from agent_mail_core.fields import Result
from agent_mail_core.ports import Role
from tests.contract.databases import Database
from tests.contract.office import Office, caller

SECRET = "Zebulon"


async def correspondence(office: Office, slug: str, with_secret: bool) -> tuple[Office, list[int]]:
    """A project in which Ann writes to Bob and Cid: openly, and in one of the two also to Zebulon, who reads it."""
    await office.ensure(slug)
    office = Office(office.app, caller("p-ann"), slug)
    for name in ("Ann", "Bob", "Cid", "Eve", SECRET):
        await office.of(f"p-{name.lower()}").register(name)
    bcc = [SECRET] if with_secret else []
    first = await office.send(
        "Ann", ["Bob"], cc=["Cid"], bcc=bcc, thread_id="Feat-1", subject="Plan", ack_required=True, body="Hello"
    )
    second = await office.of("p-bob").reply("Bob", first.message_id, reply_all=True)
    third = await office.send("Ann", ["Bob"], bcc=bcc, thread_id="Feat-2", subject="More", ack_required=True)
    if with_secret:
        zebulon = office.of(f"p-{SECRET.lower()}")
        await zebulon.mark_read(SECRET, first.message_id)
        await zebulon.acknowledge(SECRET, third.message_id)
    return office, [first.message_id, second.message_id, third.message_id]


Ask = Callable[[Office, list[int]], Awaitable[Result]]
ANYBODY: dict[str, Ask] = {
    "get_project": lambda office, ids: office.project(),
    "list_agents": lambda office, ids: office.agents(),
    "whois the secret recipient": lambda office, ids: office.whois(SECRET),
    "whois the sender": lambda office, ids: office.whois("Ann"),
    "whois a recipient": lambda office, ids: office.whois("Bob"),
    "get_message": lambda office, ids: office.get(ids[0]),
    "get_message, the second": lambda office, ids: office.get(ids[2]),
    "list_pending_acks": lambda office, ids: office.pending(),
    "list_threads": lambda office, ids: office.threads(),
    "list_threads of the secret recipient": lambda office, ids: office.threads(agent_name=SECRET),
    "get_thread": lambda office, ids: office.thread("Feat-1"),
    "get_thread, the second": lambda office, ids: office.thread("Feat-2"),
    "search_messages": lambda office, ids: office.search("plan"),
    "search_messages of the secret recipient": lambda office, ids: office.search("plan OR more", agent_name=SECRET),
    "search_messages for its name": lambda office, ids: office.search(SECRET),
    "search_messages from it": lambda office, ids: office.search(f"from:{SECRET}"),
}
RECIPIENT: dict[str, Ask] = {
    "check_inbox": lambda office, ids: office.inbox("Bob", include_bodies=True),
    "wait_for_messages": lambda office, ids: office.wait("Bob", include_bodies=True),
    "list_outbox": lambda office, ids: office.outbox("Bob", include_bodies=True),
    "get_message as itself": lambda office, ids: office.get(ids[0], "Bob"),
    "list_pending_acks by itself": lambda office, ids: office.pending("Bob"),
    "list_pending_acks to itself": lambda office, ids: office.pending("Bob", direction="owed_to_me"),
    "acknowledge_message": lambda office, ids: office.acknowledge("Bob", ids[0]),
    "reply_message to all": lambda office, ids: office.reply("Bob", ids[0], reply_all=True),
}
TIME = re.compile(r"\d{4}-\d\d-\d\dT[0-9:.]+Z")
CURSOR = re.compile(r'"(cursor|older_cursor|next_cursor)":"[^"]*"')


def as_text(answer: Result, office: Office, ids: list[int]) -> str:
    """An answer without what differs between two projects in any case: times, cursors, ids, the slug."""
    text = CURSOR.sub("<cursor>", TIME.sub("<time>", answer.model_dump_json()))
    for number, message_id in enumerate(ids):
        text = re.sub(rf'(message_id|parent_id)":{message_id}\b', rf'\1":<id {number}>', text)
    text = re.sub(r'"message_id":\d+', '"message_id":<new>', text)
    return text.replace(office.slug, "<project>")


@pytest.mark.parametrize("ask", [*ANYBODY, *RECIPIENT])
async def test_an_answer_is_the_same_with_and_without_a_bcc(office: Office, ask: str) -> None:
    principals = ["p-eve", "p-bob"] if ask in ANYBODY else ["p-bob"]
    for principal in principals:
        texts = []
        for slug, with_secret in ((f"with-{principal}", True), (f"none-{principal}", False)):
            project, ids = await correspondence(office, slug, with_secret)
            seen = project.of(principal)
            texts.append(as_text(await {**ANYBODY, **RECIPIENT}[ask](seen, ids), seen, ids))
        assert texts[0] == texts[1]


async def test_nothing_about_a_message_names_its_bcc_to_a_bystander(office: Office) -> None:
    """As above, with the name searched for: the answers that do not list the project's agents hold it nowhere."""
    project, ids = await correspondence(office, "with", True)
    for ask, call in {**ANYBODY, **RECIPIENT}.items():
        if ask in ("get_project", "list_agents", "whois the secret recipient"):
            continue
        asker = project.of("p-eve" if ask in ANYBODY else "p-bob", Role.writer)
        assert SECRET not in (await call(asker, ids)).model_dump_json(), ask


async def test_no_event_tells_of_a_bcc(office: Office, database: Database) -> None:
    project, _ = await correspondence(office, "with", True)
    async with office.app.store.read() as db:
        _, zebulon = await db.agents.find(project.caller.team_id, "with", SECRET)
    assert zebulon is not None
    of_secret = [event for event in await database.events() if event.agent_id == zebulon.id]
    assert [event.kind for event in of_secret] == ["agent.registered"]
    others = [event for event in await database.events() if event.agent_id != zebulon.id]
    assert SECRET not in str(others)


async def test_an_event_is_written_for_what_a_bcc_recipient_got_openly(office: Office) -> None:
    project, ids = await correspondence(office, "with", True)
    sent = await project.send("Ann", [SECRET])
    await project.of("p-zebulon").mark_read(SECRET, ids[2], sent.message_id)
    activity = (await project.of("p-eve").whois(SECRET)).recent_activity
    assert [(item.kind, item.message_id) for item in activity] == [
        ("message.read", sent.message_id),
        ("agent.registered", None),
    ]


async def test_the_sender_sees_its_bcc_everywhere(office: Office) -> None:
    project, ids = await correspondence(office, "with", True)
    assert SECRET in (await project.get(ids[0], "Ann")).model_dump_json()
    assert SECRET in (await project.outbox("Ann")).model_dump_json()
    owed = (await project.pending("Ann", direction="owed_to_me")).pending
    assert [(item.message_id, item.agent_name, item.kind) for item in owed if item.agent_name == SECRET] == [
        (ids[0], SECRET, "bcc")
    ]
    assert SECRET not in (await project.get(ids[0])).model_dump_json()


async def test_the_bcc_recipient_sees_itself_and_no_other(office: Office) -> None:
    project, _ = await correspondence(office, "with", True)
    sent = await project.send(
        "Ann", ["Bob"], bcc=[SECRET, "Eve"], thread_id="Feat-3", subject="Both", ack_required=True
    )
    zebulon = project.of("p-zebulon")
    shown = await zebulon.get(sent.message_id, SECRET)
    assert [(item.name, item.kind) for item in shown.recipients] == [("Bob", "to"), (SECRET, "bcc")]
    assert [message.kind for message in (await zebulon.inbox(SECRET)).messages] == ["bcc", "bcc", "bcc"]
    assert (await zebulon.inbox(SECRET)).unread_count == 1
    assert [item.agent_name for item in (await zebulon.pending(SECRET)).pending] == [SECRET, SECRET]
    assert [thread.thread_id for thread in (await zebulon.threads(agent_name=SECRET)).threads] == [
        "Feat-3",
        "Feat-2",
        "Feat-1",
    ]
    assert {hit.subject for hit in (await zebulon.search("both OR plan", agent_name=SECRET)).hits} == {"Both", "Plan"}
    own = await zebulon.whois(SECRET)
    assert (own.received_count, own.unread_count) == (3, 1)


async def test_who_was_bcc_and_later_takes_part_openly_is_a_participant_from_then_on(office: Office) -> None:
    project, ids = await correspondence(office, "with", True)
    eve = project.of("p-eve")
    assert SECRET not in (await eve.thread("Feat-1")).thread.participants
    await project.send("Ann", [SECRET], thread_id="Feat-1")
    assert SECRET in (await eve.thread("Feat-1")).thread.participants
    await project.of("p-zebulon").reply(SECRET, ids[2])
    assert SECRET in (await eve.thread("Feat-2")).thread.participants


async def test_who_takes_part_openly_stays_a_participant_when_bcc_later(office: Office) -> None:
    project, _ = await correspondence(office, "with", True)
    await project.send("Ann", ["Eve"], thread_id="Feat-9")
    await project.send("Ann", ["Bob"], bcc=["Eve"], thread_id="Feat-9")
    assert (await project.of("p-cid").thread("Feat-9")).thread.participants == ["Ann", "Bob", "Eve"]
