"""A name server for one name, which says what Docker's would: the addresses of the servers there are now."""

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

ADDRESS, ANY_ANSWER = 1, 0x8180
HEADER = struct.Struct("!HHHHHH")


@dataclass
class Names:
    """Set `addresses` to change what it answers from now on."""

    port: int
    addresses: list[str] = field(default_factory=list)


@contextmanager
def name_server(*addresses: str) -> Iterator[Names]:
    """One that runs on a loopback port until the end of the block."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind(("127.0.0.1", 0))
        names = Names(listener.getsockname()[1], list(addresses))
        thread = threading.Thread(target=_serve, args=(listener, names), daemon=True)
        thread.start()
        try:
            yield names
        finally:
            listener.sendto(b"", listener.getsockname())  # closing a socket does not wake who reads from it
            thread.join(5)


def _serve(listener: socket.socket, names: Names) -> None:
    while True:
        query, client = listener.recvfrom(4096)
        if not query:  # the end
            return
        listener.sendto(answer(query, names.addresses), client)


def answer(query: bytes, addresses: list[str]) -> bytes:
    """The answer to a query (RFC 1035, section 4): address records, and nothing for other types."""
    number = HEADER.unpack_from(query)[0]
    end = HEADER.size
    while query[end]:
        end += query[end] + 1
    question = query[HEADER.size : end + 5]
    wanted = struct.unpack_from("!H", query, end + 1)[0]
    found = addresses if wanted == ADDRESS else []
    # Each record: a pointer to the name in the question, type, class, seconds to keep, length, address.
    records = [struct.pack("!HHHIH", 0xC00C, ADDRESS, 1, 0, 4) + socket.inet_aton(address) for address in found]
    return HEADER.pack(number, ANY_ANSWER, 1, len(records), 0, 0) + question + b"".join(records)
