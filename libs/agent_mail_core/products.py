"""Products: named groups of a team's projects, whose agents may write to each other and be searched together."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Protocol

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from agent_mail_core.agents import AgentRecord
from agent_mail_core.cursors import list_cursor, list_scope, open_list_cursor
from agent_mail_core.errors import ProductNotFound
from agent_mail_core.events import EventKind, NewEvent
from agent_mail_core.fields import Cursor, Description, Line, PageSize, ProjectRef, Request, Result, is_blank
from agent_mail_core.ids import AgentId, MessageId, ProductId, TeamId
from agent_mail_core.messages import MessageRecord
from agent_mail_core.pages import PAGE_CHARACTERS
from agent_mail_core.ports import App, Caller, Transaction
from agent_mail_core.projects import Project, ProjectRecord, project_result, the_project
from agent_mail_core.suggestions import near_names

MAX_PROJECTS = 100
"""Of a product, so that every list of them fits an answer."""

PRODUCTS_AT_ONCE = 10
"""Whose projects are read together for a list."""

NEAR_NAME_POOL = 1000


NAME_LENGTH = 100
"""Characters of a product's name as it is stored."""


def _name(text: str) -> str:
    name = unicodedata.normalize("NFC", text).strip()
    if is_blank(name):
        raise PydanticCustomError("blank", "must not be blank")
    if len(name) > NAME_LENGTH:
        raise PydanticCustomError("too_long", f"must have at most {NAME_LENGTH} characters once normalized (NFC)")
    return name


ProductName = Annotated[Line, Field(min_length=1, max_length=NAME_LENGTH), AfterValidator(_name)]
"""A product's name, compared exactly once normalized (NFC, no blanks around it)."""


@dataclass(frozen=True, slots=True)
class ProductRecord:
    """A product as stored."""

    id: ProductId
    team_id: TeamId
    name: str
    description: str | None
    created_at: datetime


class Products(Protocol):
    """Store of products. Deleted projects belong to none."""

    async def ensure(self, team_id: TeamId, name: str, description: str | None) -> tuple[ProductRecord, bool]:
        """The team's product of that name and whether this call made it; takes a description that is not None.

        Atomic: of callers racing with one name, one makes it and all get the same.
        """
        ...

    async def find(self, team_id: TeamId, name: str) -> ProductRecord | None:
        """By name."""
        ...

    async def link(self, product: ProductRecord, project: ProjectRecord, limit: int) -> bool:
        """Add the project; False when it is in the product already. ProductFull when that has `limit` projects.

        Atomic: callers racing never link more than `limit`.
        """
        ...

    async def unlink(self, product: ProductRecord, project: ProjectRecord) -> bool:
        """Take the project out; False when it is not in the product."""
        ...

    async def page(self, team_id: TeamId, after_name: str | None, limit: int) -> list[ProductRecord]:
        """In order of the name's code points, those after `after_name`."""
        ...

    async def names(self, team_id: TeamId, limit: int) -> list[str]:
        """Some of the team's names, newest first."""
        ...

    async def projects(self, product_ids: Sequence[ProductId]) -> dict[ProductId, list[ProjectRecord]]:
        """The projects of each, in order of slug."""
        ...

    async def agents_named(self, product_id: ProductId, name: str) -> list[AgentRecord]:
        """The agents of that name, ignoring ASCII case, in the product's projects."""
        ...

    async def messages(self, product_id: ProductId, before: MessageId | None, limit: int) -> list[MessageRecord]:
        """The messages of its projects without bodies, newest first, below the id `before`."""
        ...

    async def received(self, agent_ids: Sequence[AgentId], before: MessageId | None, limit: int) -> list[MessageRecord]:
        """What any of these agents got, without bodies, each message once, newest first, below the id `before`."""
        ...


class Product(Result):
    """A product with its projects, A-Z."""

    name: str
    description: str | None = None
    created_at: datetime
    projects: list[Project]


def product_result(record: ProductRecord, projects: Sequence[ProjectRecord]) -> Product:
    """A stored product as the wire shows it."""
    return Product(
        name=record.name,
        description=record.description,
        created_at=record.created_at,
        projects=[project_result(project) for project in projects],
    )


