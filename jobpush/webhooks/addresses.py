"""
Which addresses may be called. A name is resolved once, its addresses are checked, and one of these very
addresses is called: a name server that gives another answer to the next question gains nothing.
"""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Any, NamedTuple

from ..errors import JobPushError

#: The last 32 bits are the IPv4 address that is called in truth. Source: RFC 6052, 2.1.
_NAT64 = IPv6Network("64:ff9b::/96")


class ForbiddenAddress(JobPushError):
    """The host of a webhook is, or resolves to, an address that is not public."""

    code = "forbidden_address"

    def __init__(self, host: str, address: str) -> None:
        self.host = host
        self.address = address
        super().__init__(f"{host} is {address}, which is not public; JOBPUSH_WEBHOOK_ALLOW_PRIVATE would allow it")


class Address(NamedTuple):
    """What :meth:`socket.socket.connect` is to be given, and the family of the socket."""

    family: socket.AddressFamily
    sockaddr: Any


def resolve(host: str, port: int, *, allow_private: bool) -> list[Address]:
    """
    Look up the addresses of a host. The system's resolver has time limits of its own.

    Raises:
        ForbiddenAddress: If one of them is not public: who mixes them means the one inside.
        OSError: If the name is not known.
    """
    answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = [Address(family, sockaddr) for family, _, _, _, sockaddr in answers]
    for _, sockaddr in addresses:
        if not allow_private and not is_public(ip_address(sockaddr[0])):
            raise ForbiddenAddress(host, str(sockaddr[0]))
    return addresses


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Whether anybody on the internet could call it; an IPv6 address that carries an IPv4 one is judged by that."""
    if isinstance(address, IPv6Address):
        carried = address.ipv4_mapped or address.sixtofour
        if carried is None and address in _NAT64:
            carried = IPv4Address(int(address) & 0xFFFF_FFFF)
        if carried is not None:
            return is_public(carried)
        if address.is_site_local:  # withdrawn by RFC 3879, so no list of private networks has it
            return False
    return address.is_global and not address.is_multicast and not address.is_reserved
