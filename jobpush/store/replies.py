"""What Redis answers to the calls of :class:`~jobpush.store.presence.Presence`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Renewal:
    """
    What became of a lease.

    Args:
        is_held: Whether it was renewed; if not, the gateway needs a new id.
        epoch: Changes when Redis has lost data: then what is said anew is no news.
    """

    is_held: bool
    epoch: str


@dataclass(frozen=True, slots=True)
class Roster:
    """
    The members of a presence channel.

    Args:
        seq: Of the announcements on the topic, those up to this ``seq`` are in it already.
        members: ``user_info`` (JSON text) by user id.
    """

    seq: int
    members: Mapping[str, str]


def read_renewal(reply: Sequence[Any]) -> Renewal:
    """What :meth:`Presence.renew` was answered."""
    return Renewal(bool(reply[0]), reply[1].decode())


def read_roster(reply: Sequence[Any]) -> Roster:
    """What :meth:`Presence.roster` was answered."""
    seq, stored = reply
    members = {
        read_member_id(field): value.partition(b"|")[2].decode()
        for field, value in zip(stored[::2], stored[1::2], strict=True)
    }
    return Roster(int(seq), members)


def read_online(user_ids: Sequence[str], reply: Sequence[Any]) -> list[str]:
    """Those of ``user_ids`` that are online, by the answer to :meth:`Presence.watched`."""
    return [user_id for user_id, score in zip(user_ids, reply, strict=True) if score is not None]


def read_member_id(field: bytes) -> str:
    """The user id of a member, stored as it stands between the quotes of a JSON string."""
    member: str = json.loads(b'"%b"' % field)
    return member
