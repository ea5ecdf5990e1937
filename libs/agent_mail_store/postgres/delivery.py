"""Delivering: one transaction that decides several sends of a team and stores those that may be stored.

Locks are taken in the order of DESIGN 5: idempotency keys, threads, mailboxes. Ids and time are taken below them, so
that ids in a thread and positions in a mailbox become visible in order. What turns out to have changed since the facts
were read raises TransactionConflict: the caller rolls back and runs its sends again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TypeAlias

from agent_mail_core.admission import Acquaintance, Pair
from agent_mail_core.deciding import decide
from agent_mail_core.delivery import Delivered, Draft, OpenPairs, Outgoing, SentMessage
from agent_mail_core.errors import AgentMailError, TransactionConflict
from agent_mail_core.idempotency import StoredAnswer
from agent_mail_core.ids import MessageId, ProjectId, TeamId, ThreadId
from agent_mail_store.postgres.attachments import PostgresAttachments
from agent_mail_store.postgres.contacts import acquaintances
from agent_mail_store.postgres.delivery_facts import facts_of
from agent_mail_store.postgres.delivery_rows import NewMessage, insert_messages
from agent_mail_store.postgres.idempotency import stored_answers, take_keys
from agent_mail_store.postgres.mailboxes import lock_mailboxes
from agent_mail_store.postgres.message_search import StoredBody
from agent_mail_store.postgres.statements import Statements
from agent_mail_store.postgres.threads import lock_threads

Outcome: TypeAlias = Delivered | AgentMailError


@dataclass(frozen=True, slots=True)
class Parcel:
    """A send and what is stored of its body."""

    send: Outgoing
    body: StoredBody


async def deliver_together(db: Statements, team_id: TeamId, parcels: Sequence[Parcel]) -> list[Outcome]:
    """Decide and store sends of one team, no two with one idempotency key; their outcomes, good once committed."""
    facts = await facts_of(db, team_id, [parcel.send for parcel in parcels])
    outcomes: dict[int, Outcome] = {}
    drafts: dict[int, Draft] = {}
    open_pairs: dict[int, OpenPairs] = {}
    known: dict[Pair, Acquaintance] = {}

    def settle(number: int) -> None:
        try:
            decided = decide(parcels[number].send, facts[number])
        except AgentMailError as error:
            outcomes[number] = error
            return
        if isinstance(decided, SentMessage):
            outcomes[number] = Delivered(decided)
        elif isinstance(decided, OpenPairs):
            open_pairs[number] = decided
        else:
            drafts[number] = decided

    for number in range(len(parcels)):
        settle(number)
    if open_pairs:
        known = await acquaintances(db, {pair for question in open_pairs.values() for pair in question.pairs})
        for number in open_pairs:
            facts[number] = replace(facts[number], known=known)
            settle(number)
    for number, answer in (await _answers_of_racers(db, team_id, drafts)).items():
        del drafts[number]
        facts[number] = replace(facts[number], answer=answer)
        settle(number)
    if drafts:
        numbers = list(drafts)
        rests_on = {pair: known[pair] for number in open_pairs.keys() & drafts for pair in open_pairs[number].pairs}
        bodies = [parcels[number].body for number in numbers]
        stored = await _store(db, team_id, list(drafts.values()), bodies, rests_on)
        outcomes.update(zip(numbers, stored, strict=True))
    return [outcomes[number] for number in range(len(parcels))]


async def _answers_of_racers(db: Statements, team_id: TeamId, drafts: Mapping[int, Draft]) -> dict[int, StoredAnswer]:
    """Take the drafts' keys; what is stored under those that somebody took since the facts were read."""
    keyed = {draft.scope: number for number, draft in drafts.items() if draft.scope is not None}
    if not keyed:
        return {}
    taken = await take_keys(db, team_id, [(scope, drafts[number].fingerprint) for scope, number in keyed.items()])
    lost = [scope for scope in keyed if scope not in taken]
    if not lost:
        return {}
    answers = await stored_answers(db, team_id, lost)
    if len(answers) < len(lost):
        raise TransactionConflict
    return {keyed[scope]: answers[scope] for scope in lost}


# --- storing ----------------------------------------------------------------------------------------------------------


