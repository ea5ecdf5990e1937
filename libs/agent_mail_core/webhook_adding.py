"""add_webhook: a URL and a secret are judged, and a webhook begins behind all that has happened."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr
from pydantic_core import PydanticCustomError

from agent_mail_core.errors import Invalid
from agent_mail_core.events import EventKind
from agent_mail_core.fields import ProjectRef, Request, Result
from agent_mail_core.ports import App, Caller
from agent_mail_core.projects import the_project
from agent_mail_core.webhook_addresses import URL_LENGTH, AddressRefused, check_url
from agent_mail_core.webhook_signing import key_of, new_secret
from agent_mail_core.webhooks import NewWebhook, Webhook, webhook_result

MAX_WEBHOOKS = 50
"""Of a team."""


def _secret(secret: SecretStr) -> SecretStr:
    try:
        key_of(secret.get_secret_value())
    except ValueError:
        raise PydanticCustomError("webhook_secret", "must be `whsec_` and base64 of 24 to 64 bytes") from None
    return secret


class AddWebhook(Request):
    url: str = Field(min_length=1, max_length=URL_LENGTH, description="Where to post; https, a public address")
    events: list[EventKind] = Field(
        default_factory=list, max_length=50, description="Kinds such as message.sent; none: all"
    )
    project_slug: ProjectRef | None = Field(None, description="Only this project's events; else all of the team's")
    secret: Annotated[SecretStr, AfterValidator(_secret)] | None = Field(
        None, description="`whsec_` and base64 of 24 to 64 bytes; else one is made"
    )


class AddedWebhook(Result):
    webhook: Webhook
    secret: str
    """Signs the deliveries. It is not shown again."""


async def add_webhook(app: App, caller: Caller, request: AddWebhook) -> AddedWebhook:
    """Have a URL told what happens from now on, in order and signed as Standard Webhooks are. Shows its secret once."""
    try:
        check_url(request.url, app.settings.webhook_allowed_networks)
    except AddressRefused as refusal:
        problem = {"pointer": "/url", "message": str(refusal), "type": "webhook_url"}
        raise Invalid(f"url {refusal}.", errors=[problem]) from None
    secret = request.secret.get_secret_value() if request.secret is not None else new_secret()
    async with app.store.write() as db:
        project = None
        if request.project_slug is not None:
            project = await the_project(db, caller, request.project_slug)
        kinds = tuple(dict.fromkeys(request.events))
        new = NewWebhook(caller.team_id, project.id if project else None, request.url, kinds, secret)
        record = await db.webhooks.add(new, MAX_WEBHOOKS)
    return AddedWebhook(webhook=webhook_result(record), secret=secret)