async def the_product(db: Transaction, caller: Caller, name: str) -> ProductRecord:
    """The caller's product of that name, as ProductName makes it, or ProductNotFound with near names."""
    record = await db.products.find(caller.team_id, name)
    if record is not None:
        return record
    near = near_names(name, await db.products.names(caller.team_id, NEAR_NAME_POOL))
    suggestion = "list_products" if near else "ensure_product"
    raise ProductNotFound(f"There is no product {name!r}.", product_name=name, near=near or None, suggestion=suggestion)


async def _shown(db: Transaction, record: ProductRecord) -> Product:
    return product_result(record, (await db.products.projects([record.id])).get(record.id, []))


# --- ensure_product ---------------------------------------------------------------------------------------------------


class EnsureProduct(Request):
    name: ProductName
    description: Description | None = None


class EnsuredProduct(Result):
    product: Product
    created: bool


async def ensure_product(app: App, caller: Caller, request: EnsureProduct) -> EnsuredProduct:
    """Get a product (a group of projects) by name, making it if it is new. Then link_project."""
    async with app.store.write() as db:
        record, created = await db.products.ensure(caller.team_id, request.name, request.description)
        product = await _shown(db, record)
    return EnsuredProduct(product=product, created=created)


# --- link_project, unlink_project -------------------------------------------------------------------------------------


class LinkProject(Request):
    product_name: ProductName
    project_slug: ProjectRef


async def link_project(app: App, caller: Caller, request: LinkProject) -> Product:
    """Put a project into a product: their agents may then write to each other as Name@slug. Twice is fine."""
    async with app.store.write() as db:
        record, project = await _pair(db, caller, request)
        if await db.products.link(record, project, MAX_PROJECTS):
            await db.events.add(_event("product.linked", caller, record, project))
        return await _shown(db, record)


async def unlink_project(app: App, caller: Caller, request: LinkProject) -> Product:
    """Take a project out of a product. Mail and accepted contacts stay. Twice is fine."""
    async with app.store.write() as db:
        record, project = await _pair(db, caller, request)
        if await db.products.unlink(record, project):
            await db.events.add(_event("product.unlinked", caller, record, project))
        return await _shown(db, record)


async def _pair(db: Transaction, caller: Caller, request: LinkProject) -> tuple[ProductRecord, ProjectRecord]:
    project = await the_project(db, caller, request.project_slug)
    return await the_product(db, caller, request.product_name), project


def _event(kind: EventKind, caller: Caller, product: ProductRecord, project: ProjectRecord) -> NewEvent:
    return NewEvent(kind, caller.team_id, project.id, data={"product": product.name, "slug": project.slug})


# --- list_products ----------------------------------------------------------------------------------------------------


class ListProducts(Request):
    limit: PageSize = 20
    cursor: Cursor | None = None


class ProductPage(Result):
    products: list[Product]
    next_cursor: str | None = None


async def list_products(app: App, caller: Caller, request: ListProducts) -> ProductPage:
    """List products A-Z with their projects."""
    scope = list_scope("list_products", caller.team_id)
    last = open_list_cursor(app.store.identity, scope, request.cursor, str)
    async with app.store.read() as db:
        rows = await db.products.page(caller.team_id, str(last[0]) if last else None, request.limit + 1)
        products = await _shown_page(db, rows[: request.limit])
    return ProductPage(
        products=products,
        next_cursor=list_cursor(app.store.identity, scope, [products[-1].name]) if len(rows) > len(products) else None,
    )


async def _shown_page(db: Transaction, records: Sequence[ProductRecord]) -> list[Product]:
    """As many of these, at least one, as have projects for a page: those of a hundred products may take 50 MB."""
    page: list[Product] = []
    characters = 0
    for begin in range(0, len(records), PRODUCTS_AT_ONCE):
        some = records[begin : begin + PRODUCTS_AT_ONCE]
        projects = await db.products.projects([record.id for record in some])
        for record in some:
            product = product_result(record, projects.get(record.id, []))
            characters += sum(len(each.human_key) + len(each.description or "") for each in product.projects)
            if page and characters > PAGE_CHARACTERS:
                return page
            page.append(product)
    return page
