"""Mail to an agent of another project, stored behind the store's back: for tests of what follows from it."""

from agent_mail_core.ids import AgentId, MessageId
from tests.contract.databases import Database
from tests.contract.office import Office


async def agent_id(office: Office, name: str) -> AgentId:
    async with office.app.store.read() as db:
        _, agent = await db.agents.find(office.caller.team_id, office.slug, name)
    assert agent is not None
    return agent.id


async def deliver_across(database: Database, message_id: MessageId | int, recipient: AgentId) -> None:
    """One more recipient of a message that went to somebody, as if it had been sent to both."""
    await database.execute(
        f"UPDATE mailboxes SET position = position + 1, unread = unread + 1 WHERE agent_id = {recipient}",
        f"""
        INSERT INTO deliveries (agent_id, position, message_id, project_id, sender_id, thread_id, kind, place, priority,
            ack_required, created_at)
        SELECT b.agent_id, b.position, d.message_id, d.project_id, d.sender_id, d.thread_id, 0, 50, d.priority,
            d.ack_required, d.created_at
        FROM deliveries d CROSS JOIN mailboxes b
        WHERE d.message_id = {message_id} AND b.agent_id = {recipient} LIMIT 1
        """,
        f"""
        INSERT INTO thread_participants (thread_id, agent_id, is_hidden)
        SELECT p.thread_id, {recipient}, p.is_hidden FROM messages m
        JOIN thread_participants p ON p.thread_id = m.thread_id AND p.agent_id = m.sender_id
        WHERE m.id = {message_id}
        ON CONFLICT DO NOTHING
        """,
    )
