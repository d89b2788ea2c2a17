"""
Checks of the addresses of webhooks.

A host name is resolved once, and the connection is made to an address that was checked. A DNS server that changes its
answer between check and connection gains nothing.
"""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any

from ..errors import JobPushError

# Tables of our own: those of the ipaddress module differ between versions of Python.
# Source: the IANA registries of special-purpose IPv4 and IPv6 addresses.
_PRIVATE_IPV4 = [
    IPv4Network(network)
    for network in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
        *("192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24"),
        *("203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"),
    )
]
#: Only this block is assigned to hosts on the internet.
_GLOBAL_IPV6 = IPv6Network("2000::/3")
#: The parts of it that are not: IETF protocols with Teredo (2001::/32) and ORCHID, and documentation.
_PRIVATE_IPV6 = [IPv6Network(network) for network in ("2001::/23", "2001:db8::/32", "3fff::/20")]
#: Networks of addresses that contain an IPv4 address, and the number of bits after it: IPv4-mapped, NAT64, 6to4.
#: Source: RFC 4291, 2.5.5.2; RFC 6052, 2.1; RFC 3056, 2.
_IPV4_INSIDE = [
    (IPv6Network("::ffff:0:0/96"), 0),
    (IPv6Network("64:ff9b::/96"), 0),
    (IPv6Network("2002::/16"), 80),
]
#: The upper half of an ISATAP interface id; the lower half is an IPv4 address. Source: RFC 5214, 6.1.
_ISATAP = (0x0000_5EFE, 0x0200_5EFE)


class ForbiddenAddress(JobPushError):
    """The host of a webhook is, or resolves to, an address that is not public."""

    code = "forbidden_address"

    def __init__(self, host: str, address: str) -> None:
        super().__init__(f"{host} is {address}, which is not public; JOBPUSH_WEBHOOK_ALLOW_PRIVATE would allow it")


#: Arguments of :class:`socket.socket` and of its ``connect()``.
Address = tuple[socket.AddressFamily, Any]


def resolve(host: str, port: int, *, allow_private: bool) -> list[Address]:
    """
    Return the addresses of a host. The system's resolver has its own timeouts.

    Raises:
        ForbiddenAddress: If any of them is not public.
        OSError: If the name is unknown.
    """
    answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses: list[Address] = [(family, sockaddr) for family, _, _, _, sockaddr in answers]
    for _, sockaddr in addresses:
        if not allow_private and not is_public(ip_address(sockaddr[0])):
            raise ForbiddenAddress(host, str(sockaddr[0]))
    return addresses


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Return whether an address is one of a host on the internet; an IPv4 address inside an IPv6 one must be, too."""
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _PRIVATE_IPV4)
    number = int(address)
    for network, bits in _IPV4_INSIDE:
        if address in network:
            return is_public(IPv4Address(number >> bits & 0xFFFF_FFFF))
    if number >> 32 & 0xFFFF_FFFF in _ISATAP and not is_public(IPv4Address(number & 0xFFFF_FFFF)):
        return False
    return address in _GLOBAL_IPV6 and not any(address in network for network in _PRIVATE_IPV6)
