"""Errors about webhooks, in the tree of `errors`."""

from agent_mail_core.errors import Conflict, Gone, NotFound


class WebhookNotFound(NotFound):
    """No such webhook: list_webhooks shows those there are."""

    code = "webhook_not_found"


class WebhookDeliveryNotFound(NotFound):
    """This webhook has no such delivery, or has it no longer: list_webhook_deliveries shows those there are."""

    code = "webhook_delivery_not_found"


class WebhookEventGone(Gone):
    """The event of this delivery is no longer kept, or its project was deleted: it cannot be sent again."""

    code = "webhook_event_gone"


class TooManyWebhooks(Conflict):
    """This team has as many webhooks as one may have: remove_webhook one first."""

    code = "too_many_webhooks"
