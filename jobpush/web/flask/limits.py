"""
Limits on the connections of one process: in all, per address, and per second.

Each process counts for itself, so no handshake waits for Redis. A refusal is Pusher's 4100, after which stock clients
reconnect after a second. After 4004 they would not reconnect at all (pusher-js ``protocol.ts``).
"""

from __future__ import annotations

import logging
import resource
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

from werkzeug.exceptions import HTTPException

from ...config import Config
from ...errors import ConfigurationError
from ...protocol.codes import OverCapacity, TooManyConnections, TooManyConnectionsOfAddress, TooManyHandshakes
from ...rare_log import RareLog

logger = logging.getLogger("jobpush.gateway")

#: Descriptors reserved for Redis, requests, files and refused connections.
_SPARE_DESCRIPTORS = 256
#: Connections that get the reason of their refusal at the same time; the others get a bare 503.
_MAX_REFUSED = 100
#: Seconds of its rate that an address may use at once, because the tabs of a browser reconnect together.
_BURST = 2.0
#: Number of recent addresses with a kept rate.
_MAX_ADDRESSES = 10_000
#: Bits of an IPv6 address that identify a customer, who chooses the rest.
_IPV6_CUSTOMER = 64


class Flooded(HTTPException):
    """Too many refused connections to send each the reason. Not logged."""

    code = 503
    description = "Over capacity"

    def get_headers(self, *args: Any, **kwargs: Any) -> list[tuple[str, str]]:
        """Add the time after which to retry."""
        return [*super().get_headers(*args, **kwargs), ("Retry-After", "1"), ("Connection", "close")]


@dataclass(slots=True)
class _Address:
    """The connections of one address."""

    name: str
    connections: int = 0


class Place:
    """
    The place of a connection; called when the connection is closed. Each connection has one, so it is small.

    ``refusal`` is the error for a connection without a place; it counts as being refused until it is closed.
    """

    __slots__ = ("_address", "_limits", "refusal")

    def __init__(self, limits: Limits, address: _Address | None, refusal: OverCapacity | None) -> None:
        self._limits: Limits | None = limits
        self._address = address
        self.refusal = refusal

    def __call__(self) -> None:
        """Give the place back. Idempotent."""
        limits, self._limits = self._limits, None
        if limits is not None:
            limits.leave(self._address, is_refused=self.refusal is not None)

    def __enter__(self) -> Place:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        if kind is not None:
            self()


class Limits:
    """
    The places of one process. Thread-safe.

    Args:
        config: The limits.
        clock: Monotonic seconds.
    """

    def __init__(self, config: Config, clock: Callable[[], float] = time.monotonic) -> None:
        self._config = config
        self._clock = clock
        self._lock = threading.Lock()
        self._taken = 0
        self._refused = 0
        self._addresses: dict[str, _Address] = {}
        #: Remaining handshakes of each address, and their time; the most recent last.
        self._allowances: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._log = RareLog(logger, clock)

    def enter(self, address: str | None) -> Place:
        """
        Give a connection a place, or a place with a refusal. In a ``with`` block, an exception gives it back.

        Args:
            address: As :meth:`TrustedProxies.client_of` gives it; ``None``: unknown, and not limited.

        Raises:
            Flooded: If it is refused, and too many connections are being refused already.
        """
        with self._lock:
            refusal = self._refusal(address)
            if refusal is not None:
                if self._refused >= _MAX_REFUSED:
                    raise Flooded
                self._refused += 1
                self._log.warn(type(refusal).refusal, f"Connections are refused: {refusal.message}")
                return Place(self, None, refusal)
            self._taken += 1
            if address is None:
                return Place(self, None, None)
            known = self._addresses.setdefault(address, _Address(address))
            known.connections += 1
            return Place(self, known, None)

    def leave(self, address: _Address | None, *, is_refused: bool) -> None:
        """Give a place back; for :class:`Place`."""
        with self._lock:
            if is_refused:
                self._refused -= 1
                return
            self._taken -= 1
            if address is not None:
                address.connections -= 1
                if not address.connections:
                    self._addresses.pop(address.name, None)

    def _refusal(self, address: str | None) -> OverCapacity | None:
        limit = self._config.max_connections or descriptors_left()
        if self._taken >= limit:
            return TooManyConnections(f"Over capacity: there are {limit} connections")
        if address is None:
            return None
        limit = self._config.max_connections_per_address
        known = self._addresses.get(address)
        if limit and known is not None and known.connections >= limit:
            return TooManyConnectionsOfAddress(f"Over capacity: an address may have {limit} connections")
        if self._config.handshake_rate and not self._take_allowance(address, self._config.handshake_rate):
            return TooManyHandshakes("Over capacity: your address connects too often")
        return None

    def _take_allowance(self, address: str, rate: float) -> bool:
        now = self._clock()
        most = max(1.0, rate * _BURST)
        left, since = self._allowances.pop(address, (most, now))
        left = min(most, left + (now - since) * rate)
        is_allowed = left >= 1
        self._allowances[address] = (left - is_allowed, now)
        while len(self._allowances) > _MAX_ADDRESSES:
            self._allowances.popitem(last=False)
        return is_allowed


def descriptors_left() -> int:
    """Return the number of connections that the process's limit of open files allows."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(soft - _SPARE_DESCRIPTORS, soft // 2)


class TrustedProxies:
    """
    The proxies with trusted headers about their clients.

    Args:
        names: Addresses, networks (``10.0.0.0/8``), or ``unix`` for clients of a unix socket.

    Raises:
        ConfigurationError: If one is none of these.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._trusts_unix = "unix" in names
        self._networks = [_network(name) for name in names if name != "unix"]

    def client_of(self, peer: str, forwarded_for: str) -> str | None:
        """
        Return the address by which a client is counted; for IPv6 the network of the customer.

        The header is read from the right: each trusted proxy appends the address before it. What a client has written
        stands further left.

        Args:
            peer: The address of the connection; empty for a unix socket.
            forwarded_for: The header ``X-Forwarded-For``.

        Returns:
            ``None`` if it is unknown: without named proxies a loopback or private address may be a proxy, and all its
            clients would count as one.
        """
        if not self.trusts(peer):
            address = _address(peer)
            is_limited = address is not None and (bool(self._networks) or not address.is_private)
            return _counted(address) if address is not None and is_limited else None
        for hop in reversed([part.strip() for part in forwarded_for.split(",") if part.strip()]):
            if not self.trusts(hop):
                address = _address(hop)
                return None if address is None else _counted(address)
        return None

    def trusts(self, hop: str) -> bool:
        """Return whether an address, or a unix socket (empty), is one of the proxies."""
        if not hop:
            return self._trusts_unix
        address = _address(hop)
        return address is not None and any(address in network for network in self._networks)


def _network(name: str) -> IPv4Network | IPv6Network:
    try:
        return ip_network(name, strict=False)
    except ValueError:
        raise ConfigurationError(
            f"JOBPUSH_TRUSTED_PROXIES must be addresses, networks such as 10.0.0.0/8, or unix; not {name!r}"
        ) from None


@lru_cache(maxsize=_MAX_ADDRESSES)
def _address(text: str) -> IPv4Address | IPv6Address | None:
    """Parse an address, with or without a port: some proxies append it."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _counted(address: IPv4Address | IPv6Address) -> str:
    if isinstance(address, IPv6Address):
        return str(ip_network((address, _IPV6_CUSTOMER), strict=False))
    return str(address)
