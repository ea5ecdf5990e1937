"""Several worker processes on one port: started, watched, replaced and stopped together.

The parent does nothing else. It has no event loop, no threads and no connections, so that it may fork: a worker starts
with everything imported, in memory that it shares with its fellows. Each worker has a place with a socket of its own
(`listening.py`), which the parent keeps open: what connects while a worker is being replaced waits for the next one.
A worker notices the end of its parent by a pipe, however the parent ended.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

import structlog

from agent_mail_core.settings import Settings
from agent_mail_core.settings_errors import SettingsError
from agent_mail_server.listening import another_like

STARTED_WELL = 10.0
"""A worker that lived as long is replaced at once."""

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
"""Seconds before a worker that died soon is replaced; doubled each time."""

START_PATIENCE = 60.0
"""Seconds for a worker to become ready."""

STOP_PATIENCE = 10.0
"""Seconds past DRAIN_SECONDS after which a worker is killed; it should have ended before."""

STOPPING = (signal.SIGTERM, signal.SIGINT)
HEARD = (*STOPPING, signal.SIGHUP, signal.SIGCHLD)


@dataclass(frozen=True, slots=True)
class Place:
    """What a worker process gets from its parent."""

    bound: socket.socket
    row: int
    """Its row of the shared figures; no other living worker has it."""
    lifeline: int
    """A descriptor that becomes readable when the parent is gone."""
    is_ready: Callable[[], None]
    """To be called once requests are answered."""


@dataclass(slots=True)
class _Worker:
    pid: int
    row: int
    news: int
    """The pipe by which it says that it is ready."""
    began: float
    is_ready: bool = False
    killed_at: float | None = None
    """When it is killed if it has not ended."""


@dataclass(slots=True)
class _Slot:
    """A place that is always to be filled."""

    number: int
    bound: socket.socket
    worker: _Worker | None = None
    leaving: list[_Worker] = field(default_factory=list)
    successor: _Worker | None = None
    """The one that is starting to take the worker's place."""
    pause: float = 0.0
    starts_at: float | None = None


