"""Where webhooks may go: public addresses, over TLS, and the networks that an operator allows besides.

A URL is judged when it is given, its name's addresses each time before it is called: what a name means can change.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from typing import TypeAlias
from urllib.parse import urlsplit

Ip: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

URL_LENGTH = 2000
_VISIBLE = re.compile(r"https?://[!-~]+", re.IGNORECASE)

_NEVER = [
    ipaddress.ip_network(network)
    for network in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",
        "100.64.0.0/10",  # carriers' own (RFC 6598)
        "127.0.0.0/8",
        "169.254.0.0/16",  # link-local, and the metadata of clouds
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",  # relays of 6to4
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/3",  # multicast, reserved, broadcast
        "::/96",  # unspecified, loopback, and IPv4 written the old way
        "64:ff9b::/96",  # IPv4 behind NAT64, which might be any
        "64:ff9b:1::/48",
        "100::/64",
        "2001::/23",  # Teredo and others, which hold IPv4 addresses or lead nowhere
        "2001:db8::/32",
        "2002::/16",  # 6to4, which holds an IPv4 address
        "3fff::/20",
        "5f00::/16",
        "fc00::/7",  # unique local
        "fe80::/9",  # link-local, site-local
        "ff00::/8",  # multicast
    )
]
"""Beside what `ipaddress` calls not global, which differs between versions of Python."""


class AddressRefused(ValueError):
    """A webhook may not go there; the message says why."""


def networks(texts: Sequence[str]) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    """The networks that a setting names."""
    return [ipaddress.ip_network(text, strict=False) for text in texts]


def may_reach(address: str, is_encrypted: bool, allowed: Sequence[str]) -> bool:
    """Whether a webhook may be sent to an IP address: to a public one with TLS, to one of an allowed network anyway."""
    ip = _meant(address)
    if any(ip in network for network in networks(allowed)):
        return True
    return is_encrypted and ip.is_global and not ip.is_multicast and not any(ip in network for network in _NEVER)


def _meant(address: str) -> Ip:
    """The address, or the IPv4 address that it wraps for a system's own use."""
    ip = ipaddress.ip_address(address)
    return ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None else ip


def check_url(url: str, allowed: Sequence[str]) -> None:
    """Refuse a URL that no webhook could be sent to. Raises AddressRefused."""
    if len(url) > URL_LENGTH or not _VISIBLE.fullmatch(url) or "\\" in url:
        raise AddressRefused("must be an http(s) URL of at most 2000 visible ASCII characters")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise AddressRefused("is not a URL") from None
    if not host or port == 0:
        raise AddressRefused("needs a host, and a port other than 0")
    if "@" in parts.netloc:
        raise AddressRefused("must not hold a user name or password: deliveries are signed")
    if "#" in url:
        raise AddressRefused("must not have a fragment")
    if parts.scheme != "https" and not allowed:
        raise AddressRefused("must begin with https:// unless WEBHOOK_ALLOWED_NETWORKS names where http:// may go")
    try:
        is_reachable = may_reach(host, parts.scheme == "https", allowed)
    except ValueError:
        return  # a name: it is resolved when it is called
    if not is_reachable:
        raise AddressRefused("is a private or reserved address that WEBHOOK_ALLOWED_NETWORKS does not name")


def host_of(url: str) -> str:
    """Whose it is, for people: the rest of a URL may hold what only its owner should know."""
    return urlsplit(url).hostname or ""
