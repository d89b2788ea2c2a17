"""The one thread of a process that writes to its browsers: what ties Redis, topics and connections together."""

from __future__ import annotations

import logging
import math
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from ..config import Config
from ..protocol import messages
from ..protocol.actions import Action, ClientEvent
from ..protocol.codes import Reconnect
from ..protocol.server import ServerProtocol
from ..store.commands import HubCommands
from ..store.link import CommandLink
from ..store.subscriber import Subscriber
from .census import Census
from .connection import READING, Connection
from .joins import Joins
from .loop import Loop
from .lost import LostTasks
from .topics import Topics

logger = logging.getLogger("jobpush.gateway")

#: Slices of a second: each ticks its share of the connections, so that no wake-up pays for all of them.
_SLICES = 8
#: Seconds that a client may take to read our last words and to answer our close.
_END_TIMEOUT = 3.0
#: Closes per second when the gateway stops: fewer connections need less than ``Config.drain_timeout``.
_CLOSES_PER_SECOND = 200.0


@dataclass(frozen=True, slots=True)
class Arrival:
    """
    A connection that a request thread hands over to the hub.

    Args:
        kind: What speaks on it.
        fd: Its socket; the hub closes it.
        protocol: Its protocol, not yet opened.
        opening: Gives the first actions, at the time it is given.
        requests: Messages to be taken as if the client had sent them.
        on_gone: Called when the hub is done with the socket.
    """

    kind: type[Connection]
    fd: int
    protocol: ServerProtocol
    opening: Callable[[float], Iterable[Action]]
    requests: Sequence[str] = ()
    on_gone: Callable[[], None] | None = None


