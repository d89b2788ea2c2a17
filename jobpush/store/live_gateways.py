"""The gateways with a lease: only their statements count."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .keys import Keys
from .scripts import LIVE, Call


@dataclass(frozen=True, slots=True)
class LiveGateways:
    """
    The gateways with a valid lease.

    Args:
        ids: Their ids.
        has_ghosts: Whether unretracted statements of dead gateways may be stored.
    """

    ids: frozenset[bytes]
    has_ghosts: bool

    def count(self, connections: Mapping[bytes, bytes]) -> int:
        """Sum numbers of connections, given by gateway id."""
        return sum(int(number) for gateway, number in connections.items() if gateway in self.ids and number.isdigit())

    def hold(self, stored: bytes) -> bool:
        """Return whether any of them has stated a stored member; see ``presence.lua`` for the form."""
        return not self.ids.isdisjoint(stored.partition(b"|")[0].split())


def live_gateways_call(keys: Keys) -> Call:
    """Return a call for :func:`read_live_gateways`."""
    return LIVE([keys.gateways])


def read_live_gateways(reply: Sequence[Any]) -> LiveGateways:
    """Read the reply of :func:`live_gateways_call`."""
    ids, dead = reply
    return LiveGateways(frozenset(ids), dead > 0)
