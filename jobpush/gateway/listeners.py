"""Who hears a channel in this process: those who have everything up to now, and those who are catching up."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from ..channels import parse_channel
from ..protocol.actions import Subscribe
from ..store.hub_commands import stream_position
from ..store.messages import Message
from .broadcast import Batch, Broadcast, only_newest
from .presence.rosters import LiveRoster

if TYPE_CHECKING:
    from .connection import Connection
    from .topics import TopicState


class CatchUp:
    """
    Connections of one channel that lack something: what was said before they came, or while Redis was away.

    What is said meanwhile is kept for them. Once they have the history up to ``position``, the live events
    up to there are to be dropped; with the first event beyond it they are like all others. The snapshots of a
    workflow's member are in no history: there its ``seq`` tells which are older than the one they got.

    Args:
        channel: What they hear.
        since: Stream id of the last event they have; empty for none.
        is_join: Whether they have just come, and are to be told that they have joined.
    """

    __slots__ = (
        "attempt",
        "batch",
        "channel",
        "connections",
        "is_asked",
        "is_join",
        "is_live",
        "position",
        "seq",
        "since",
    )

    def __init__(self, channel: Channel, since: str, *, is_join: bool) -> None:
        self.channel = channel
        self.since = since
        self.is_join = is_join
        #: Each with what it asked for; ``None`` where it had joined before.
        self.connections: dict[Connection, Subscribe | None] = {}
        self.batch = Batch()
        self.is_asked = False
        #: An answer to an earlier attempt than this is of no use.
        self.attempt = 0
        #: Once they have the history: up to which id.
        self.position: bytes | None = None
        #: Of the snapshot of a workflow's member that they have; 0: none.
        self.seq = 0
        #: Whether the live events have come beyond that.
        self.is_live = False

    @property
    def has_published(self) -> bool:
        """Whether they know that they have joined."""
        return self.position is not None or not self.is_join

    def hear(self, broadcast: Broadcast) -> None:
        """Keep what is said while they catch up, unless the history held it."""
        if self.position is not None:
            if broadcast.stream_id is not None:
                if stream_position(broadcast.stream_id) <= stream_position(self.position):
                    return
                self.is_live = True
            elif self.seq and broadcast.key is not None:
                if broadcast.seq <= self.seq:
                    return
                self.is_live = True
        self.batch.add(broadcast)

    def hear_of_member(self, broadcast: Broadcast) -> None:
        """Those who are yet to be told that they have joined get the whole roster with that; the others, this."""
        if self.position is not None:
            self.batch.add(broadcast)
        elif not self.is_join:
            for connection in self.connections:
                connection.queue((broadcast,))

    def has_caught_up(self, position: bytes, history: Iterable[Broadcast] = ()) -> None:
        """They have the history up to a position; drop of what was kept what that held."""
        self.position = position
        self.seq = max((one.seq for one in history if one.stream_id is None and one.key is not None), default=0)
        for broadcast in self.batch.take():
            self.hear(broadcast)

    def start_over(self) -> None:
        """The subscription broke: nothing that was kept is whole."""
        if self.position is not None:
            self.since, self.is_join = self.position.decode(), False
            self.connections = dict.fromkeys(self.connections)
        self.position, self.seq = None, 0
        self.batch.take()
        self.ask_again()

    def ask_again(self) -> None:
        """The answer will not come."""
        self.is_asked = False
        self.attempt += 1


class Tally:
    """What all channels of a process have sent; plain integers, for they are counted on the hub's hot path."""

    __slots__ = ("conflated", "sent")

    def __init__(self) -> None:
        #: Deliveries: one for each connection that an event was for.
        self.sent = 0
        #: Deliveries that were spared by a newer event in the same wake-up.
        self.conflated = 0


