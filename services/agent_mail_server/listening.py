"""Sockets that a server listens on, and Granian on one of them.

The sockets are ours, so that they can outlive the process that serves them: a worker process that is replaced leaves
its socket, with the connections that wait in it, to the next. Each worker has a socket of its own on the same port
(SO_REUSEPORT): the kernel spreads connections over them evenly, which processes that accept from one socket do not.
"""

from __future__ import annotations

import errno
import logging
import os
import resource
import socket
import stat
from contextlib import suppress

from granian._granian import SocketHolder
from granian.constants import Interfaces
from granian.server.embed import Server

MOST_CONNECTIONS = 65_536
"""Granian's `backpressure` counts connections, waiting and streaming ones too; MAX_IN_FLIGHT bounds the work."""

BACKLOG = 1024


class CannotListen(Exception):
    """The address cannot be listened on; says why."""


def bound_sockets(host: str, port: int, count: int) -> list[socket.socket]:
    """So many sockets on one port, not listening yet. Raises CannotListen when another server has it."""
    try:
        found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        raise CannotListen(f"HOST: {host} is not an address of this machine: {error.strerror}.") from None
    family, _, _, _, place = min(found, key=lambda item: item[0] != socket.AF_INET)
    try:
        alone = _bound(family, place, is_shared=False)  # SO_REUSEPORT would share with another server in silence
        if count == 1:
            return [alone]
        alone.close()
        return [_bound(family, place, is_shared=True) for _ in range(count)]
    except OSError as error:
        raise _cannot(host, port, error) from None


def listen(bound: socket.socket) -> None:
    """Take connections: from now on they wait for whoever accepts them. Again is fine. Raises CannotListen."""
    try:
        bound.listen(BACKLOG)
    except OSError as error:
        host, port = bound.getsockname()[:2]
        raise _cannot(host, port, error) from None


def _cannot(host: str, port: int, error: OSError) -> CannotListen:
    if error.errno == errno.EADDRINUSE:
        return CannotListen(f"Port {port} on {host} is taken: stop what listens there, or set PORT.")
    return CannotListen(f"Cannot listen on {host}, port {port}: {error.strerror}.")


def another_like(bound: socket.socket) -> socket.socket:
    """One more socket on a port that is shared. Raises OSError."""
    return _bound(bound.family, bound.getsockname(), is_shared=True)


def _bound(family: int, place: object, is_shared: bool) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if is_shared:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6 and hasattr(socket, "IPV6_V6ONLY"):
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        made.bind(place)  # type: ignore[arg-type]
    except OSError:
        made.close()
        raise
    return made


class Listener(Server):
    """Granian embedded in this process, on a socket that it is given and does not close."""

    def __init__(self, asgi: object, listener: socket.socket) -> None:
        logging.getLogger("_granian").propagate = True
        super().__init__(
            asgi,
            interface=Interfaces.ASGINL,
            websockets=False,
            backlog=BACKLOG,
            backpressure=MOST_CONNECTIONS,
            log_enabled=False,
        )
        self._listener = listener

    def accept_no_more(self) -> None:
        """Leave new connections to whoever else accepts from the socket, and go on with those that there are.

        Granian can only stop altogether, and then it closes a connection on which no byte has come yet, whose client
        would see its first request fail. So its descriptor is made to stand for a socket that nobody connects to.
        """
        with socket.socket() as deaf:
            deaf.bind(("127.0.0.1", 0))
            deaf.listen(1)
            deaf.setblocking(False)
            for descriptor in _places(self._listener.fileno()):
                os.dup2(deaf.fileno(), descriptor, inheritable=False)

    def _init_shared_socket(self) -> None:
        # Granian owns the descriptor that it gets, and closes it when it stops.
        self._ssp = None
        self._shd: SocketHolder = SocketHolder(self._listener.dup().detach(), False, BACKLOG)  # type: ignore[call-arg, assignment]


def _places(descriptor: int) -> list[int]:
    """Every descriptor of this process that stands for the same socket, the given one apart."""
    wanted, found = os.fstat(descriptor).st_ino, []
    for name in os.listdir("/dev/fd"):
        try:
            state = os.fstat(int(name))
        except OSError:  # the one that the directory was read with
            continue
        if stat.S_ISSOCK(state.st_mode) and state.st_ino == wanted and int(name) != descriptor:
            found.append(int(name))
    return found


def raise_file_limit() -> None:
    """A thousand waiting calls are a thousand open sockets; the usual soft limit is 1,024."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 1 << 16) if hard > 0 else 1 << 16, hard))
