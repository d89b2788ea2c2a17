"""Blocking connections to Redis."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any
from weakref import WeakSet

import redis
from redis.exceptions import NoScriptError

from ..forks import register_after_fork
from ..scripts import Call, Command, Request
from .cluster import Cluster, sharded_words
from .errors import ShardUnavailable, as_store_error, explain, is_command_error, is_wrong_server
from .topology import Topology, join_address

#: Seconds of silence after which a subscription sends a PING, and after which its connection counts as broken.
_PING_AFTER = 10
#: Seconds that the clocks of two machines may differ unnoticed.
_CLOCK_TOLERANCE = 0.05


class RedisClient:
    """
    A pool of connections for any number of threads. It connects on first use and is safe to use after a fork.

    Args:
        url: As :class:`Topology` reads it.
        timeout: Seconds to wait for a connection, and for each reply.
        probe: Channel on which each new connection checks its right to publish, before a script fails halfway; also its
            right to run INFO, which ``-@dangerous`` denies.

    Raises:
        ConfigurationError: If the URL is wrong.
    """

    def __init__(self, url: str, *, timeout: float, probe: str | None = None) -> None:
        self._url = url
        self._topology = Topology.parse(url)
        self._timeout = timeout
        self._probe = probe
        #: Connections made so far. A new one may lead to another server, which may lack the last writes.
        self.connects = 0
        #: Seconds that the clock of Redis is ahead of this machine's, as last measured by a client with a ``probe``.
        self.clock_offset = 0.0
        #: The clients of the parent processes. Deleting one would wait for a lock that a thread of the parent held.
        self._inherited: list[object] = []
        self._connect_later()
        register_after_fork(self)
        _clients.add(self)

    def reset_after_fork(self) -> None:
        """
        Make a new pool in the child of a fork.

        Source: redis-py's ``ConnectionPool`` waits for its lock after a fork, then raises ``ChildDeadlockedError``.
        """
        self._inherited.append((self._client, self._cluster))
        self._connect_later()

    @property
    def name(self) -> str:
        """For logs: the servers and the database, without the password."""
        return self._topology.name

    @contextmanager
    def at(self, key: str) -> Iterator[redis.Redis]:
        """
        Lend the client of the server that holds a key.

        Raises:
            StoreError: Instead of errors of redis-py, of the client too.
        """
        with self._errors():
            if self._cluster is None:
                yield self._client
                return
            try:
                yield self._cluster.client_of(key)
            except redis.RedisError:  # the slot may have moved
                self._cluster.refresh()
                raise

    def run(self, requests: Sequence[Request], *, may_be_partial: bool = False) -> list[Any]:
        """
        Run scripts and plain commands in one round trip; in two if Redis does not have a script yet.

        Args:
            requests: The scripts and commands.
            may_be_partial: Whether requests that one primary of a cluster fails or refuses to run get a
                :class:`ShardUnavailable` as their reply, if other primaries work.

        Returns:
            The replies, in order.

        Raises:
            ShardUnavailable: If a primary of a cluster is unreachable or refuses commands, and others work.
            StoreError: If a command or the connection fails; any of the commands may have been run.
        """
        with self._errors():
            commands = [self._words(request) for request in requests]
            replies = self._execute(commands)
            unknown = [i for i, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
            if unknown:
                loaded = self._load([call for i in unknown if isinstance(call := requests[i], Call)])
                again = self._execute([commands[i] for i in unknown])
                for i, load_reply, reply in zip(unknown, loaded, again, strict=True):
                    replies[i] = load_reply if isinstance(load_reply, Exception) else reply
            for i, reply in enumerate(replies):
                if isinstance(reply, Exception):
                    if not may_be_partial or not self._is_of_one_shard(reply):
                        raise reply
                    replies[i] = _unavailable(reply)
            return replies

    @property
    def is_degraded(self) -> bool:
        """Whether some primaries of a cluster are unreachable."""
        return self._cluster is not None and bool(self._cluster.unreachable)

    @property
    def outage(self) -> str:
        """Which primaries of a cluster are unreachable or refuse commands, and why; for logs."""
        if self._cluster is None:
            return ""
        reasons = [f"{join_address(*address)}: {explain(reason)}" for address, reason in self._cluster.failing.items()]
        return "; ".join(reasons + ["some slots have no primary"] * self._cluster.is_incomplete)

    def transact(self, key: str, *commands: Command) -> list[Any]:
        """
        Run commands about one key as a transaction.

        Raises:
            StoreError: If a command or the connection fails.
        """
        with self.at(key) as client, client.pipeline() as pipeline:
            for command in commands:
                pipeline.execute_command(*command)  # type: ignore[no-untyped-call]
            return pipeline.execute()

    def subscribe(self, name: str) -> Iterator[bytes | None]:
        """
        Yield ``None`` when a pub/sub channel is subscribed, then the payload of each message.

        Raises:
            StoreError: When the connection is lost.
        """
        with self.at(name) as client, client.pubsub() as pubsub:  # type: ignore[no-untyped-call]
            (pubsub.subscribe if self._cluster is None else pubsub.ssubscribe)(name)
            is_pinged = False
            while True:
                message = pubsub.get_message(timeout=_PING_AFTER)
                if message is None:
                    if is_pinged:  # redis-py's own health check of a subscription does not wait for the reply
                        raise redis.TimeoutError(f"no answer for {_PING_AFTER} s")
                    pubsub.ping()
                is_pinged = message is None
                if message is not None and message["type"].endswith("unsubscribe"):
                    raise redis.ConnectionError(f"another primary has the slot of {name} now")
                if message is not None and message["type"] != "pong":
                    yield message["data"] if message["type"] in ("message", "smessage") else None

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """
        Convert errors of redis-py into :class:`StoreError`, or :class:`ShardUnavailable`. Reconnect if the server is a
        replica now.
        """
        try:
            yield
        except redis.RedisError as exc:
            if self._cluster is None and is_wrong_server(exc):
                for client in list(_clients):
                    if client._url == self._url:
                        client.reconnect()
            raise (_unavailable(exc) if self._is_of_one_shard(exc) else as_store_error(exc)) from exc

    def reconnect(self) -> None:
        """Close idle connections: they may lead to a server that is no longer the primary."""
        self.close(is_final=False)

    def close(self, *, is_final: bool = True) -> None:
        """Close all connections, or the idle ones."""
        self._client.connection_pool.disconnect(inuse_connections=is_final)
        if self._cluster is not None:
            self._cluster.disconnect(is_final=is_final)

    def _is_of_one_shard(self, error: Exception) -> bool:
        """Return whether an error is that of one primary of a cluster, and others work as far as is known."""
        if self._cluster is None or is_command_error(error):
            return False
        return len(self._cluster.failing) < len(self._cluster.primaries())

    def _words(self, request: Request) -> Command:
        if self._cluster is not None:
            return sharded_words(request)
        return request.command() if isinstance(request, Call) else request

    def _load(self, calls: Sequence[Call]) -> list[Any]:
        """Load scripts, and return the reply to each, which may be an exception in a cluster."""
        if self._cluster is not None:
            return self._cluster.load([(call.keys[0], call.script.sharded[0]) for call in calls])
        for source in {call.script.source for call in calls}:
            self._client.script_load(source)
        return [None] * len(calls)

    def _execute(self, commands: Sequence[Command]) -> list[Any]:
        if self._cluster is not None:
            return self._cluster.execute(commands)
        with self._client.pipeline(transaction=False) as pipeline:
            for command in commands:
                pipeline.execute_command(*command)  # type: ignore[no-untyped-call]
            return pipeline.execute(raise_on_error=False)

    def _connect_later(self) -> None:
        pool = self._topology.make_pool(self._timeout, on_connect=self._on_connect)
        self._client = redis.Redis(connection_pool=pool)
        topology = self._topology
        self._cluster = Cluster(topology, self._timeout, self._on_connect) if topology.is_cluster else None

    def _on_connect(self, connection: Any) -> None:
        connection.on_connect()
        if self._probe is not None:
            before = time.time()
            connection.send_command("PUBLISH", self._probe, "")
            connection.send_command("INFO", "server")
            connection.send_command("TIME")
            connection.read_response()
            connection.read_response()
            with suppress(redis.ResponseError):  # without the right to run TIME, use this machine's clock
                seconds, microseconds = connection.read_response()
                after = time.time()
                offset = int(seconds) + int(microseconds) / 1e6 - (before + after) / 2
                self.clock_offset = offset if abs(offset) > (after - before) / 2 + _CLOCK_TOLERANCE else 0.0
        self.connects += 1


def _unavailable(reason: object) -> ShardUnavailable:
    failure = "refuses commands" if isinstance(reason, redis.ResponseError) else "is unreachable"
    return ShardUnavailable(f"A primary of the Redis Cluster {failure}: {explain(reason)}")


_clients: WeakSet[RedisClient] = WeakSet()
