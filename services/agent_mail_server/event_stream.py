"""GET /api/events/stream: what happens in a project, or to an agent, as server-sent events (SPEC §5).

An event's id is its place in the database, so that a client that comes back, to whichever worker, misses nothing.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator

import orjson

from agent_mail_core.errors import AgentMailError, Invalid
from agent_mail_core.event_feed import FollowedEvents, StreamPlaces, follow_events
from agent_mail_core.ports import App, Caller, Role
from agent_mail_server.arguments import read_query
from agent_mail_server.callers import Callers
from agent_mail_server.dispatch import perform
from agent_mail_server.http_request import Answer, HttpRequest
from agent_mail_server.metrics import ServerMetrics
from agent_mail_server.operations import Operation
from agent_mail_server.security import COMMON_HEADERS
from agent_mail_server.streaming import StreamedAnswer

FOLLOW = Operation(
    follow_events, ("GET /api/events/stream",), Role.reader, is_tool=False, file_types=("text/event-stream",)
)
"""Described as the operations are; it is none of them, for its answer does not end."""

STREAMS_A_PRINCIPAL = 10
RECONNECT = b"retry: 1000\n\n"
ROUND_SECONDS = 4.0
"""How often a stream asks whether its credential still holds: it ends within 5 s of a revocation."""

KEEP_ALIVE_ROUNDS = 3
STREAM_HEADERS = [
    *COMMON_HEADERS,
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cache-control", b"no-store, no-transform"),
    (b"x-accel-buffering", b"no"),
]


class EventStreams:
    """The endpoint."""

    def __init__(self, app: App, metrics: ServerMetrics, callers: Callers) -> None:
        self._app = app
        self._metrics = metrics
        self._callers = callers
        self._places = StreamPlaces(STREAMS_A_PRINCIPAL)

    async def answer(self, http: HttpRequest) -> Answer:
        """Begin the stream. Raises AgentMailError while it has not begun."""
        http.operation = FOLLOW.name
        caller = http.caller = self._callers.caller(http)
        request = read_query(FOLLOW, http.scope["query_string"], http.path_values)
        given = http.headers.get(b"last-event-id")
        if given is not None:
            if request.last_event_id is not None:  # type: ignore[attr-defined]
                raise Invalid("last_event_id is given twice: in the query string and as Last-Event-ID.")
            # An id that is none of ours begins anew; it need not be well-formed for that.
            request = request.model_copy(update={"last_event_id": given.decode("latin-1") or None})
        followed = await perform(self._app, self._metrics, caller, FOLLOW, request)
        assert isinstance(followed, FollowedEvents)
        frames = self._frames(http, caller, followed)
        return StreamedAnswer(
            200,
            await anext(frames),
            b"text/event-stream",
            security=STREAM_HEADERS,
            rest=frames,
            is_held_open=True,
        )

    async def _frames(self, http: HttpRequest, caller: Caller, followed: FollowedEvents) -> AsyncGenerator[bytes, None]:
        """The stream. It ends when the server drains, the credential or the project is gone, or the database is away.

        A client that still may comes back by itself, a second later, with the id of the last event that it got.
        """
        app, feed = self._app, followed.feed
        with self._places.place(caller):
            async with app.wakeups.subscribe(followed.topic) as news:
                yield _beginning(followed)
                silent_rounds = 0
                while not app.is_draining():
                    try:
                        self._callers.caller(http)
                        page = await feed.next(news, ROUND_SECONDS)
                    except AgentMailError:
                        break
                    silent_rounds = 0 if page.events else silent_rounds + 1
                    if page.events:
                        yield b"".join(
                            b"id: %s\nevent: %s\ndata: %s\n\n"
                            % (event_id.encode(), activity.kind.encode(), activity.to_json())
                            for event_id, activity in page.events
                        )
                    elif silent_rounds == KEEP_ALIVE_ROUNDS:
                        silent_rounds = 0
                        yield b": alive\nid: %s\n\n" % page.last_id.encode()
                yield RECONNECT


def _beginning(followed: FollowedEvents) -> bytes:
    """An id to come back with; and, when events were missed, that the client must look at everything anew."""
    head = b"id: %s\nretry: 1000\n" % followed.last_event_id.encode()
    if followed.reset is None:
        return head + b"\n"
    return b"%sevent: reset\ndata: %s\n\n" % (head, orjson.dumps({"reason": followed.reset}))
