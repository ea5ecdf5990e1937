"""The routes that a row of the table cannot say: streams, uploads and downloads."""

from __future__ import annotations

from agent_mail_core.ports import App
from agent_mail_server.callers import Callers
from agent_mail_server.downloads import Downloads
from agent_mail_server.event_stream import EventStreams
from agent_mail_server.metrics import ServerMetrics
from agent_mail_server.operations import BY_NAME
from agent_mail_server.rest import RestEndpoint
from agent_mail_server.uploads import Uploads


def written_by_hand(
    app: App, metrics: ServerMetrics, callers: Callers
) -> list[tuple[str, str, RestEndpoint | EventStreams]]:
    """Method, path and endpoint; those that rows of the table have too take their place, with HEAD where GET is."""
    uploads = Uploads(app, metrics, callers, [BY_NAME["add_attachment"]])
    downloads = Downloads(app, metrics, callers, [BY_NAME["get_attachment"], BY_NAME["export_project"]])
    return [
        ("GET", "/api/events/stream", EventStreams(app, metrics, callers)),
        *uploads.routes(),
        *(
            (method, path, endpoint)
            for got, path, endpoint in downloads.routes()
            for method in ((got, "HEAD") if got == "GET" else (got,))
        ),
    ]