class Channel:
    """A channel and its listeners in this process."""

    __slots__ = ("catch_ups", "connections", "floor", "fresh", "name", "roster", "task_id", "topic", "wire_name")

    def __init__(self, name: str, topic: TopicState) -> None:
        kind = parse_channel(name)
        self.name = name
        self.wire_name = name.encode()
        self.topic = topic
        #: Of the task whose events alone it carries; ``None``: everything that its topic says.
        self.task_id = None if kind.task_id is None else kind.task_id.encode()
        #: Its members; of presence channels only.
        self.roster = LiveRoster() if kind.is_presence else None
        #: Those who have everything up to now, in the order in which they came: the kernel has their sockets in that
        #: order too, and where they are many, the way through its memory is what a delivery costs.
        self.connections: dict[Connection, None] = {}
        #: Stream id up to which they had everything when they came, beyond what was live then; ``None`` from the first
        #: live event beyond it on.
        self.floor: bytes | None = None
        self.catch_ups: list[CatchUp] = []
        #: What the present wake-up has brought; ``None``: nothing yet.
        self.fresh: list[Broadcast] | None = None

    def carries(self, message: Message) -> bool:
        """Whether a message of its topic is for it."""
        return self.task_id is None or self.task_id == message.task_id

    def is_beyond_floor(self, message: Message) -> bool:
        """Whether those who are up to date have yet to hear a message; there is a floor."""
        if message.stream_id is not None and self.floor is not None:
            if stream_position(message.stream_id) <= stream_position(self.floor):
                return False
            self.floor = None
        return True

    def begin_catch_up(self, connection: Connection, join: Subscribe) -> CatchUp:
        """Let a connection join. Returns its catch-up: a new one, or one for the same history that is not asked yet."""
        since = join.since or ""
        for waiting in self.catch_ups:
            if waiting.is_join and waiting.since == since and not waiting.is_asked and waiting.position is None:
                waiting.connections[connection] = join
                return waiting
        catch_up = CatchUp(self, since, is_join=True)
        catch_up.connections[connection] = join
        self.catch_ups.append(catch_up)
        return catch_up

    def settle(self, catch_up: CatchUp) -> None:
        """Those who have the history hear what is live: the first at once, others with those who have as much."""
        if catch_up not in self.catch_ups:
            return  # all of them have gone
        self.catch_ups.remove(catch_up)
        live, position = self.topic.position, catch_up.position
        if position is not None and not catch_up.seq:
            is_reached = live is not None and stream_position(live) >= stream_position(position)
            floor = None if is_reached else position
            if not self.connections and not any(one.position for one in self.catch_ups):
                self.floor = floor  # nobody below it has yet to become one of them
            if self.floor == floor:
                self.connections.update(dict.fromkeys(catch_up.connections))
                return
        for other in self.catch_ups:
            if other.position == position and other.seq == catch_up.seq:
                other.connections.update(catch_up.connections)
                return
        self.catch_ups.append(catch_up)

    def suspend(self) -> None:
        """The subscription is gone: from now on everybody lacks something."""
        for catch_up in self.catch_ups:
            catch_up.start_over()
        if self.connections:
            position = max(filter(None, (self.topic.position, self.floor)), key=stream_position, default=b"")
            catch_up = CatchUp(self, position.decode(), is_join=False)
            catch_up.connections = dict.fromkeys(self.connections)
            self.connections = {}
            self.catch_ups.append(catch_up)
        self.floor = None
        if self.roster is not None:
            self.roster.suspend()

    def discard(self, connection: Connection) -> None:
        """A connection no longer hears the channel."""
        self.connections.pop(connection, None)
        for catch_up in self.catch_ups:
            catch_up.connections.pop(connection, None)
        # One that is asked for stays until its answer: the next to come needs a new one anyway.
        self.catch_ups = [one for one in self.catch_ups if one.connections]

    def tell(self, text: bytes) -> None:
        """Send a message that is no event of the history to all who have been told that they have joined."""
        told: list[Collection[Connection]] = [
            self.connections,
            *(one.connections for one in self.catch_ups if one.has_published),
        ]
        for connections in told:
            for connection in connections:
                connection.tell(text)

    @property
    def is_idle(self) -> bool:
        """Whether nobody hears it."""
        return not self.connections and not self.catch_ups

    def flush(self, tally: Tally) -> None:
        """Send what the wake-up has brought to all who hear the channel."""
        fresh, self.fresh = self.fresh, None
        if fresh and self.connections:
            if len(fresh) > 1:
                newest = only_newest(fresh)
                tally.conflated += (len(fresh) - len(newest)) * len(self.connections)
                fresh = newest
            _deliver(self.connections, fresh, tally)
        for catch_up in tuple(self.catch_ups):
            if catch_up.position is not None and len(catch_up.batch):
                tally.conflated += catch_up.batch.conflated * len(catch_up.connections)
                _deliver(tuple(catch_up.connections), catch_up.batch.take(), tally)
                if catch_up.is_live:
                    self.catch_ups.remove(catch_up)
                    self.connections.update(dict.fromkeys(catch_up.connections))


def _deliver(connections: Collection[Connection], broadcasts: list[Broadcast], tally: Tally) -> None:
    tally.sent += len(connections) * len(broadcasts)
    frames = _joined(broadcasts)
    excluded = _excluded(broadcasts)
    for connection in connections:
        try:
            if excluded is not None and connection.socket_id in excluded:
                tally.sent -= _deliver_others(connection, broadcasts)
            else:
                connection.deliver(broadcasts, frames)
        except Exception as exc:  # costs nothing where there is none, and the others must get theirs
            connection.on_failure(exc)


def _excluded(broadcasts: list[Broadcast]) -> set[str] | None:
    """Socket ids of those who are not to hear all of it; ``None`` where there are none, as with most."""
    excluded: set[str] | None = None
    for broadcast in broadcasts:
        if broadcast.excluded is not None:
            excluded = excluded or set()
            excluded.add(broadcast.excluded)
    return excluded


def _deliver_others(connection: Connection, broadcasts: list[Broadcast]) -> int:
    """Leave out what the connection is not to hear, since it was it that said it. Returns how many that are."""
    heard = [one for one in broadcasts if one.excluded != connection.socket_id]
    if heard:
        connection.deliver(heard, _joined(heard))
    return len(broadcasts) - len(heard)


def _joined(broadcasts: list[Broadcast]) -> bytes:
    """Their frames in one piece."""
    return broadcasts[0].frame if len(broadcasts) == 1 else b"".join([one.frame for one in broadcasts])
