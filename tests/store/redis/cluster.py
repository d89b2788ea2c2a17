"""A Redis Cluster of three primaries and three replicas on the loopback interface."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import combinations
from typing import Any

import redis

from jobpush.processes.embedded import EmbeddedRedis
from jobpush.processes.ports import free_port
from jobpush.store.keys import SLOTS, slot_of
from tests.waiting import wait_until

#: Milliseconds until a node counts as failed.
_NODE_TIMEOUT = 1_500


class ClusterServers:
    """The nodes, by number: 0 to 2 begin as primaries, 3 to 5 as their replicas."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self.nodes: list[EmbeddedRedis] = []
        self.ports: list[int] = []
        self._hanging: set[int] = set()

    def __enter__(self) -> ClusterServers:
        with self._stack:
            buses: list[int] = []
            for _ in range(6):
                options = ["--cluster-enabled", "yes", "--cluster-node-timeout", "5000"]
                buses.append(free_port())  # the default, the port plus 10,000, may be in use
                options += ["--cluster-port", str(buses[-1])]
                options += ["--repl-diskless-sync-delay", "0", "--cluster-replica-validity-factor", "0"]
                node = self._stack.enter_context(EmbeddedRedis(port=0, arguments=options))
                self.nodes.append(node)
                self.ports.append(redis.ConnectionPool.from_url(node.url).connection_kwargs["port"])
            for number in range(3):
                first, last = number * SLOTS // 3, (number + 1) * SLOTS // 3 - 1
                self.ask(number, "CLUSTER", "ADDSLOTSRANGE", first, last)
            for number, other in combinations(range(6), 2):
                self.ask(number, "CLUSTER", "MEET", "127.0.0.1", self.ports[other], buses[other])
            for number in range(3, 6):
                wait_until(lambda number=number: self.ask(number, "CLUSTER", "REPLICATE", self.id_of(number - 3)))  # type: ignore[misc]
            wait_until(lambda: all(self._is_complete(number) for number in range(6)))
            self._set_node_timeout(_NODE_TIMEOUT)  # not earlier: within this time a node must answer a MEET
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    @property
    def url(self) -> str:
        """For jobpush."""
        return "redis+cluster://" + ",".join(f"127.0.0.1:{port}" for port in self.ports[:3])

    def ask(self, number: int, *command: str | int) -> Any:
        """Send a command to one node."""
        with redis.Redis(port=self.ports[number], protocol=2) as client:
            return client.execute_command(*command)  # type: ignore[no-untyped-call]

    def id_of(self, number: int) -> str:
        """Return the cluster's name of a node."""
        return str(self.ask(number, "CLUSTER", "MYID").decode())

    def primary_of(self, name: str) -> int:
        """Return the number of the node that holds a key."""
        slot = slot_of(name)
        for first, last, (_, port, *_), *_ in self.ask(self._any(), "CLUSTER", "SLOTS"):
            if first <= slot <= last:
                return self.ports.index(port)
        raise AssertionError(f"no primary has slot {slot}")

    def start_migration(self, name: str, target: int) -> None:
        """Begin to move the slot of a key to another primary: keys that it has no longer are redirected by ASK."""
        source, slot = self.primary_of(name), slot_of(name)
        self.ask(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", self.id_of(source))
        self.ask(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", self.id_of(target))
        for key in self.ask(source, "CLUSTER", "GETKEYSINSLOT", slot, 1_000):
            self.ask(source, "MIGRATE", "127.0.0.1", self.ports[target], key.decode(), 0, 5_000)

    def finish_migration(self, name: str, target: int) -> None:
        """Give the slot to its new primary."""
        for number in (target, self.primary_of(name), *range(3)):
            self.ask(number, "CLUSTER", "SETSLOT", slot_of(name), "NODE", self.id_of(target))

    @contextmanager
    def hanging(self, number: int) -> Iterator[None]:
        """Suspend a node, which keeps its connections and answers nothing, and resume it at the end."""
        self._hanging.add(number)
        os.kill(self.nodes[number].pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.nodes[number].pid, signal.SIGCONT)
            self._hanging.discard(number)

    @contextmanager
    def full(self, number: int) -> Iterator[None]:
        """Let a node refuse commands that need memory."""
        self.ask(number, "CONFIG", "SET", "maxmemory", 1)
        try:
            yield
        finally:
            self.ask(number, "CONFIG", "SET", "maxmemory", 0)

    @contextmanager
    def without_slot(self, name: str) -> Iterator[None]:
        """Let no primary have the slot of a key, while the other slots are served."""
        owner = self.primary_of(name)
        for number in range(6):
            self.ask(number, "CONFIG", "SET", "cluster-require-full-coverage", "no")
            self.ask(number, "CLUSTER", "DELSLOTS", slot_of(name))
        try:
            yield
        finally:
            self.ask(owner, "CLUSTER", "ADDSLOTS", slot_of(name))
            for number in range(6):
                self.ask(number, "CONFIG", "SET", "cluster-require-full-coverage", "yes")
            wait_until(lambda: all(self.is_ok(number) for number in range(6)))

    @contextmanager
    def without_failovers(self) -> Iterator[None]:
        """Let no node count as failed meanwhile."""
        try:
            self._set_node_timeout(600_000)
            yield
        finally:
            self._set_node_timeout(_NODE_TIMEOUT)

    def _set_node_timeout(self, milliseconds: int) -> None:
        for number, node in enumerate(self.nodes):
            if node.is_running:
                self.ask(number, "CONFIG", "SET", "cluster-node-timeout", milliseconds)

    def _any(self) -> int:
        return next(i for i, node in enumerate(self.nodes) if node.is_running and i not in self._hanging)

    def is_ok(self, number: int) -> bool:
        """Return whether a node knows a primary for each slot."""
        info = self.ask(number, "CLUSTER", "INFO")
        text = info.decode() if isinstance(info, bytes) else str(info)
        return "cluster_state:ok" in text or "'cluster_state': 'ok'" in text

    def _is_complete(self, number: int) -> bool:
        slots = self.ask(number, "CLUSTER", "SLOTS")
        return self.is_ok(number) and len(slots) == 3 and all(len(one) == 4 for one in slots)


def migrate_busiest_slot(cluster: ClusterServers, busy: str) -> None:
    """Move the slot of a name from its primary to another one, while it is in use."""
    target = (cluster.primary_of(busy) + 1) % 3
    cluster.start_migration(busy, target)
    cluster.finish_migration(busy, target)


def fail_over_by_hand(cluster: ClusterServers, busy: str) -> None:
    """Let the replica of a name's primary take over in good order."""
    replica = cluster.primary_of(busy) + 3
    cluster.ask(replica, "CLUSTER", "FAILOVER")
    wait_until(lambda: cluster.primary_of(busy) == replica)


def hang_primary(cluster: ClusterServers, busy: str) -> None:
    """Suspend the primary of a name until its replica has taken over; then it is that one's replica."""
    suspended = cluster.primary_of(busy)
    with cluster.hanging(suspended):
        wait_until(lambda: cluster.primary_of(busy) != suspended)


def kill_primary(cluster: ClusterServers, busy: str) -> None:
    """Kill the primary of a name; its replica takes over by itself."""
    killed = cluster.primary_of(busy)
    cluster.nodes[killed].kill()
    wait_until(lambda: cluster.primary_of(busy) != killed)
