"""Where webhooks may go: never inside, however the address is written, unless it is allowed."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from agent_mail_core.webhook_addresses import AddressRefused, check_url, host_of, may_reach

INSIDE = [
    *("127.0.0.1", "127.255.255.254", "0.0.0.1", "0.1.2.3", "10.1.2.3", "172.16.0.1", "172.31.255.255"),
    *("192.168.1.1", "169.254.169.254", "169.254.0.1", "100.64.0.1", "100.127.255.255", "192.0.0.192"),
    *("198.18.0.1", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255", "192.0.2.1", "203.0.113.9"),
    *("::1", "::", "fe80::1", "fe80::1%eth0", "fec0::1", "fc00::1", "fd00:ec2::254", "ff02::1", "2001:db8::1"),
    *("::ffff:127.0.0.1", "::ffff:169.254.169.254", "::ffff:10.0.0.1", "::127.0.0.1", "::10.0.0.1"),
    *("64:ff9b::7f00:1", "64:ff9b::808:808", "64:ff9b:1::1", "2002:7f00:1::1", "2001:0:1::1", "100::1", "5f00::1"),
]
OUTSIDE = ["8.8.8.8", "1.1.1.1", "93.184.216.34", "2606:4700:4700::1111", "2a00:1450:4001::1", "::ffff:8.8.8.8"]

PRIVATE = [
    *("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "127.0.0.0/8", "169.254.0.0/16", "100.64.0.0/10", "224.0.0.0/4"),
    *("fc00::/7", "fe80::/10", "ff00::/8", "2002::/16", "64:ff9b::/96", "::ffff:10.0.0.0/104", "::/96"),
]


@pytest.mark.parametrize("address", INSIDE)
def test_what_is_inside_is_refused(address: str) -> None:
    assert not may_reach(address, is_encrypted=True, allowed=())


@pytest.mark.parametrize("address", OUTSIDE)
def test_what_is_public_is_reached_with_tls_alone(address: str) -> None:
    assert may_reach(address, is_encrypted=True, allowed=())
    assert not may_reach(address, is_encrypted=False, allowed=())


@given(st.sampled_from(PRIVATE), st.integers(min_value=0))
def test_no_address_of_a_private_network_is_reached(network: str, number: int) -> None:
    whole = ipaddress.ip_network(network)
    address = whole[number % whole.num_addresses]
    assert not may_reach(str(address), is_encrypted=True, allowed=())
    assert not may_reach(address.exploded, is_encrypted=True, allowed=())


@given(st.ip_addresses())
def test_what_python_calls_private_is_never_reached(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    assume(address.is_private or address.is_loopback or address.is_link_local or address.is_multicast)
    mapped = getattr(address, "ipv4_mapped", None)
    assume(mapped is None or not mapped.is_global)
    assert not may_reach(str(address), is_encrypted=True, allowed=())


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_that_is_wrapped_is_judged_as_itself(address: ipaddress.IPv4Address) -> None:
    for allowed in ((), ("10.0.0.0/8",)):
        plain = may_reach(str(address), is_encrypted=True, allowed=allowed)
        assert may_reach(f"::ffff:{address}", is_encrypted=True, allowed=allowed) == plain


@pytest.mark.parametrize(
    "address, allowed, expected",
    [
        ("10.0.0.5", ("10.0.0.0/24",), True),
        ("10.0.1.5", ("10.0.0.0/24",), False),
        ("::ffff:10.0.0.5", ("10.0.0.0/24",), True),
        ("fd00::5", ("10.0.0.0/24", "fd00::/8"), True),
        ("127.0.0.1", ("127.0.0.1",), True),
        ("127.0.0.2", ("127.0.0.1",), False),
        ("8.8.8.8", ("10.0.0.0/8",), False),
    ],
)
def test_an_allowed_network_is_reached_without_tls_and_nothing_else(
    address: str, allowed: tuple[str, ...], expected: bool
) -> None:
    assert may_reach(address, is_encrypted=False, allowed=allowed) is expected


@pytest.mark.parametrize(
    "url",
    [
        "https://hooks.example/",
        "https://hooks.example:8443/a/b?token=c%20d",
        "HTTPS://Hooks.Example",
        "https://8.8.8.8/hook",
        "https://[2606:4700:4700::1111]:443/hook",
        "https://2130706433/",  # a name as far as anybody knows: what it leads to is judged when it is called
    ],
)
def test_a_public_url_is_taken(url: str) -> None:
    check_url(url, ())


@pytest.mark.parametrize(
    "url, reason",
    [
        ("http://hooks.example/", "https"),
        ("https://me:secret@hooks.example/", "password"),
        ("https://@hooks.example/", "password"),
        ("https://hooks.example\\@10.0.0.1/", "characters"),
        ("https:///hook", "host"),
        ("https://hooks.example:0/", "port"),
        ("https://hooks.example:99999/", "URL"),
        ("https://[::1/", "URL"),
        ("https://hooks.example/#", "fragment"),
        ("https://hooks.example/\r\nHost: x", "characters"),
        ("https://hööks.example/", "characters"),
        ("file:///etc/passwd", "characters"),
        ("gopher://hooks.example/", "characters"),
        ("https://a.example/" + "x" * 2000, "2000"),
        ("https://127.0.0.1/", "private"),
        ("https://[::ffff:169.254.169.254]/", "private"),
    ],
)
def test_another_url_is_refused_with_the_reason(url: str, reason: str) -> None:
    with pytest.raises(AddressRefused, match=reason):
        check_url(url, ())


def test_what_is_allowed_may_be_named_without_tls() -> None:
    check_url("http://127.0.0.1:9000/", ("127.0.0.0/8",))
    check_url("http://receiver/", ("127.0.0.0/8",))
    with pytest.raises(AddressRefused, match="private"):
        check_url("http://10.0.0.1/", ("127.0.0.0/8",))


def test_people_are_shown_the_host_alone() -> None:
    assert host_of("https://hooks.example:8443/services/T0/secret?token=x") == "hooks.example"
