"""The one thread of a process that writes to its browsers: what ties Redis, topics and connections together."""

from __future__ import annotations

import json
import logging
import math
import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from ..channels import Topic
from ..config import Config
from ..protocol import messages
from ..protocol.actions import Action, ClientEvent, UserData
from ..protocol.codes import NotAuthorized, Reconnect, TooManyConnectionsOfUser
from ..protocol.server import ServerProtocol, answer
from ..store.hub_commands import HubCommands
from ..store.redis.command_connection import CommandConnection
from ..store.redis.pubsub_connection import PubSubConnection
from .connection import READING, Connection
from .dead_workers import DeadWorkerReaper
from .loop import Loop
from .metrics import Histogram, Refusals, Sampler
from .presence.lease import Lease
from .presence.occupancy_reporter import OccupancyReporter
from .presence.rosters import Rosters
from .presence.watchlists import Watchlists
from .subscribing import Subscribing
from .topics import Topics

logger = logging.getLogger("jobpush.gateway")

#: Slices of a second: each ticks its share of the connections, so that no wake-up pays for all of them.
_SLICES = 8
#: Seconds that a client may take to read our last words and to answer our close.
_END_TIMEOUT = 3.0
#: Seconds without a tick after which the hub will not come back by itself.
_STUCK_AFTER = 30.0
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
        head: The answer to its request, with which it begins.
        opening: Gives the first actions, at the time it is given.
        requests: Messages to be taken as if the client had sent them.
        on_gone: Called when the hub is done with the socket.
    """

    kind: type[Connection]
    fd: int
    protocol: ServerProtocol
    head: bytes
    opening: Callable[[float], Iterable[Action]]
    requests: Sequence[str] = ()
    on_gone: Callable[[], None] | None = None


class Hub:
    """
    Streams events to the connections of one process, from a thread of its own that never blocks.

    To be made after the fork; :meth:`start` it once.
    """

    def __init__(self, config: Config, refusals: Refusals, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.config = config
        #: Why connections, messages and requests were refused.
        self.refusals = refusals
        self.loop = Loop(self._after_each, clock)
        commands = HubCommands(config)
        self._commands = commands
        self._link = CommandConnection(
            self.loop,
            config.redis_url,
            scripts=(*commands.scripts, *Lease.scripts(config), *DeadWorkerReaper.scripts(config)),
            on_up=self._on_link_up,
            on_demoted=lambda: self._subscriber.remake("Redis is a replica now"),
        )
        self._subscriber = PubSubConnection(
            self.loop,
            config.redis_url,
            on_message=lambda key, payload: self._topics.on_message(key, payload),
            on_subscribed=self._on_subscribed,
            on_down=lambda: self._topics.suspend(),
        )
        self._topics = Topics(
            key_of=commands.keys.topic,
            subscribe=self._subscriber.subscribe,
            unsubscribe=self._subscriber.unsubscribe,
            on_command=self._on_command,
            on_watched=lambda watched, members: self.watchlists.hear(watched, members),
            linger=config.linger,
        )
        self._lease = Lease(self.loop, self._link, config, on_held=self._on_held, on_settled=self._on_settled)
        self._census = OccupancyReporter(self.loop, self._link, self._lease, config)
        self._rosters = Rosters(self.loop, self._link, self._lease, self._topics)
        self.watchlists = Watchlists(self.loop, self._link, self._lease, self._topics)
        self._lost_tasks = DeadWorkerReaper(self.loop, self._link, config, lambda: self._lease.is_held)
        self.joins = Subscribing(
            self.loop, self._link, commands, self._topics, self._lease, self._census, self._rosters, config
        )
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
        #: Seconds that events took to their sockets.
        self.delivery = Histogram()
        self._sampler = Sampler(self.delivery)
        #: Deliveries that a newer event has replaced in an outbox, and messages that were thrown away with one.
        self.conflated = 0
        self.dropped = 0
        #: Messages of clients.
        self.client_messages = 0
        #: Connections that were taken over.
        self._opened = 0
        self._thread = threading.Thread(target=self._run, name="jobpush-hub", daemon=True)

    # -- from any thread -----------------------------------------------------------------------------

    @property
    def is_ready(self) -> bool:
        """Whether Redis is heard and does what it is asked, and this process serves and is not about to end."""
        hears = self._subscriber.is_up and self._link.is_up and self._lease.is_held
        return hears and self._thread.is_alive() and self._drain_until is None

    @property
    def connection_count(self) -> int:
        """Connections that are open."""
        return sum(map(len, self._connections))

    @property
    def topic_count(self) -> int:
        """Topics that are heard."""
        return len(self._topics)

    def counts(self) -> tuple[int, ...]:
        """In the order of :data:`~jobpush.gateway.metrics.COUNTERS`; exact in the hub's own thread."""
        tally = self._topics.tally
        return (
            self._opened,
            self.client_messages,
            self._subscriber.received,
            tally.sent - self.conflated,
            tally.conflated + self.conflated,
            self.dropped,
            max(0, self._link.reconnects) + max(0, self._subscriber.reconnects),
            self._lost_tasks.count,
        )

    @property
    def is_alive(self) -> bool:
        """Whether its thread serves: it ticks several times a second."""
        return self._thread.is_alive() and time.monotonic() - self.loop.now < _STUCK_AFTER

    @property
    def is_draining(self) -> bool:
        """Whether it has been told to stop."""
        return self._drain_until is not None

    def start(self) -> None:
        """Begin to serve."""
        self._thread.start()

    def adopt(self, arrival: Arrival) -> None:
        """Take over a connection; a hub that has ended closes it."""
        if not self.loop.call_soon(lambda: self._take_over(arrival)):
            os.close(arrival.fd)
            if arrival.on_gone is not None:
                arrival.on_gone()

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

    def sign_in(self, connection: Connection, user: UserData) -> bool:
        """A connection is a user's from now on; ``False`` if it is one too many, and is closed."""
        topic = Topic(f"user:{user.id}")
        limit = self.config.max_connections_per_user
        if limit and not connection.is_signed_in and self._topics.hear(topic).signed_in >= limit:
            error = TooManyConnectionsOfUser(f"Over capacity: a user may have {limit} connections")
            connection.perform(answer(error))
            return False
        self._census.enter(connection, topic)
        if not connection.is_signed_in:
            connection.is_signed_in = True
            self._topics.sign_in(topic)
        self.watchlists.watch(connection, user.watchlist)
        return True

    def publish(self, connection: Connection, event: ClientEvent) -> None:
        """Pass an event of a client on to the others of a channel."""
        channel = next((one for one in connection.channels if one.name == event.channel), None)
        if channel is None:
            return
        members = messages.event_members(event.event, event.data, event.user_id)
        task_id = (channel.task_id or b"-").decode()
        socket_id = connection.socket_id
        self._link.call(self._commands.client_event(channel.topic.name, task_id, members, socket_id))
        told = self._lease.presence.client_event(event.channel, event.event, event.data, socket_id, event.user_id)
        if told is not None:
            self._link.run(told)

    # -- inside --------------------------------------------------------------------------------------

    def _run(self) -> None:
        self._begin()
        try:
            self.loop.run()
        finally:
            self.loop.close()

    def _begin(self) -> None:
        self._link.start()
        self._subscriber.start()
        self._lease.start()
        self._tick()
        self._lost_tasks.start()

    def _on_link_up(self) -> None:
        self._lease.on_link_up()
        self._lost_tasks.on_link_up()
        self.joins.on_link_up()

    def _on_held(self, has_lost_data: bool) -> None:
        self._census.say_again(has_lost_data=has_lost_data)
        self._rosters.on_held()
        self.watchlists.on_held()

    def _on_settled(self) -> None:
        self._rosters.on_settled()
        self.watchlists.on_settled()

    def _on_subscribed(self, key: bytes) -> None:
        topic = self._topics.get(key)
        if topic is None:
            return
        topic.is_confirmed = True
        self.joins.on_confirmed(topic)
        if topic.watched is not None:
            self.watchlists.on_confirmed(topic.watched)

    def _on_command(self, text: bytes) -> None:
        command = json.loads(text)
        if command.get("command") != "disconnect":
            return
        actions = answer(NotAuthorized("Disconnected by the application"))
        for connections in self._connections:
            for connection in connections.values():
                user = connection.protocol.user
                if user is not None and user.id == command["user"] and not connection.is_closing:
                    self._census.dismiss(connection)
                    connection.perform(actions)

    def _take_over(self, arrival: Arrival) -> None:
        self._opened += 1
        connection = arrival.kind(self, arrival.fd, arrival.protocol, arrival.on_gone)
        self.loop.register(connection.fd, connection, READING)
        self._slice_of(connection)[connection.fd] = connection
        try:
            connection.begin(arrival.head, arrival.opening(self.loop.now), arrival.requests)
        except Exception as exc:
            connection.on_failure(exc)

    def _slice_of(self, connection: Connection) -> dict[int, Connection]:
        return self._connections[connection.fd % _SLICES]

    def _after_each(self) -> None:
        """Send all that the wake-up has given rise to: one call into the kernel for each socket."""
        timed = self._topics.first_waiting
        if timed is not None and not self._sampler.is_due(self.loop.now):
            timed = None
        self._topics.flush()
        if timed is not None:
            self._sampler.observe(timed)
        self.joins.finish()
        self.watchlists.finish()
        while self._unflushed or self._lost or self._given_up:
            given_up, self._given_up = self._given_up, []
            for connection, code, reason in given_up:
                connection.give_up(code, reason)
            unflushed, self._unflushed = self._unflushed, []
            for connection in unflushed:
                try:
                    connection.flush()
                except Exception:
                    logger.exception("connection %s is lost on account of an error", connection.socket_id)
                    self.lose(connection)
            lost, self._lost = self._lost, []
            for connection in lost:
                self._bury(connection)
        if self._lease.is_held:
            self._census.flush()  # before the joins: who learns of one is to find it counted
            self.joins.ask()
            self.watchlists.flush()
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
        if connection.is_signed_in and connection.protocol.user is not None:
            self._topics.sign_out(Topic(f"user:{connection.protocol.user.id}"), self.loop.now)

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
            self._census.tick()
            self._lease.tick()
        if self._drain_until is not None:
            self._drain(self._drain_until)

    def _begin_to_drain(self) -> None:
        closing_takes = self.connection_count / _CLOSES_PER_SECOND
        self._drain_until = self.loop.now + min(self.config.drain_timeout, closing_takes)
        logger.info("the gateway ends; %d connections are sent to another", self.connection_count)
        self._drain(self._drain_until)

    def _drain(self, until: float) -> None:
        """
        Close some connections: as many in each slice of time as makes them all closed when it ends.

        Source: pusher-js comes back in the same instant on 4200, and a stampede is what a gateway that is
        being replaced can do without.
        """
        left = [one for connections in self._connections for one in connections.values()]
        if not left or self.loop.now > until + _END_TIMEOUT:
            logger.info("the gateway has ended; %d connections did not go by themselves", len(left))
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
        self._lease.end()
        self._link.flush()
        self._link.stop()
        self._subscriber.stop()
        self.loop.stop()