class Supervisor:
    """Keeps the workers running until it is told to stop."""

    def __init__(
        self,
        settings: Settings,
        bound: list[socket.socket],
        work: Callable[[Place, Settings], int],
        read_again: Callable[[], Settings],
        forget: Callable[[int], None],
        announce: Callable[[], None],
    ) -> None:
        """`forget(row)` is called when the worker that had the row is gone, `announce` when all are ready at first."""
        self._settings = settings
        self._work = work
        self._read_again = read_again
        self._forget = forget
        self._announce = announce
        self._slots = [_Slot(number, listener) for number, listener in enumerate(bound)]
        self._rows = list(range(self.rows(len(bound))))
        self._to_replace: list[_Slot] = []
        self._is_stopping = False
        self._has_announced = False
        self._exit = 0
        self._lifeline, self._held = os.pipe()
        self._log = structlog.get_logger()

    @staticmethod
    def rows(workers: int) -> int:
        """How many rows of figures there must be: while one worker replaces another both live, the leaving ones too."""
        return 3 * workers

    def run(self) -> int:
        """Until told to stop; the exit status."""
        wake, self._waker = socket.socketpair()
        for end in (wake, self._waker):
            end.setblocking(False)
        for number in HEARD:
            signal.signal(number, lambda *_: None)
        signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        for slot in self._slots:
            slot.worker = self._start(slot)
        while any(self._living(slot) for slot in self._slots) or not self._is_stopping:
            pipes = {
                worker.news: worker for slot in self._slots for worker in self._living(slot) if not worker.is_ready
            }
            ready, _, _ = select.select([wake.fileno(), *pipes], [], [], self._patience())
            for news in ready:
                if news in pipes:
                    self._heard(pipes[news])
            with suppress(BlockingIOError):
                for told in wake.recv(1024):
                    self._signalled(told)
            self._reap()
            self._keep()
        return self._exit

    def _living(self, slot: _Slot) -> list[_Worker]:
        return [worker for worker in (slot.worker, slot.successor, *slot.leaving) if worker is not None]

    def _patience(self) -> float | None:
        now = time.monotonic()
        due = [slot.starts_at for slot in self._slots if slot.starts_at is not None]
        for slot in self._slots:
            for worker in self._living(slot):
                if worker.killed_at is not None:
                    due.append(worker.killed_at)
                elif not worker.is_ready:
                    due.append(worker.began + START_PATIENCE)
        return min(max(0.0, min(due) - now), START_PATIENCE) if due else None

    # --- one worker ---------------------------------------------------------------------------------------------------

    def _start(self, slot: _Slot) -> _Worker:
        row = self._rows.pop(0)
        news, tell = os.pipe()
        signal.pthread_sigmask(signal.SIG_BLOCK, HEARD)  # none may come while the child has its parent's handlers
        pid = os.fork()
        if pid == 0:
            self._be_worker(slot, row, news, tell)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HEARD)
        os.close(tell)
        os.set_blocking(news, False)
        return _Worker(pid, row, news, time.monotonic())

    def _be_worker(self, slot: _Slot, row: int, news: int, tell: int) -> None:
        """In the new process: let go of what is the parent's, work, and end."""
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            for number in HEARD:
                signal.signal(number, signal.SIG_IGN if number == signal.SIGHUP else signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, HEARD)
            os.close(self._held)
            os.close(news)
            self._waker.close()
            for other in self._slots:
                if other is not slot:
                    other.bound.close()

            def is_ready() -> None:
                os.write(tell, b"r")
                os.close(tell)

            code = self._work(Place(slot.bound, row, self._lifeline, is_ready), self._settings)
        except BaseException as error:  # noqa: BLE001 - it ends here, and its parent's stack must not unwind in it
            self._log.error("worker failed", exc_info=error)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def _heard(self, worker: _Worker) -> None:
        if os.read(worker.news, 1) != b"r":
            return  # it has ended: see _reap
        worker.is_ready = True
        self._log.info("worker is ready", pid=worker.pid)
        for slot in self._slots:
            if slot.successor is worker:
                if slot.worker is not None:
                    self._tell(slot.worker, signal.SIGUSR1)
                    slot.leaving.append(slot.worker)
                slot.worker, slot.successor = worker, None
        if not self._has_announced and all(slot.worker is not None and slot.worker.is_ready for slot in self._slots):
            self._has_announced = True
            self._announce()

    def _tell(self, worker: _Worker, number: signal.Signals) -> None:
        """Ask a worker to end; it is killed when it takes too long."""
        with suppress(ProcessLookupError):
            os.kill(worker.pid, number)
        if worker.killed_at is None:
            worker.killed_at = time.monotonic() + self._settings.drain_seconds + STOP_PATIENCE

    # --- what happens -------------------------------------------------------------------------------------------------

    def _signalled(self, number: int) -> None:
        if number == signal.SIGHUP and not self._is_stopping:
            try:
                chosen = self._read_again()
            except SettingsError as error:
                self._log.error("the settings cannot be used; the workers stay as they are", reason=str(error))
                return
            # The port and the number of workers are this process's, and stay.
            kept = {name: getattr(self._settings, name) for name in ("host", "port", "workers")}
            self._settings = chosen.model_copy(update=kept)
            self._to_replace = list(self._slots)
            self._log.info("replacing the workers one by one")
        elif number in STOPPING:
            self._stop(signal.Signals(number))

    def _stop(self, number: signal.Signals) -> None:
        self._is_stopping = True
        self._to_replace = []
        for slot in self._slots:
            slot.starts_at = None
            for worker in self._living(slot):
                self._tell(worker, number)

    def _reap(self) -> None:
        for slot in self._slots:
            for worker in self._living(slot):
                pid, status = os.waitpid(worker.pid, os.WNOHANG)
                if pid:
                    os.close(worker.news)
                    self._forget(worker.row)
                    self._rows.append(worker.row)
                    self._ended(slot, worker, os.waitstatus_to_exitcode(status))

    def _ended(self, slot: _Slot, worker: _Worker, status: int) -> None:
        if worker in slot.leaving:
            slot.leaving.remove(worker)
            return
        if worker is slot.successor:
            slot.successor = None
            self._to_replace = []
            if not self._is_stopping:
                self._log.error("a new worker did not start; the old ones go on", status=status)
            return
        slot.worker = None
        if self._is_stopping:
            return
        self._log.error("a worker ended", pid=worker.pid, status=status)
        if not self._has_announced and not worker.is_ready:
            self._exit = status if status > 0 else 1
            self._stop(signal.SIGINT)
            return
        lived = time.monotonic() - worker.began
        if lived >= STARTED_WELL:
            slot.pause = 0.0
        slot.starts_at = time.monotonic() + slot.pause
        if slot.pause > 0:
            # Nobody will answer for a while: let the kernel send connections to the others.
            with suppress(OSError):
                fresh = another_like(slot.bound)
                slot.bound.close()
                slot.bound = fresh
        slot.pause = min(max(FIRST_PAUSE, slot.pause * 2), LONGEST_PAUSE)

    def _keep(self) -> None:
        """Start who is due, kill who is late, go on with the rolling restart."""
        now = time.monotonic()
        for slot in self._slots:
            if slot.starts_at is not None and slot.starts_at <= now:
                slot.starts_at = None
                slot.worker = self._start(slot)
            for worker in self._living(slot):
                is_late = not worker.is_ready and worker.killed_at is None and now > worker.began + START_PATIENCE
                if is_late or (worker.killed_at is not None and worker.killed_at <= now):
                    self._log.error("a worker took too long and is killed", pid=worker.pid)
                    with suppress(ProcessLookupError):
                        os.kill(worker.pid, signal.SIGKILL)
                    worker.killed_at = float("inf")
        busy = any(slot.successor is not None or slot.leaving for slot in self._slots)
        if self._to_replace and not busy and not self._is_stopping:
            slot = self._to_replace.pop(0)
            if slot.worker is not None:
                slot.successor = self._start(slot)