class Hub:
    """
    Streams events to the connections of one process, from a thread of its own that never blocks.

    To be made after the fork; :meth:`start` it once.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.loop = Loop(self._after_each)
        commands = HubCommands(config)
        self._commands = commands
        self._link = CommandLink(
            self.loop,
            config.redis_url,
            scripts=(*commands.scripts, *Census.scripts(config), *LostTasks.scripts(config)),
            on_up=self._on_link_up,
        )
        self._subscriber = Subscriber(
            self.loop,
            config.redis_url,
            on_message=lambda key, payload: self._topics.on_message(key, payload),
            on_subscribed=lambda key: self.joins.on_subscribed(key),
            on_down=lambda: self._topics.suspend(),
        )
        self._topics = Topics(
            key_of=commands.keys.topic,
            subscribe=self._subscriber.subscribe,
            unsubscribe=self._subscriber.unsubscribe,
            linger=config.linger,
        )
        self.census = Census(self.loop, self._link, config)
        self._lost_tasks = LostTasks(self.loop, self._link, config)
        self.joins = Joins(self.loop, self._link, commands, self._topics, self.census)
        #: By descriptor, in slices for the tick.
        self._connections: list[dict[int, Connection]] = [{} for _ in range(_SLICES)]
        self._slice = 0
        self._unflushed: list[Connection] = []
        self._lost: list[Connection] = []
        self._given_up: list[tuple[Connection, int, str]] = []
        #: Connections that are closing, and until when they may; the oldest first.
        self._ending: dict[Connection, float] = {}
        #: When the last connection is to be closed, once the hub has been told to stop.
        self._drain_until: float | None = None
        self._thread = threading.Thread(target=self._run, name="jobpush-hub", daemon=True)

    # -- from any thread -----------------------------------------------------------------------------

    @property
    def is_ready(self) -> bool:
        """Whether Redis is heard and answers."""
        return self._link.is_up and self._subscriber.is_up

    def start(self) -> None:
        """Begin to serve."""
        self._thread.start()

    def adopt(self, arrival: Arrival) -> None:
        """Take over a connection."""
        self.loop.call_soon(lambda: self._take_over(arrival))

    def stop(self) -> None:
        """Close all connections, spread over a while, and end. Returns when that is done."""
        if self._thread.is_alive():
            self.loop.call_soon(self._begin_to_drain)
            self._thread.join(self.config.drain_timeout + 2 * _END_TIMEOUT)

    # -- for connections -----------------------------------------------------------------------------

    def flush_later(self, connection: Connection) -> None:
        """Let a connection flush at the end of the wake-up, when all that it brings is together."""
        self._unflushed.append(connection)

    def lose(self, connection: Connection) -> None:
        """Close the socket of a connection at the end of the wake-up. Twice does no harm."""
        self._lost.append(connection)

    def close_later(self, connection: Connection, code: int, reason: str) -> None:
        """Close a connection when nobody is in the middle of a pass over many of them."""
        self._given_up.append((connection, code, reason))

    def expect_end(self, connection: Connection) -> None:
        """A connection is closing; it shall not take for ever."""
        self._ending[connection] = self.loop.now + _END_TIMEOUT

    def publish(self, connection: Connection, event: ClientEvent) -> None:
        """Pass an event of a client on to the others of a channel."""
        channel = next((one for one in connection.channels if one.name == event.channel), None)
        if channel is None:
            return
        members = messages.event_members(event.event, event.data, event.user_id)
        task_id = (channel.task_id or b"-").decode()
        self._link.run(self._commands.client_event(channel.topic.name, task_id, members, connection.socket_id))

    # -- inside --------------------------------------------------------------------------------------

    def _run(self) -> None:
        self._link.start()
        self._subscriber.start()
        self._tick()
        self._lost_tasks.start()
        try:
            self.loop.run()
        finally:
            self.loop.close()

    def _on_link_up(self) -> None:
        self.census.on_link_up()
        self._lost_tasks.on_link_up()
        self.joins.on_link_up()

    def _take_over(self, arrival: Arrival) -> None:
        connection = arrival.kind(self, arrival.fd, arrival.protocol, arrival.on_gone)
        self.loop.register(connection.fd, connection, READING)
        self._slice_of(connection)[connection.fd] = connection
        try:
            connection.begin(arrival.opening(self.loop.now), arrival.requests)
        except Exception as exc:
            connection.on_failure(exc)

    def _slice_of(self, connection: Connection) -> dict[int, Connection]:
        return self._connections[connection.fd % _SLICES]

    def _after_each(self) -> None:
        """Send all that the wake-up has given rise to: one call into the kernel for each socket."""
        self._topics.flush()
        self.joins.finish()
        while self._unflushed or self._lost or self._given_up:
            given_up, self._given_up = self._given_up, []
            for connection, code, reason in given_up:
                connection.give_up(code, reason)
            unflushed, self._unflushed = self._unflushed, []
            for connection in unflushed:
                connection.flush()
            lost, self._lost = self._lost, []
            for connection in lost:
                self._bury(connection)
        self.census.flush()  # before the joins: who learns of one is to find it counted
        self.joins.ask()
        self._subscriber.flush()
        self._link.flush()

    def _bury(self, connection: Connection) -> None:
        if self._slice_of(connection).get(connection.fd) is not connection:
            return
        del self._slice_of(connection)[connection.fd]
        self._ending.pop(connection, None)
        self.loop.unregister(connection.fd)
        os.close(connection.fd)
        connection.gone()

    def _tick(self) -> None:
        self.loop.call_later(1 / _SLICES, self._tick)
        now = self.loop.now
        self._slice = (self._slice + 1) % _SLICES
        for connection in list(self._connections[self._slice].values()):
            try:
                connection.tick(now)
            except Exception as exc:
                connection.on_failure(exc)
        for connection, until in list(self._ending.items()):
            if until > now:
                break
            self.lose(connection)
        if self._slice == 0:
            self._link.tick()
            self._subscriber.tick()
            self._topics.tick(now)
            self.census.tick()
        if self._drain_until is not None:
            self._drain(self._drain_until)

    def _begin_to_drain(self) -> None:
        count = sum(map(len, self._connections))
        self._drain_until = self.loop.now + min(self.config.drain_timeout, count / _CLOSES_PER_SECOND)
        self._drain(self._drain_until)

    def _drain(self, until: float) -> None:
        """
        Close some connections: as many in each slice of time as makes them all closed when it ends.

        Source: pusher-js comes back in the same instant on 4200, and a stampede is what a gateway that is
        being replaced can do without.
        """
        left = [one for connections in self._connections for one in connections.values()]
        if not left or self.loop.now > until + _END_TIMEOUT:
            self._end()
            return
        open_ones = [one for one in left if not one.is_closing]
        slices = max(1, math.ceil((until - self.loop.now) * _SLICES))
        for connection in open_ones[: math.ceil(len(open_ones) / slices)]:
            connection.close(Reconnect.number, "the gateway is restarting")

    def _end(self) -> None:
        for connections in self._connections:
            for connection in list(connections.values()):
                self._bury(connection)
        self.census.end()
        self._link.flush()
        self._link.stop()
        self._subscriber.stop()
        self.loop.stop()