async def _store(
    db: Statements,
    team_id: TeamId,
    drafts: Sequence[Draft],
    bodies: Sequence[StoredBody],
    known: Mapping[Pair, Acquaintance],
) -> list[Delivered]:
    """Store what was decided, unless it rests on what is no longer so: `known`, and what `_new_ids` looks at."""
    shared = iter(await _threads(db, team_id, [draft for draft in drafts if not draft.begins_thread]))
    recipients = list({actor.agent.id: None for draft in drafts for actor, _ in draft.recipients})
    positions = await lock_mailboxes(db, recipients)
    new = await _new_ids(db, drafts)
    if len(positions) < len(recipients):
        raise TransactionConflict
    if known and await acquaintances(db, known) != known:
        raise TransactionConflict
    messages, begun, created_at = [], iter(new.thread_ids), new.created_at
    for message_id, draft, body in zip(new.message_ids, drafts, bodies, strict=True):
        thread_id, key = (next(begun), draft.thread_key) if draft.begins_thread else next(shared)
        answer = draft.sent(message_id, key, created_at)
        messages.append(NewMessage(message_id, thread_id, key, draft, body, answer))
    await insert_messages(db, team_id, messages, positions, created_at)
    for message in messages:
        if message.draft.attachments:
            await PostgresAttachments(db).link(message.id, message.draft.attachments)
    return [
        Delivered(message.answer, tuple(actor.agent.id for actor, _ in message.draft.recipients), message.draft.missing)
        for message in messages
    ]


async def _threads(db: Statements, team_id: TeamId, drafts: Sequence[Draft]) -> list[tuple[ThreadId, str]]:
    """Lock each draft's thread, making it if it is new; its id and its key as it is spelled."""
    if not drafts:
        return []
    known = {draft.thread_id for draft in drafts if draft.thread_id is not None}
    wanted: dict[tuple[ProjectId, str], tuple[str, str]] = {}
    for draft in drafts:
        if draft.thread_id is None:
            wanted.setdefault((draft.project_id, draft.thread_key.lower()), (draft.thread_key, draft.subject))
    locked = await lock_threads(db, team_id, known, wanted)
    by_id = {thread_id: (thread_id, key) for thread_id, _, key in locked}
    by_key = {(project_id, key.lower()): (thread_id, key) for thread_id, project_id, key in locked}
    found = []
    for draft in drafts:
        if draft.thread_id is not None:
            thread = by_id.get(draft.thread_id)
        else:
            thread = by_key.get((draft.project_id, draft.thread_key.lower()))
        if thread is None:
            raise TransactionConflict
        found.append(thread)
    return found


@dataclass(frozen=True, slots=True)
class _New:
    """What messages get below the locks: ids in order, and the time."""

    message_ids: list[MessageId]
    thread_ids: list[ThreadId]
    """For those that begin one."""
    created_at: datetime


async def _new_ids(db: Statements, drafts: Sequence[Draft]) -> _New:
    """New ids and the time, by a statement that begins under the locks and sees who has left, blocked or closed.

    Whoever leaves, blocks or sets its policy holds its mailbox, so that nothing reaches it in spite of that once it has
    been answered. A project that is deleted holds its row, and none of the mailboxes of others: it is held from here
    on.
    """
    agents = [draft.sender.agent for draft in drafts]
    agents += [actor.agent for draft in drafts for actor, _ in draft.recipients]
    agent_ids = {agent.id for agent in agents}
    project_ids = {draft.project_id for draft in drafts}
    row = await db.the_row(
        """
        WITH held AS (
            SELECT id FROM projects WHERE id = ANY ($4::bigint[]) AND deleted_at IS NULL ORDER BY id FOR KEY SHARE
        )
        SELECT ARRAY (SELECT nextval('messages_id_seq') FROM unnest($1::smallint[])) AS message_ids,
               ARRAY (SELECT nextval('threads_id_seq') FROM unnest($2::smallint[])) AS thread_ids,
               clock_timestamp() AS now,
               ARRAY (SELECT id || ' ' || contact_policy FROM agents
                      WHERE id = ANY ($3::bigint[]) AND retired_at IS NULL) AS present,
               (SELECT count(*) FROM held) AS projects,
               -- Not by pairs: what it costs to plan must not hang on how many there are, see $1.
               ARRAY (SELECT ARRAY[agent_id, blocked_id] FROM blocks
                      WHERE agent_id = ANY ($3::bigint[]) AND blocked_id = ANY ($3::bigint[])) AS blocks
        """,
        # Not a number for generate_series(): it would be planned for that number, each time.
        list(range(len(drafts))),
        list(range(sum(draft.begins_thread for draft in drafts))),
        list(agent_ids),
        list(project_ids),
    )
    if row["projects"] < len(project_ids) or set(row["present"]) != {f"{a.id} {a.contact_policy}" for a in agents}:
        raise TransactionConflict
    blocks = {(agent_id, blocked_id) for agent_id, blocked_id in row["blocks"]}
    if any(
        (actor.agent.id, draft.sender.agent.id) in blocks
        for draft in drafts
        if blocks and not draft.sender.agent.is_service
        for actor, _ in draft.recipients
    ):
        raise TransactionConflict
    return _New(sorted(row["message_ids"]), row["thread_ids"], row["now"])
