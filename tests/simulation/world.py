"""
A worker, a gateway and browsers in one thread and in simulated time, over a real Redis.

The publisher, the scripts and the hub are real. The threads (which advance step by step), the clock and the wires are
simulated: wires carry only the bytes that a test lets pass, and can break. So any interleaving can be produced and
repeated.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import time
from collections.abc import Sequence
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import hiredis
import redis

from jobpush.config import Config
from jobpush.errors import StoreError
from jobpush.gateway.counters import Refusals
from jobpush.gateway.hub import Hub
from jobpush.gateway.websocket import WebSocketConnection
from jobpush.protocol.actions import UserData
from jobpush.protocol.handshake import new_socket_id
from jobpush.protocol.server import ServerProtocol
from jobpush.reporting.publisher import Publisher
from jobpush.store import Store
from jobpush.store.redis.async_connection import AsyncConnection
from jobpush.store.scripts import Request

#: Timeout of a reply from the real Redis, in seconds.
PATIENCE = 30


class Clock:
    """A clock that only the test advances."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


class RedisUnderTest:
    """A real Redis that can be made unreachable, and come back with or without its data."""

    def __init__(self, url: str) -> None:
        self.path = urlsplit(url).path
        self.client = redis.Redis.from_url(url, protocol=2)
        self.is_reachable = True

    def lose_data(self) -> None:
        """Remove all data and scripts, as a restart without persistence does; wait a few milliseconds."""
        before = self.client.time()
        self.client.flushall()
        self.client.script_flush()
        while self.client.time()[0] * 1000 + self.client.time()[1] // 1000 < before[0] * 1000 + before[1] // 1000 + 3:
            pass  # stream ids from before and after a restart always differ

    def wait_for_pushes(self) -> None:
        """Wait until everything published is in the subscribers' sockets: Redis writes before it reads again."""
        self.client.ping()


