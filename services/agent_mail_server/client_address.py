"""Which address a request comes from: the connection's, or the one that a trusted proxy names."""

from __future__ import annotations

import ipaddress
from functools import lru_cache

from starlette.types import Scope

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
MOST_HOPS = 32
UNKNOWN = "unknown"


class ClientAddresses:
    """Reads X-Forwarded-For from the right, past the proxies that are trusted: what stands left of them is hearsay."""

    def __init__(self, trusted_proxies: tuple[str, ...]) -> None:
        self._trusted = [ipaddress.ip_network(network, strict=False) for network in trusted_proxies]

    def of(self, scope: Scope) -> Address | None:
        """The client's address; None when there is none, as behind a Unix socket."""
        client = scope.get("client")
        peer = _address(client[0]) if client else None
        if not self._trusted or peer is None or not self._is_trusted(peer):
            return peer
        named = b",".join(value for name, value in scope["headers"] if name == b"x-forwarded-for")
        for hop in reversed(named.decode("latin-1").split(",")[-MOST_HOPS:]):
            address = _address(hop.strip())
            if address is None:
                break
            peer = address
            if not self._is_trusted(address):
                break
        return peer

    def _is_trusted(self, address: Address) -> bool:
        return any(address in network for network in self._trusted)


@lru_cache(maxsize=4096)
def _address(text: str) -> Address | None:
    """`address`, `address:port` or `[address]:port`."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


@lru_cache(maxsize=4096)
def shown(address: Address | None) -> str:
    """The address as the key of a limit. A subscriber has a whole /64 of IPv6 addresses."""
    if address is None:
        return UNKNOWN
    if address.version == 6:
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)
