"""What a webhook is sent: an event as list_activity shows it, under an id that stays the same however often it is sent.

So there are names, ids and a time in it, no body of a message, and no trace of a bcc.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Any

from agent_mail_core.activity import Activity, activity_of
from agent_mail_core.errors import Unavailable
from agent_mail_core.events import EventEntry
from agent_mail_core.fields import Result
from agent_mail_core.outbound import NotAnswered
from agent_mail_core.ports import App
from agent_mail_core.webhook_signing import signed_headers
from agent_mail_core.webhooks import WebhookTarget

MOST_BYTES = 64 * 1024
"""Of a body: some events tell of a hundred names or paths, and a receiver must know what to expect."""

TEST_KIND = "webhook.test"


class Payload(Result):
    """The body of a delivery. `type`, `timestamp` and `data` are where Standard Webhooks has them."""

    type: str
    timestamp: datetime
    """When it happened."""
    team: str
    data: Activity | dict[str, Any]
    is_cut: bool | None = None
    """The event's own data was too long, and is left out."""


@dataclass(frozen=True, slots=True)
class WebhookMessage:
    """A body, and the id that goes with it."""

    id: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of sending one."""

    status_code: int | None
    error: str | None
    """None: it was taken."""
    retry_after: timedelta | None = None
    is_gone: bool = False
    """The receiver wants no more (410)."""


def event_message(epoch: str, team_name: str, entry: EventEntry) -> WebhookMessage:
    """The message about an event."""
    activity = activity_of(entry)
    payload = Payload(type=entry.kind, timestamp=entry.created_at, team=team_name, data=activity)
    body = payload.to_json()
    if len(body) > MOST_BYTES:
        short = activity.model_copy(update={"data": {}})
        body = payload.model_copy(update={"data": short, "is_cut": True}).to_json()
    return WebhookMessage(f"msg_{epoch}_{entry.position.event_id}", body)


def trial_message(epoch: str, team_name: str, webhook_id: int, now: datetime) -> WebhookMessage:
    """A message about nothing, to see whether the receiver is there."""
    payload = Payload(type=TEST_KIND, timestamp=now, team=team_name, data={"webhook_id": webhook_id})
    return WebhookMessage(f"msg_{epoch}_test_{secrets.token_hex(8)}", payload.to_json())


async def send(app: App, target: WebhookTarget, message: WebhookMessage) -> Outcome:
    """Post it once, signed. Raises Unavailable where nothing can be sent from."""
    if app.outbound is None:
        raise Unavailable("No webhooks are sent from this process.")
    headers = {
        "content-type": "application/json",
        "user-agent": f"agent-mail/{app.version}",
        **signed_headers(target.secret, message.id, app.clock.now(), message.body),
    }
    try:
        answer = await app.outbound.post(target.url, headers, message.body)
    except NotAnswered as reason:
        return Outcome(None, str(reason))
    if 200 <= answer.status_code < 300:
        return Outcome(answer.status_code, None)
    is_gone = answer.status_code == HTTPStatus.GONE
    return Outcome(answer.status_code, f"status {answer.status_code}", answer.retry_after, is_gone)
