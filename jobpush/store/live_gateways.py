"""Which gateways live, and what counts of what gateways have said: only the words of those."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .keys import Keys
from .scripts import Call, load


@dataclass(frozen=True, slots=True)
class LiveGateways:
    """
    The gateways whose lease has not ended.

    Args:
        ids: Theirs.
        has_ghosts: Whether something may be stored of others, which nobody has taken back yet.
    """

    ids: frozenset[bytes]
    has_ghosts: bool

    def count(self, connections: Mapping[bytes, bytes]) -> int:
        """Sum numbers of connections, given by gateway id."""
        return sum(int(number) for gateway, number in connections.items() if gateway in self.ids)

    def hold(self, stored: bytes) -> bool:
        """Whether a member, as he is stored, is one by any of them; see ``presence.lua`` for the form."""
        return not self.ids.isdisjoint(stored.partition(b"|")[0].split())


def ask_live_gateways(keys: Keys) -> Call:
    """A call for :func:`read_live_gateways`."""
    return Call(load("presence", "live"), (keys.gateways,), ())


def read_live_gateways(reply: Sequence[Any]) -> LiveGateways:
    """What :func:`ask_live_gateways` was answered."""
    ids, dead = reply
    return LiveGateways(frozenset(ids), dead > 0)
