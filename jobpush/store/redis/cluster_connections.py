"""
Connections of an event loop to the primaries of a Redis Cluster: one for commands and one for pub/sub to each.

Each key and channel is routed by its slot. A shard that is down, full or read-only stops its own keys and channels:
their commands get a :class:`ConnectionLost`, as without a connection, and ``on_up`` is called when the shard works
again.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

import hiredis

from ..keys import slot_of
from ..scripts import Call, Command, Script
from .async_connection import AsyncConnection, Loop
from .cluster import Cluster, key_of, sharded_words
from .command_connection import Callback, CommandConnection, ConnectionLost, ignore_reply
from .errors import explain, is_unserved_slot, state_in
from .pubsub_connection import PubSubConnection
from .topology import Address, Topology

logger = logging.getLogger("jobpush.redis")

#: Redirections of one command followed at once; further ones, and commands for a moving slot, wait.
_MAX_REDIRECTS = 5
_PAUSE = 0.05
#: Seconds after which one command is retried on a shard that refuses commands.
_RETRY_AFTER = 0.5
#: Seconds between two routine reads of the slots.
_REFRESH_AFTER = 30.0


class Routes(Cluster):
    """
    The primary of each slot, for an event loop.

    Args:
        loop: The event loop.
        url: As :class:`Topology` reads it.
    """

    def __init__(self, loop: Loop, url: str) -> None:
        topology = Topology.parse(url)
        super().__init__(topology, 5.0, None, self._refreshed)
        #: For logs: some nodes, without the password.
        self.name = topology.name
        self.loop = loop
        self.url = url
        #: Called whenever the slots have been read.
        self.listeners: list[Callable[[], None]] = []
        self._read_at = loop.now
        self._is_failing = False

    def refresh(self) -> None:
        """Read the slots in a thread."""
        self._read_at = self.loop.now
        super().refresh()

    def tick(self) -> None:
        """Read the slots from time to time, and more often while some have no primary. Call about once a second."""
        if self._is_failing or self.loop.now - self._read_at > _REFRESH_AFTER:
            self.refresh()

    def _refreshed(self, error: Exception | None) -> None:
        self.loop.call_soon(partial(self._report, error))

    def _report(self, error: Exception | None) -> None:
        reason = "some slots have no primary: the cluster is incomplete" if self.is_incomplete else None
        reason = explain(error) if error else reason
        if reason and not self._is_failing:
            logger.warning("Redis Cluster %s: %s; retrying", self.name, reason)
        if self._is_failing and not reason:
            logger.warning("Redis Cluster %s is complete again", self.name)
        self._is_failing = bool(reason)
        if error is None:
            for listener in self.listeners:
                listener()


def read_redirection(reply: object, asked: Address) -> tuple[str, int, Address] | None:
    """Return the kind, slot and address of a MOVED or ASK from a node; ``None`` for another reply."""
    if not isinstance(reply, hiredis.ReplyError) or not str(reply).startswith(("MOVED ", "ASK ")):
        return None
    kind, slot, address = str(reply).split(" ")[:3]
    host, _, port = address.rpartition(":")
    return kind, int(slot), (host or asked[0], int(port))  # a node that does not know its host omits it


S = TypeVar("S", bound=AsyncConnection)


class _Primaries(Generic[S]):
    """One connection to each primary: the common part of commands and pub/sub."""

    def __init__(self, routes: Routes) -> None:
        self._routes = routes
        self._shards: dict[Address, S] = {}
        self._closed_reconnects = 0
        routes.listeners.append(self._follow_primaries)

    @property
    def is_working(self) -> bool:
        """Whether any of them works."""
        return any(shard.is_working for shard in self._shards.values())

    @property
    def reconnects(self) -> int:
        """Number of connections after the first to each primary."""
        return self._closed_reconnects + sum(shard.reconnects for shard in self._shards.values())

    def start(self) -> None:
        """Read the slots and connect."""
        self._routes.refresh()

    def stop(self) -> None:
        """Close all connections."""
        for shard in self._shards.values():
            shard.stop()

    def flush(self) -> None:
        """Send what was written."""
        for shard in list(self._shards.values()):
            shard.flush()

    def tick(self) -> None:
        """Check that all shards still answer. Call about once a second."""
        for shard in list(self._shards.values()):
            shard.tick()

    def _make(self, address: Address) -> S:
        raise NotImplementedError

    def _follow_primaries(self) -> None:
        """Open and close connections; called whenever the slots have been read."""
        raise NotImplementedError

    def _shard_at(self, address: Address) -> S:
        shard = self._shards.get(address)
        if shard is None:
            shard = self._shards[address] = self._make(address)
            shard.start()
        return shard

    def _forget(self, address: Address) -> S:
        shard = self._shards.pop(address)
        self._closed_reconnects += shard.reconnects
        return shard


# -- commands ----------------------------------------------------------------------------------------


class _ShardCommands(CommandConnection):
    """Commands to one primary. Those sent before the first attempt to connect has ended wait for it."""

    def __init__(self, routes: Routes, address: Address, probe: str, on_up: Callable[[bool], None]) -> None:
        super().__init__(routes.loop, routes.url, address=address, probe=probe, on_up=self._up)
        self.address = address
        self._routes = routes
        self._on_shard_up = on_up
        self._early: list[tuple[Command, Callback]] | None = []
        #: Its line in the reply to INFO; another one after a restart.
        self._run_id = b""
        #: Whether it refuses commands: it is full, read-only or loading.
        self.is_refusing = False

    def call(self, command: Command, callback: Callback = ignore_reply) -> None:
        if self._early is not None:
            self._early.append((command, callback))
        else:
            super().call(command, callback)

    def load(self, script: Script) -> None:
        super().call(("SCRIPT", "LOAD", script.sharded[0]))

    def retire(self) -> None:
        """Close the connection to a node that is no longer a primary."""
        self.stop()
        self._fail_early()
        self._lost()

    def _up(self) -> None:
        self.is_refusing = False
        early, self._early = self._early, None
        for command, callback in early or ():
            self.call(command, callback)
        self.call(("INFO", "server"), self._identified)

    def _identified(self, reply: Any) -> None:
        if isinstance(reply, ConnectionLost):
            return
        lines = reply.splitlines() if isinstance(reply, bytes) else []
        run_id = next((line for line in lines if line.startswith(b"run_id:")), b"")
        is_new, self._run_id = run_id != self._run_id, run_id
        self._on_shard_up(is_new)

    def _leave_server(self, reason: object) -> None:
        pass  # only some slots have moved; the command is redirected

    def _refused(self, reason: object) -> None:
        self._fail_early()
        super()._refused(reason)

    def _fail_early(self) -> None:
        early, self._early = self._early, None
        for _, callback in early or ():
            callback(ConnectionLost())

    def _retry(self) -> None:
        self._routes.refresh()
        super()._retry()


@dataclass(slots=True)
class _Request:
    words: Command
    callback: Callback
    script: Script | None = None
    redirects: int = 0


class ClusterCommands(_Primaries[_ShardCommands]):
    """
    Commands to all primaries. Replies of one shard arrive in order, except those to redirected commands.

    Args:
        routes: The primaries.
        probe: As in :class:`CommandConnection`.
        on_up: Called when a shard works, for the first time or again: whether it holds the probe, and whether it may
            have lost data because another process served its keys before.
    """

    def __init__(self, routes: Routes, probe: str, on_up: Callable[[bool, bool], None]) -> None:
        super().__init__(routes)
        self.server = routes.name
        self._probe = probe
        self._on_up = on_up
        #: Whether some slots had no primary: the commands to them are sent again once all have one.
        self._is_incomplete = False

    @property
    def is_up(self) -> bool:
        """Whether the primaries are known."""
        return bool(self._shards)

    def tick(self) -> None:
        """Check that all shards still answer, and the slots from time to time. Call about once a second."""
        self._routes.tick()
        super().tick()

    def server_of(self, key: str) -> Hashable:
        """Return the address of the primary that holds a key, as far as is known."""
        return self._routes.primary_of(slot_of(key))

    def call(self, command: Command, callback: Callback = ignore_reply) -> None:
        """Send one command; see :meth:`CommandConnection.call`."""
        self._send(_Request(sharded_words(command), callback))

    def run(self, call: Call, callback: Callback = ignore_reply) -> None:
        """Run a script; see :meth:`CommandConnection.run`."""
        self._send(_Request(sharded_words(call), callback, call.script))

    def _send(self, request: _Request, asked: Address | None = None) -> None:
        address = asked or self._routes.primary_of(slot_of(key_of(request.words)))
        shard = None if address is None else self._shard_at(address)
        if shard is None or shard.is_refusing:
            request.callback(ConnectionLost())
            return
        if asked is not None:
            shard.call(("ASKING",))
        shard.call(request.words, partial(self._answered, request, shard))

    def _answered(self, request: _Request, shard: _ShardCommands, reply: Any) -> None:
        if not isinstance(reply, hiredis.ReplyError):
            request.callback(reply)
            return
        redirection = read_redirection(reply, shard.address)
        if redirection is not None:
            self._redirect(request, *redirection)
        elif str(reply).startswith("TRYAGAIN"):
            self._routes.loop.call_later(_PAUSE, lambda: self._send(request))
        elif str(reply).startswith("NOSCRIPT") and request.script is not None:
            shard.load(request.script)
            self._send(request)
        elif is_unserved_slot(reply):
            self._is_incomplete = True
            self._routes.refresh()
            request.callback(ConnectionLost())
        elif state_in(reply) is not None:
            self._stop_sending(request, shard, reply)
        else:
            request.callback(reply)

    def _redirect(self, request: _Request, kind: str, slot: int, address: Address) -> None:
        asked = address if kind == "ASK" else None
        if asked is None:
            self._routes.move(slot, address)
        request.redirects += 1
        if request.redirects <= _MAX_REDIRECTS:
            self._send(request, asked)
        else:
            if request.redirects == _MAX_REDIRECTS + 1:
                logger.warning("Nodes of the Redis Cluster disagree about slot %d: a command waits", slot)
            self._routes.loop.call_later(_RETRY_AFTER, lambda: self._send(request, asked))

    def _stop_sending(self, request: _Request, shard: _ShardCommands, reply: Exception) -> None:
        """Hold a refused command until the shard accepts it; no other command is sent to the shard before."""
        if shard.is_refusing:
            request.callback(ConnectionLost())
            return
        shard.is_refusing = True
        logger.warning("Redis %s refuses commands, which are retried: %s", shard.server, explain(reply))
        self._routes.refresh()
        self._routes.loop.call_later(_RETRY_AFTER, lambda: self._try_again(request, shard))

    def _try_again(self, request: _Request, shard: _ShardCommands) -> None:
        shard.call(request.words, partial(self._tried_again, request, shard))

    def _tried_again(self, request: _Request, shard: _ShardCommands, reply: Any) -> None:
        if isinstance(reply, hiredis.ReplyError) and state_in(reply) is not None and not is_unserved_slot(reply):
            self._routes.loop.call_later(_RETRY_AFTER, lambda: self._try_again(request, shard))
            return
        shard.is_refusing = False
        self._answered(request, shard, reply)
        if not isinstance(reply, ConnectionLost):
            logger.warning("Redis %s accepts commands again", shard.server)
            self._up(shard.address, False)

    def _make(self, address: Address) -> _ShardCommands:
        return _ShardCommands(self._routes, address, self._probe, partial(self._up, address))

    def _up(self, address: Address, is_new: bool) -> None:
        self._on_up(self._routes.primary_of(slot_of(self._probe)) == address, is_new)

    def _follow_primaries(self) -> None:
        primaries = self._routes.primaries()
        for address in primaries:
            self._shard_at(address)
        retired = [address for address in self._shards if address not in primaries]
        for address in retired:
            self._forget(address).retire()
        was_incomplete, self._is_incomplete = self._is_incomplete, self._routes.is_incomplete
        # Unanswered commands of retired connections are sent again, even if the new primary is already up.
        if retired or (was_incomplete and not self._is_incomplete):
            self._on_up(False, False)


# -- pub/sub -----------------------------------------------------------------------------------------


class _ShardPubSub(PubSubConnection):
    """Sharded pub/sub with one primary."""

    _MESSAGE, _CONFIRMATION = b"smessage", b"ssubscribe"
    _SUBSCRIBE, _UNSUBSCRIBE = "SSUBSCRIBE", "SUNSUBSCRIBE"

    def __init__(self, routes: Routes, address: Address, cluster: ClusterPubSub) -> None:
        on_message = cluster.on_message

        def receive(name: bytes, payload: bytes) -> None:
            if name in self._wanted:  # otherwise another primary sends it now
                on_message(name, payload)

        super().__init__(
            routes.loop,
            routes.url,
            address=address,
            on_message=receive,
            on_subscribed=cluster.on_subscribed,
            on_down=lambda: cluster.on_down(self._wanted),
        )
        self.address = address
        self._routes = routes
        self._cluster = cluster
        #: Confirmations of unsubscriptions that are still to come.
        self._unsubscribing = Counter[bytes]()

    def add(self, names: Sequence[bytes]) -> None:
        """Subscribe to channels of one slot."""
        self._wanted.update(names)
        if self.is_up:
            self._subscribe_all(names)

    def forget(self, names: Iterable[bytes]) -> None:
        """Note that the primary has ended the subscriptions to some channels."""
        self._wanted.difference_update(names)

    def unsubscribe(self, name: bytes) -> None:
        super().unsubscribe(name)
        if self.is_up:
            self._unsubscribing[name] += 1

    def _opened(self) -> None:
        self._unsubscribing.clear()
        super()._opened()

    def _subscribe_all(self, names: Sequence[bytes]) -> None:
        by_slot: dict[int, list[bytes]] = {}
        for name in names:
            by_slot.setdefault(slot_of(name), []).append(name)
        for some in by_slot.values():  # a command of more than one slot is refused
            super()._subscribe_all(some)

    def _received(self, reply: Any) -> None:
        redirection = read_redirection(reply, self.address)
        if redirection is not None:
            _, slot, address = redirection
            for name in [name for name in self._unsubscribing if slot_of(name) == slot]:
                del self._unsubscribing[name]
            self._cluster.suspend(self, slot, address)
            return
        if isinstance(reply, list) and reply[0] == b"sunsubscribe":
            self._unsubscribed(reply[1])
        super()._received(reply)

    def _unsubscribed(self, name: bytes) -> None:
        left = self._unsubscribing.pop(name, 0) - 1
        if left > 0:
            self._unsubscribing[name] = left
        elif left < 0 and name in self._wanted:
            self._cluster.suspend(self, slot_of(name), None)

    def _retry(self) -> None:
        self._routes.refresh()
        super()._retry()


class ClusterPubSub(_Primaries[_ShardPubSub]):
    """
    Subscribes to each channel at the primary of its slot, and again when the slot has moved.

    Args:
        routes: The primaries.
        probe: As in :class:`PubSubConnection`.
        on_message: As in :class:`PubSubConnection`.
        on_subscribed: As in :class:`PubSubConnection`.
        on_down: Gets the channels that are no longer subscribed, until ``on_subscribed`` is called for them.
    """

    def __init__(
        self,
        routes: Routes,
        probe: str,
        on_message: Callable[[bytes, bytes], None],
        on_subscribed: Callable[[bytes], None],
        on_down: Callable[[Collection[bytes]], None],
    ) -> None:
        super().__init__(routes)
        self.on_message = on_message
        self.on_subscribed = on_subscribed
        self.on_down = on_down
        self._names: dict[int, set[bytes]] = {}
        self._placed: dict[int, _ShardPubSub] = {}
        #: Slots redirected since the last tick: nodes that disagree about one must not keep the loop busy.
        self._redirected: set[int] = set()
        self._closed_received = 0
        self.subscribe(probe.encode())

    @property
    def received(self) -> int:
        """Number of messages."""
        return self._closed_received + sum(shard.received for shard in self._shards.values())

    def tick(self) -> None:
        """Check that all shards still answer, and place slots that have no primary yet. Call about once a second."""
        self._redirected.clear()
        super().tick()
        for slot in [slot for slot in self._names if slot not in self._placed]:
            self._place(slot)

    def subscribe(self, name: bytes) -> None:
        """Subscribe to a channel; ``on_subscribed`` is called when that is confirmed."""
        slot = slot_of(name)
        self._names.setdefault(slot, set()).add(name)
        if slot in self._placed:
            self._placed[slot].subscribe(name)
        else:
            self._place(slot)

    def unsubscribe(self, name: bytes) -> None:
        """Unsubscribe from a channel."""
        slot = slot_of(name)
        self._names[slot].discard(name)
        if slot in self._placed:
            self._placed[slot].unsubscribe(name)

    def suspend(self, shard: _ShardPubSub, slot: int, address: Address | None) -> None:
        """Suspend the channels of a slot that a node no longer serves; subscribe at the new node if it is known."""
        if self._placed.get(slot) is not shard:
            return
        del self._placed[slot]
        shard.forget(self._names[slot])
        self.on_down(self._names[slot])
        if address is None:
            self._routes.refresh()
            return
        self._routes.move(slot, address)
        if slot not in self._redirected:
            self._redirected.add(slot)
            self._place(slot)

    def _place(self, slot: int) -> None:
        address = self._routes.primary_of(slot)
        if address is None:
            return
        shard = self._placed[slot] = self._shard_at(address)
        shard.add(list(self._names[slot]))

    def _make(self, address: Address) -> _ShardPubSub:
        return _ShardPubSub(self._routes, address, self)

    def _follow_primaries(self) -> None:
        for slot in self._names:
            address = self._routes.primary_of(slot)
            placed = self._placed.get(slot)
            if address is None and placed is not None:
                self.suspend(placed, slot, None)
            elif address is not None and (placed is None or placed.address != address):
                if placed is not None:
                    self.on_down(self._names[slot])
                    for name in self._names[slot]:
                        placed.unsubscribe(name)
                self._place(slot)
        used = {shard.address for shard in self._placed.values()}
        for address in [address for address in self._shards if address not in used]:
            shard = self._forget(address)
            self._closed_received += shard.received
            shard.stop()
