"""What gateways have stated about themselves and their users, as read from Redis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..events import decode
from .malformed import malformed


@dataclass(frozen=True, slots=True)
class Renewal:
    """
    The reply to a renewal.

    Args:
        is_held: Whether the lease was renewed; if not, the gateway needs a new id.
        epoch: Changes when Redis has lost data: then repeated statements are not announced.
    """

    is_held: bool
    epoch: str


@dataclass(frozen=True, slots=True)
class Roster:
    """
    The members of a presence channel.

    Args:
        seq: The roster includes announcements up to this ``seq``.
        members: ``user_info`` (JSON text) by user id.
    """

    seq: int
    members: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class LiveGateways:
    """
    The gateways with a valid lease: only their statements count.

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
        """Return whether any of them has stated a stored member; see ``members.lua`` for the form."""
        return not self.ids.isdisjoint(stored.partition(b"|")[0].split())


def read_renewal(reply: Sequence[Any]) -> Renewal:
    """Read the reply of :meth:`Presence.renew`."""
    return Renewal(bool(reply[0]), reply[1].decode())


def read_roster(reply: Sequence[Any]) -> Roster:
    """Read the reply of :meth:`Presence.roster`."""
    seq, stored = reply
    members = malformed.read("members of presence channels", zip(stored[::2], stored[1::2], strict=True), _read_member)
    return Roster(int(seq) if seq.isdigit() else 0, dict(members))


def read_revoked_at(reply: bytes) -> float:
    """Return since when tokens are revoked, in Unix seconds; if that is not to be read, all of them are."""
    times = malformed.read("marks of revoked tokens", [reply], float)
    return times[0] if times else float("inf")


def read_online(user_ids: Sequence[str], reply: Sequence[Any]) -> list[str]:
    """Return the online users among ``user_ids``, from the reply to a command of :meth:`Presence.watched`."""
    return [user_id for user_id, score in zip(user_ids, reply, strict=True) if score is not None]


def read_member_id(field: bytes) -> str:
    """Return the user id of a member, which is stored as the inside of a JSON string."""
    return str(decode(b'"%b"' % field))


def _read_member(stored: tuple[bytes, bytes]) -> tuple[str, str]:
    field, value = stored
    _, _, user_info = value.partition(b"|")
    decode(user_info)  # it goes to browsers as it is
    return read_member_id(field), user_info.decode()
