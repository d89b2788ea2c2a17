"""The thread of a process that serves its browsers: wiring of Redis, topics, presence and connections."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Hashable, Sequence
from functools import lru_cache

from ..channels import Topic
from ..config import Config, warn_about_unknown_variables
from ..protocol import messages
from ..protocol.actions import ClientEvent
from ..store.hub_commands import HubCommands
from ..store.redis.hub_connections import connect
from .connection import Connection
from .connections import LONGEST_END, SLICES, Connections, Opening
from .counters import DeliveryTimes, Refusals, Traffic, Values
from .dead_workers import DeadWorkerReaper
from .loop import Loop
from .presence.lease import Lease
from .presence.occupancy_reporter import OccupancyReporter
from .presence.rosters import Rosters
from .presence.watchlists import Watchlists
from .signed_in_users import Users
from .subscribing import Subscribing
from .topics import Topics

logger = logging.getLogger("jobpush.gateway")

#: Seconds without a tick after which the hub counts as dead.
_STUCK_AFTER = 30.0


class Hub:
    """
    Streams events to the connections of one process, from its own thread, which never blocks.

    Create it after the fork, and call :meth:`start` once. It is the :class:`~jobpush.gateway.connection.ConnectionHost`
    of all its connections.
    """

    def __init__(self, config: Config, refusals: Refusals, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.config = config
        #: Refused connections, messages and requests, by reason.
        self.refusals = refusals
        self.traffic = Traffic()
        self._delivery = DeliveryTimes()
        self.loop = Loop(self._after_each, clock)
        self._hub_commands = HubCommands(config)
        self._topic_key = lru_cache(maxsize=512)(self._hub_commands.keys.topic)
        self._commands, self._pubsub = connect(
            self.loop,
            config.redis_url,
            probe=self._hub_commands.keys.probe,
            on_up=self._on_connected,
            on_message=lambda key, payload: self._topics.on_message(key, payload),
            on_subscribed=self._on_subscribed,
            on_down=lambda keys: self._topics.suspend(keys),
        )
        self._topics = Topics(
            self._pubsub,
            self._topic_key,
            lambda text: self._users.on_command(text),
            lambda watched, members: self._watchlists.receive(watched, members),
            config.linger,
            self.traffic,
        )
        self._lease = Lease(self.loop, self._commands, config, on_held=self._on_held, on_settled=self._on_settled)
        self._reporter = OccupancyReporter(
            self.loop, self._commands, self._lease, config, self._topics.subscribers, self._server_of
        )
        self._rosters = Rosters(self.loop, self._commands, self._lease, self._topics, self._reporter)
        self._watchlists = Watchlists(self.loop, self._commands, self._lease, self._topics)
        self._dead_workers = DeadWorkerReaper(self.loop, self._commands, config, lambda: self._lease.is_held)
        self._subscribing = Subscribing(
            self.loop,
            self._commands,
            self._hub_commands,
            self._topics,
            self._lease,
            self._reporter,
            self._rosters,
            config,
            self._server_of,
            self.traffic,
        )
        self._connections = Connections(self.loop, lambda connection: self._users.on_closed(connection))
        self._users = Users(
            self.loop,
            self._commands,
            self._hub_commands,
            self._topics,
            self._reporter,
            self._watchlists,
            lambda: self._connections,
            config,
        )
        # The rest of the ConnectionHost.
        self.flush_later = self._connections.flush_later
        self.lose = self._connections.lose
        self.close_later = self._connections.close_later
        self.expect_end = self._connections.expect_end
        self.sign_in = self._users.sign_in
        self.sign_out = self._users.sign_out
        self.check_token = self._users.check_token
        self.subscribe = self._subscribing.begin
        self.unsubscribe = self._subscribing.leave
        self._thread = threading.Thread(target=self._run, name="jobpush-hub", daemon=True)

    # -- from any thread -----------------------------------------------------------------------------

    @property
    def server(self) -> str:
        """The Redis that the hub uses, without its password."""
        return self._commands.server

    @property
    def is_ready(self) -> bool:
        """Whether both connections to Redis are up, Redis accepts commands, and the hub is not about to stop."""
        is_connected = self._pubsub.is_working and self._commands.is_working and self._lease.is_held
        return is_connected and self._thread.is_alive() and not self.is_draining

    @property
    def is_alive(self) -> bool:
        """Whether its thread works, judged by its regular ticks."""
        return self._thread.is_alive() and time.monotonic() - self.loop.now < _STUCK_AFTER

    @property
    def is_draining(self) -> bool:
        """Whether :meth:`stop` was called."""
        return self._connections.is_draining

    def values(self) -> Values:
        """Return all metric values; exact in the hub's thread."""
        traffic = self.traffic
        gauges = len(self._connections), len(self._topics), self.is_ready, 1
        counters = (
            traffic.opened,
            traffic.client_messages,
            self._pubsub.received,
            traffic.deliveries - traffic.conflated,
            traffic.conflated,
            traffic.dropped,
            self._commands.reconnects + self._pubsub.reconnects,
            self._dead_workers.count,
        )
        return (*gauges, *counters, *self.refusals.counts, *self._delivery.counts, self._delivery.sum)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def adopt(self, connection: Connection, head: bytes, opening: Opening, requests: Sequence[str] = ()) -> None:
        """
        Take over a connection; a hub that has ended closes it.

        Args:
            connection: Made for this hub.
            head: The answer to its HTTP request, sent first.
            opening: Its first actions.
            requests: Processed as messages of the client.
        """
        if not self.loop.call_soon(lambda: self._connections.take_over(connection, head, opening, requests)):
            os.close(connection.fd)
            connection.gone()

    def stop(self) -> None:
        """Close all connections, spread over ``Config.drain_timeout``, and end the thread; returns after that."""
        if self._thread.is_alive():
            self.loop.call_soon(lambda: self._connections.drain(self.config.drain_timeout, self._retract))
            self._thread.join(self.config.drain_timeout + 2 * LONGEST_END)

    # -- for connections -----------------------------------------------------------------------------

    def leave(self, connection: Connection) -> None:
        """Remove a connection from all channels and watchlists."""
        self._subscribing.leave_all(connection)
        self._watchlists.discard(connection)

    def publish(self, connection: Connection, event: ClientEvent) -> None:
        """Publish a client event to the other listeners of a channel, and to webhooks."""
        channel = next((one for one in connection.channels if one.name == event.channel), None)
        if channel is None:
            return
        members = messages.event_members(event.event, event.data, event.user_id)
        task_id = (channel.task_id or b"-").decode()
        socket_id = connection.socket_id
        self._commands.call(self._hub_commands.client_event(channel.topic.name, task_id, members, socket_id))
        presence = self._lease.presence
        webhook = presence.client_event(event.channel, event.event, event.data, socket_id, event.user_id)
        if webhook is not None:
            self._commands.run(webhook)

    # -- inside --------------------------------------------------------------------------------------

    def _server_of(self, topic: Topic) -> Hashable:
        return self._commands.server_of(self._topic_key(topic))

    def _run(self) -> None:
        warn_about_unknown_variables()
        self._begin()
        try:
            self.loop.run()
        finally:
            self.loop.close()

    def _begin(self) -> None:
        self._commands.start()
        self._pubsub.start()
        self._lease.start()
        self._dead_workers.start()
        self._tick()

    def _on_connected(self, holds_leases: bool, has_lost_data: bool) -> None:
        if holds_leases:
            self._lease.on_connected()  # first: everything else counts under the lease only
            self._dead_workers.on_connected()
        else:  # another shard of a cluster
            if has_lost_data:
                self._lease.unsettle()
            self._on_held(has_lost_data)
        self._subscribing.on_connected()

    def _on_held(self, has_lost_data: bool) -> None:
        self._reporter.republish(has_lost_data=has_lost_data)
        self._rosters.on_held()
        self._watchlists.on_held()

    def _on_settled(self) -> None:
        self._rosters.on_settled()
        self._watchlists.on_settled()

    def _on_subscribed(self, key: bytes) -> None:
        topic = self._topics.get(key)
        if topic is None:
            return
        topic.is_confirmed = True
        self._subscribing.on_confirmed(topic)
        if topic.watched is not None:
            self._watchlists.on_confirmed(topic.watched)

    def _after_each(self) -> None:
        """Send the output of the wake-up to browsers and to Redis."""
        timed = self._topics.first_waiting
        if timed is not None and not self._delivery.is_due(self.loop.now):
            timed = None
        self._topics.flush()
        if timed is not None:
            self._delivery.observe(timed.published_at)
        self._subscribing.finish()
        self._watchlists.finish()
        self._connections.finish()
        if self._lease.is_held:
            self._reporter.flush()
            self._subscribing.ask()  # after the reports: a subscriber is counted before it gets its answer
            self._watchlists.flush()
        self._pubsub.flush()
        self._commands.flush()

    def _tick(self) -> None:
        self.loop.call_later(1 / SLICES, self._tick)
        if self._connections.tick():
            self._commands.tick()
            self._pubsub.tick()
            self._topics.tick(self.loop.now)
            self._reporter.tick()
            self._lease.tick()

    def _retract(self) -> None:
        self.loop.call_later(LONGEST_END, self._end)
        self._reporter.retract(self._end)

    def _end(self) -> None:
        self._lease.end()
        self._commands.flush()
        self._commands.stop()
        self._pubsub.stop()
        self.loop.stop()
