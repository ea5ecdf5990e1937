"""The app as a command uses it that works on the database itself: nobody calls in, and it shares nothing but that."""

from __future__ import annotations

from agent_mail_cluster.memory.limits import MemoryLimits
from agent_mail_cluster.memory.replies import MemoryReplies
from agent_mail_cluster.memory.sessions import MemorySessions
from agent_mail_cluster.memory.signals import MemorySignals
from agent_mail_cluster.memory.stream_log import MemoryStreamLog
from agent_mail_cluster.memory.subscriptions import MemorySubscriptions
from agent_mail_cluster.memory.waiters import MemoryWaiters
from agent_mail_cluster.memory.wakeups import MemoryWakeups
from agent_mail_core.archive import Archive
from agent_mail_core.clock import SystemClock
from agent_mail_core.ports import App, Store
from agent_mail_core.presence import PresenceLog
from agent_mail_core.settings import Settings
from agent_mail_core.version import version
from agent_mail_server.metrics import ServerMetrics


def local_app(settings: Settings, store: Store, clock: SystemClock, archive: Archive) -> App:
    """An app around the store and the archive."""
    wakeups = MemoryWakeups()
    ttl = settings.session_ttl_seconds
    return App(
        store=store,
        wakeups=wakeups,
        presence=PresenceLog(clock),
        waiters=MemoryWaiters(settings.max_waiters),
        sessions=MemorySessions(clock, ttl),
        signals=MemorySignals(),
        replies=MemoryReplies(),
        stream_log=MemoryStreamLog(clock, wakeups, 300),
        subscriptions=MemorySubscriptions(clock, wakeups, ttl),
        limits=MemoryLimits(),
        metrics=ServerMetrics(),
        clock=clock,
        settings=settings,
        version=version(),
        started_at=clock.now(),
        is_draining=lambda: False,
        archive=archive,
    )