class Wire:
    """One of the gateway's connections to Redis; the test decides which bytes pass."""

    def __init__(self, path: str) -> None:
        self.hub_end, self._near_end = socket.socketpair()
        self._redis = socket.socket(socket.AF_UNIX)
        # The kernel's own timeout: with Python's, MSG_DONTWAIT would wait too.
        self._redis.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", PATIENCE, 0))
        self._redis.connect(path)
        self._commands, self._replies = hiredis.Reader(), hiredis.Reader()
        self._from_redis = b""

    def carry_to_redis(self) -> None:
        """Forward everything that the hub has sent, and read all replies."""
        try:
            data = self._near_end.recv(1 << 20, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        if not data:
            return
        self._redis.sendall(data)
        self._commands.feed(data)
        pending = 0
        while (command := self._commands.gets()) is not False:
            pending += len(command) - 1 if command[0] in (b"SUBSCRIBE", b"UNSUBSCRIBE") else 1
        while pending:
            pending -= self._receive(self._redis.recv(1 << 20))

    def carry_to_hub(self, size: int | None = None) -> int:
        """Forward up to this many bytes; return the number forwarded."""
        try:
            self._receive(self._redis.recv(1 << 20, socket.MSG_DONTWAIT))
        except BlockingIOError:
            pass
        try:
            sent = self._near_end.send(self._from_redis[:size], socket.MSG_DONTWAIT) if self._from_redis else 0
        except (BlockingIOError, BrokenPipeError):
            sent = 0
        self._from_redis = self._from_redis[sent:]
        return sent

    def cut(self) -> None:
        """Break the connection; bytes in flight are lost."""
        self._near_end.close()
        self._redis.close()

    def _receive(self, data: bytes) -> int:
        """Keep the bytes from Redis; return the number of replies in them."""
        self._from_redis += data
        self._replies.feed(data)
        replies = 0
        while (reply := self._replies.gets()) is not False:
            replies += not (isinstance(reply, list) and reply[:1] == [b"message"])
        return replies


class Gateway:
    """One process: a hub without a thread, connected by wires."""

    def __init__(self, config: Config, clock: Clock, server: RedisUnderTest) -> None:
        self._clock, self._server = clock, server
        self.hub = Hub(config, Refusals(), clock=clock)
        self.wires: dict[str, Wire] = {}
        self._hub_ends: list[socket.socket] = []
        for name, link in (("commands", self.hub._commands), ("subscription", self.hub._pubsub)):
            link.start = partial(self._connect, name, link)  # type: ignore[method-assign]
        self.hub._begin()
        self._settings = config

    def turn(self) -> None:
        """Run one wake-up of the hub."""
        self.hub.loop.run_once(0.0)

    def carry(self) -> None:
        """Forward everything on all links."""
        for wire in list(self.wires.values()):
            wire.carry_to_redis()
            wire.carry_to_hub()

    @property
    def is_catching_up(self) -> bool:
        """Return whether a request for a history or for a task's owner is pending."""
        channels = [channel for topic in self.hub._topics for channel in topic.channels()]
        return any(catch_up.position is None for channel in channels for catch_up in channel.catch_ups)

    def accept(self, user: str, since: str | None, *, send_buffer: int) -> socket.socket:
        """Return the client's end of a new connection of jobpush's client, with the user in its session."""
        client_end, gateway_end = socket.socketpair()
        gateway_end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        gateway_end.setblocking(False)
        protocol = ServerProtocol(self._settings, new_socket_id())
        opening = partial(protocol.open, user=UserData(user), announce_user=True, since=since)
        self.hub.adopt(WebSocketConnection(self.hub, gateway_end.detach(), protocol), b"", opening)
        return client_end

    def break_wire(self, name: str) -> None:
        """Cut a link; the hub reconnects after its back-off."""
        if wire := self.wires.pop(name, None):
            wire.cut()

    def die(self) -> None:
        """Simulate the death of the process: nothing is closed in order."""
        self.hub.loop.close()
        for connection in self.hub._connections:
            os.close(connection.fd)
        for name in list(self.wires):
            self.break_wire(name)
        for end in self._hub_ends:
            end.close()

    def _connect(self, name: str, link: AsyncConnection) -> None:
        """Connect a link at once; replaces the thread that does it otherwise."""
        self.break_wire(name)
        loop = self.hub.loop
        if not self._server.is_reachable:
            loop.call_soon(lambda: link._refused("Redis is unreachable"))
            return
        wire = self.wires[name] = Wire(self._server.path)
        self._hub_ends.append(wire.hub_end)
        loop.call_soon(lambda: link._connected(wire.hub_end))


class FaultyStore(Store):
    """A store whose connection can break before a command is executed, or before its reply arrives."""

    def __init__(self, config: Config, server: RedisUnderTest) -> None:
        super().__init__(config)
        self._server = server
        #: When the connection breaks for the next command: ``"before"`` or ``"after"`` it is executed; ``None``: never.
        self.fault: str | None = None
        #: Tasks whose end Redis has acknowledged since it last lost its data.
        self.acknowledged: set[str] = set()

    def run(self, requests: Sequence[Request], *, may_be_partial: bool = False) -> list[Any]:
        fault, self.fault = self.fault, None
        if fault == "before" or not self._server.is_reachable:
            raise StoreError("the connection broke")
        replies = super().run(requests, may_be_partial=may_be_partial)
        self._server.wait_for_pushes()
        if fault == "after":
            raise StoreError("the connection broke, and the reply is lost")
        return replies

    def publish_each(self, writes: Any, *rest: Any) -> Any:
        results = super().publish_each(writes, *rest)
        self.acknowledged |= {write.event.task_id for write in writes if write.event.state.is_final}
        return results


class StepwisePublisher(Publisher):
    """A publisher without a thread; the test advances it step by step."""

    def __init__(self, store: FaultyStore, config: Config) -> None:
        super().__init__(store, config, on_cancelled=lambda task_id: None)
        self._sender.patient_store = store

    def _ensure_thread(self) -> None:
        pass

    @property
    def is_idle(self) -> bool:
        """Return whether everything is published."""
        return self._is_idle()

    def step(self) -> None:
        """Do what the thread does at one wake-up, if one is due."""
        if self._due_at(now := time.monotonic()) <= now:
            self._publish_next()
            self._is_busy = False


def read_frames(data: bytes) -> tuple[list[tuple[int, bytes]], bytes]:
    """Return the complete frames of a server, as opcode and payload, and the bytes of an incomplete one."""
    frames = []
    while len(data) >= 2:
        size, start = data[1], 2
        if size > 125:
            start = {126: 4, 127: 10}[size]
            if len(data) < start:
                break
            size = int.from_bytes(data[2:start], "big")
        if len(data) < start + size:
            break
        frames.append((data[0] & 0x0F, data[start : start + size]))
        data = data[start + size :]
    return frames, data


def as_text(message: dict[str, object]) -> bytes:
    return json.dumps(message).encode()
