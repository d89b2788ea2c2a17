"""The messages that a catch-up sends to its listeners; pure data."""

from __future__ import annotations

from dataclasses import dataclass

from ..store.hub_commands import NEVER
from .broadcast import Broadcast
from .channel import CatchUp, Channel

#: Bytes of one replay. A connection has one at a time, so together with ``outbox_size`` this bounds its memory.
_MAX_REPLAY = 4_194_304
#: Bytes of all replays of a process that wait to be sent. Each may take a share of what is left, so that clients that
#: read nothing leave something for the others.
_MAX_REPLAYS = 268_435_456
_SHARE = 1 / 64


@dataclass(slots=True)
class History:
    """
    The part of a channel's history that the listeners of a catch-up lack.

    Args:
        channel: The channel.
        start: Stream id up to which a client has everything before ``events``.
        is_lost: Whether events between what a client has and ``events`` are lost to it.
        events: Each with the ``id`` from which the client may resume after it; ``None`` if it can't.
        live: Live events that arrived meanwhile.
        has_cached: Whether a client of a cache channel then has its last event.
    """

    channel: Channel
    start: str
    is_lost: bool
    events: list[tuple[Broadcast, bytes | None]]
    live: list[Broadcast]
    has_cached: bool


def replay_bound(replaying: int, copies: int) -> int:
    """
    Return the bytes that a replay may have.

    Args:
        replaying: Bytes of the replays that wait to be sent.
        copies: Number of times that this one is held in memory.
    """
    return min(_MAX_REPLAY, int(max(0, _MAX_REPLAYS - replaying) * _SHARE) // copies)


def within_bound(broadcasts: list[Broadcast], most: int = _MAX_REPLAY) -> list[Broadcast]:
    """Return the newest broadcasts with ``most`` bytes together."""
    size = 0
    for index in range(len(broadcasts) - 1, -1, -1):
        size += len(broadcasts[index].frame)
        if size > most:
            return broadcasts[index + 1 :]
    return broadcasts


def resumed(catch_up: CatchUp, missed: list[Broadcast], *, is_cut: bool = False) -> History:
    """Return the events that the listeners missed; ``is_cut`` if older ones are left out."""
    events: list[tuple[Broadcast, bytes | None]] = [(one, one.stream_id) for one in missed]
    start = NEVER if is_cut else catch_up.since
    return History(catch_up.channel, start, is_cut, events, catch_up.batch.take(), True)


def snapshots(catch_up: CatchUp, events: list[Broadcast], position: bytes) -> History:
    """
    Return snapshots in place of the events that the listeners missed.

    A client that has only some of the snapshots can't resume, since other events lie between them. So only the last one
    carries the position.
    """
    with_ids = [(one, None if one is not events[-1] else position) for one in events]
    start = NEVER if events else position.decode()
    return History(catch_up.channel, start, bool(catch_up.since), with_ids, catch_up.batch.take(), bool(events))
