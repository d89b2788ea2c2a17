"""Replies to the calls of :class:`~jobpush.store.presence.Presence`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Renewal:
    """
    The reply to a renewal.

    Args:
        is_held: Whether the lease was renewed; if not, the gateway needs a new id.
        epoch: Changes when Redis has lost data: then repeated statements are no news.
    """

    is_held: bool
    epoch: str


@dataclass(frozen=True, slots=True)
class Roster:
    """
    The members of a presence channel.

    Args:
        seq: It contains the announcements on the topic up to this ``seq``.
        members: ``user_info`` (JSON text) by user id.
    """

    seq: int
    members: Mapping[str, str]


def read_renewal(reply: Sequence[Any]) -> Renewal:
    """Read the reply of :meth:`Presence.renew`."""
    return Renewal(bool(reply[0]), reply[1].decode())


def read_roster(reply: Sequence[Any]) -> Roster:
    """Read the reply of :meth:`Presence.roster`."""
    seq, stored = reply
    members = {
        read_member_id(field): value.partition(b"|")[2].decode()
        for field, value in zip(stored[::2], stored[1::2], strict=True)
    }
    return Roster(int(seq), members)


def read_online(user_ids: Sequence[str], reply: Sequence[Any]) -> list[str]:
    """Return the online ones of ``user_ids``, by the reply to a command of :meth:`Presence.watched`."""
    return [user_id for user_id, score in zip(user_ids, reply, strict=True) if score is not None]


def read_member_id(field: bytes) -> str:
    """Return the user id of a member, which is stored as the inside of a JSON string."""
    member: str = json.loads(b'"%b"' % field)
    return member
