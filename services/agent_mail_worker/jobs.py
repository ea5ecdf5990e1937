"""All kinds of background work, each with the function that does it. Servers without Redis run the same ones."""

from __future__ import annotations

from agent_mail_core.archiving import archive_project
from agent_mail_core.embedding_jobs import embed_project
from agent_mail_core.jobs import Handlers
from agent_mail_core.ports import App
from agent_mail_core.summary_jobs import summarize
from agent_mail_core.sweeps import look_into_outbox, sweep
from agent_mail_core.webhook_jobs import deliver_webhook

HANDLERS: Handlers = {
    "outbox": look_into_outbox,
    "archive": archive_project,
    "summary": summarize,
    "webhook": deliver_webhook,
    "embedding": embed_project,
    "sweep": sweep,
}


def possible(app: App, handlers: Handlers) -> Handlers:
    """Those whose tools this process has; the others' jobs are left to processes that have them."""
    has = {
        "archive": app.archive is not None,
        "summary": app.summarizer is not None,
        "webhook": app.outbound is not None,
        "embedding": app.query_vectors is not None,
    }
    return {kind: handler for kind, handler in handlers.items() if has.get(kind, True)}
