"""The mail of a product: product_inbox. Whose mail it shows is decided here, which rows that means by the store."""

from __future__ import annotations

from pydantic import Field

from agent_mail_core.agents import AgentRecord, may_act_as
from agent_mail_core.cursors import list_cursor, list_scope, open_list_cursor
from agent_mail_core.errors import AgentNotFound, AgentNotYours
from agent_mail_core.fields import AgentName, Cursor, PageSize, Request, Result
from agent_mail_core.ids import MessageId
from agent_mail_core.messages import Message, by_message, message_fields
from agent_mail_core.ports import App, Caller, Transaction
from agent_mail_core.products import ProductName, ProductRecord, the_product


class ProductInbox(Request):
    product_name: ProductName
    agent_name: AgentName | None = Field(None, description="Only what your agents of this name got, in any project")
    limit: PageSize = 20
    cursor: Cursor | None = None


class ProductMail(Result):
    messages: list[Message]
    next_cursor: str | None = None


async def product_inbox(app: App, caller: Caller, request: ProductInbox) -> ProductMail:
    """Show the mail of all projects of a product, newest first, without bodies; or one agent's over all of them."""
    async with app.store.read() as db:
        product = await the_product(db, caller, request.product_name)
        own = await _own_agents(app, db, caller, product, request.agent_name) if request.agent_name else None
        agent_ids = sorted(agent.id for agent in own) if own is not None else None
        scope = list_scope("product_inbox", caller.team_id, product.id, agent_ids)
        last = open_list_cursor(app.store.identity, scope, request.cursor, int)
        before = MessageId(last[0]) if last else None
        if agent_ids is None:
            rows = await db.products.messages(product.id, before, request.limit + 1)
        else:
            rows = await db.products.received(agent_ids, before, request.limit + 1)
        page = rows[: request.limit]
        states = by_message(await db.messages.recipients([record.id for record in page]))
    messages = []
    for record in page:
        recipients = states.get(record.id, [])
        # One's own bcc is shown to oneself; of two agents of that name each sees its own.
        viewer = next((state.agent_id for state in recipients if state.agent_id in (agent_ids or ())), None)
        messages.append(Message(**message_fields(record, recipients, viewer)))
    return ProductMail(
        messages=messages,
        next_cursor=list_cursor(app.store.identity, scope, [page[-1].id]) if len(rows) > len(page) else None,
    )


async def _own_agents(
    app: App, db: Transaction, caller: Caller, product: ProductRecord, name: str
) -> list[AgentRecord]:
    named = await db.products.agents_named(product.id, name)
    if not named:
        raise AgentNotFound(
            f"No project of product {product.name!r} has an agent {name!r}.",
            agent_name=name,
            product_name=product.name,
            suggestion="list_products, then list_agents",
        )
    own = [agent for agent in named if may_act_as(caller, agent)]
    if not own:
        raise AgentNotYours(agent_name=named[0].name)
    for agent in own:
        app.presence.saw(agent.id)
    return own
