"""
Many browsers in one thread. They reconnect as ``jobpush.js`` does, resume, and check every received message.

Each records what it receives, so that a test can find missing, misordered and duplicate messages at the end.
"""

from __future__ import annotations

import errno
import heapq
import itertools
import json
import os
import random
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from jobpush.signing import sign
from tests.gateway.site import KEY, SECRET
from tests.waiting import PATIENCE

#: Default number of concurrent handshakes: as many as fit into the queue of a listening socket.
_AT_ONCE = 100
#: Seconds until a handshake is retried, as in ``jobpush.js``.
_HANDSHAKE_TIMEOUT = 10.0
#: Longest delay between two attempts, in seconds, as in ``jobpush.js``.
_MAX_BACKOFF = 30.0
_FINAL = frozenset(("SUCCESS", "FAILURE", "REVOKED", "LOST"))
#: The public channel on which numbers are published.
NEWS = "news"
#: The presence channel of all visitors.
ROOM = "presence-room"


@dataclass(slots=True, eq=False)
class Visitor:
    """
    One open page.

    Args:
        number: Its index in the crowd.
        user: The user of the page.
        channels: Channels in addition to the user's own.
        source: Its source address.
    """

    number: int
    user: str
    channels: Sequence[str]
    source: str = ""
    port: int = 0
    socket: socket.socket | None = None
    is_open: bool = False
    is_reading: bool = True
    is_wanted: bool = True
    buffer: bytearray = field(default_factory=bytearray)
    failures: int = 0
    socket_id: str = ""
    begun_at: float = 0.0
    #: Stream id from which to resume, by channel.
    since: dict[str, str] = field(default_factory=dict)
    #: Last seq and state of each task.
    tasks: dict[str, tuple[int, str]] = field(default_factory=dict)
    #: All task states in received events.
    seen: set[tuple[str, str]] = field(default_factory=set)
    #: The numbers received on the first channel, in order; ``None``: a resync.
    numbers: list[int | None] = field(default_factory=list)
    #: Members of :data:`ROOM`, according to the received events.
    members: set[str] = field(default_factory=set)
    #: Members that left :data:`ROOM`, one entry per event.
    departures: list[str] = field(default_factory=list)
    #: Channels with a resync, one entry per resync.
    resyncs: list[str] = field(default_factory=list)
    #: Monotonic time and close code of each ended connection; 0: without a code.
    ends: list[tuple[float, int]] = field(default_factory=list)
    #: Monotonic time of each connection.
    opened: list[float] = field(default_factory=list)
    #: Descriptions of violations.
    faults: list[str] = field(default_factory=list)
    #: Number of received messages.
    received: int = 0
    #: Number of received task events.
    task_events: int = 0
    #: Number of task events with the same seq as the previous one: snapshots after a resync.
    repeats: int = 0

    @property
    def own_channel(self) -> str:
        """The channel of the user."""
        return f"#server-to-user-{self.user}"


class Crowd:
    """
    Visitors of one or several gateways.

    Args:
        ports: Ports of the gateways; a visitor picks one at random, and another if that one refuses.
        users: Users; each gets one visitor.
        channels: Channels of all visitors in addition to their own.
        sources: Source addresses, used in turn.
        spreads: Reconnect with jitter as ``jobpush.js`` does, instead of as stock pusher-js does.
        receive_buffer: Size of the sockets' receive buffers in bytes; ``None``: the kernel's default.
        at_once: Maximum number of concurrent handshakes.
    """

    def __init__(
        self,
        ports: Sequence[int],
        users: Iterable[str],
        *,
        channels: Sequence[str] = (NEWS,),
        sources: Sequence[str] = ("127.0.0.1",),
        spreads: bool = True,
        receive_buffer: int | None = None,
        at_once: int = _AT_ONCE,
    ) -> None:
        self.ports = list(ports)
        origins = itertools.cycle(sources)
        self.visitors = [Visitor(number, user, channels, next(origins)) for number, user in enumerate(users)]
        self._spreads = spreads
        self._receive_buffer = receive_buffer
        self._at_once = at_once
        self._dice = random.Random(len(self.visitors))
        self._epoll = select.epoll()
        self._by_fd: dict[int, Visitor] = {}
        self._waiting: list[tuple[float, int, Visitor]] = []
        self._order = itertools.count()
        self._pending_handshakes = 0
        self._checked_at = 0.0
        self._calls: list[Callable[[], None]] = []
        self._wake = os.eventfd(0, os.EFD_NONBLOCK)
        self._epoll.register(self._wake, select.EPOLLIN)
        self._is_stopped = False
        #: The error that ended the thread.
        self.error: BaseException | None = None
        for visitor in self.visitors:
            self._wait(visitor, 0.0)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    # -- for tests -----------------------------------------------------------------------------------

    @property
    def connected(self) -> list[Visitor]:
        """The connected visitors."""
        return [visitor for visitor in self.visitors if visitor.is_open]

    def wait_until_all_are_open(self) -> None:
        """Wait until every wanted visitor is connected and subscribed."""
        self.wait_until(
            lambda: all(visitor.is_open for visitor in self.visitors if visitor.is_wanted),
            lambda: f"{len(self.connected)} of {len(self.visitors)} are connected",
        )

    def wait_until(
        self, is_reached: Callable[[], object], describe: Callable[[], object] = lambda: "", patience: float = PATIENCE
    ) -> None:
        """Wait for a state of the visitors."""
        deadline = time.monotonic() + patience
        while not is_reached():
            assert self.error is None, self.error
            assert time.monotonic() < deadline, f"timed out: {describe()}"
            time.sleep(0.02)

    def wait_for_ends(self, tasks: Mapping[str, Collection[str]], patience: float = PATIENCE) -> None:
        """
        Wait until every visitor has received the end of all tasks of its user.

        Args:
            tasks: Task ids by user.
            patience: Timeout in seconds.
        """
        self.wait_until(lambda: not self.missing_ends(tasks), lambda: self.missing_ends(tasks)[:5], patience)

    def missing_ends(self, tasks: Mapping[str, Collection[str]]) -> list[tuple[int, str, object]]:
        """Return the visitors that have not received the end of a task, with the last state that they received."""
        return [
            (visitor.number, task_id, visitor.tasks.get(task_id))
            for visitor in self.visitors
            if visitor.is_wanted
            for task_id in tasks.get(visitor.user, ())
            if visitor.tasks.get(task_id, (0, ""))[1] not in _FINAL
        ]

    def missing_numbers(self, published: Collection[int]) -> list[tuple[int, int]]:
        """Return the visitors that miss a confirmed number without a resync in its place."""
        missing = []
        for visitor in self.visitors:
            if not visitor.is_wanted:
                continue
            received = set(visitor.numbers)
            excused = _excused(visitor.numbers)
            first = next((number for number in visitor.numbers if number is not None), 0)
            for number in published:
                if number > first and number not in received and not any(a < number < b for a, b in excused):
                    missing.append((visitor.number, number))
        return missing

    def faults(self) -> list[str]:
        """Return all violations."""
        return [f"{one.number} ({one.user}): {fault}" for one in self.visitors for fault in one.faults]

    def states(self, state: str) -> list[str]:
        """Return the tasks that any visitor has received in a state."""
        return sorted({task_id for visitor in self.visitors for task_id, seen in tuple(visitor.seen) if seen == state})

    def ends(self, since: float = 0.0) -> list[tuple[float, int]]:
        """Return the ends of connections in chronological order."""
        return sorted(end for visitor in self.visitors for end in visitor.ends if end[0] >= since)

    def resyncs(self) -> int:
        """Return the number of resyncs of all visitors."""
        return sum(len(visitor.resyncs) for visitor in self.visitors)

    def received(self) -> int:
        """Return the number of messages received by all visitors."""
        return sum(visitor.received for visitor in self.visitors)

    def hang_up(self, visitors: Sequence[Visitor], *, for_good: bool) -> None:
        """Drop connections without a close frame."""

        def hang_up() -> None:
            for visitor in visitors:
                visitor.is_wanted = not for_good
                if visitor.socket is not None:
                    self._lose(visitor, 0)

        self._call(hang_up)

    def stop_reading(self, visitors: Sequence[Visitor]) -> None:
        """Stop reading from the sockets of visitors, which stay open."""
        self._call(lambda: self._set_reading(visitors, False))

    def resume_reading(self, visitors: Sequence[Visitor]) -> None:
        """Resume reading from the sockets of visitors."""
        self._call(lambda: self._set_reading(visitors, True))

    def close(self) -> None:
        """Close all connections."""
        if self._is_stopped:
            return
        self._call(lambda: setattr(self, "_is_stopped", True))
        self._thread.join()
        for visitor in list(self._by_fd.values()):
            if visitor.socket is not None:
                visitor.socket.close()
        self._epoll.close()
        os.close(self._wake)

    # -- the loop ------------------------------------------------------------------------------------

    def _call(self, call: Callable[[], None]) -> None:
        """Run a function in the loop's thread, and wait for it."""
        done = threading.Event()
        self._calls.append(lambda: (call(), done.set())[0])
        os.eventfd_write(self._wake, 1)
        while not done.wait(0.1):
            assert self.error is None, self.error

    def _run(self) -> None:
        try:
            while not self._is_stopped:
                self._turn()
        except BaseException as exc:
            self.error = exc

    def _turn(self) -> None:
        for fd, events in self._epoll.poll(self._pause(), 512):
            if fd == self._wake:
                os.eventfd_read(fd)
            elif (visitor := self._by_fd.get(fd)) is not None:
                self._ready(visitor, events)
        while self._calls:
            self._calls.pop(0)()
        now = time.monotonic()
        while self._waiting and self._waiting[0][0] <= now and self._pending_handshakes < self._at_once:
            visitor = heapq.heappop(self._waiting)[2]
            if visitor.is_wanted and visitor.socket is None:
                self._connect(visitor)
        if self._pending_handshakes and now >= self._checked_at + 0.5:
            self._checked_at = now
            for visitor in list(self._by_fd.values()):
                if not visitor.is_open and now - visitor.begun_at > _HANDSHAKE_TIMEOUT:
                    self._lose(visitor, 0)

    def _pause(self) -> float:
        if not self._waiting or self._pending_handshakes >= self._at_once:
            return 0.5
        return min(0.5, max(0.0, self._waiting[0][0] - time.monotonic()))

    def _wait(self, visitor: Visitor, seconds: float) -> None:
        heapq.heappush(self._waiting, (time.monotonic() + seconds, next(self._order), visitor))

    def _connect(self, visitor: Visitor) -> None:
        for port in self._dice.sample(self.ports, len(self.ports)):
            connection = socket.socket()
            if self._receive_buffer:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._receive_buffer)
            if visitor.source != "127.0.0.1":
                connection.bind((visitor.source, 0))
            try:
                connection.connect(("127.0.0.1", port))  # on the loopback this does not block
            except OSError:
                connection.close()
                continue
            connection.setblocking(False)
            visitor.socket, visitor.is_open, visitor.begun_at = connection, False, time.monotonic()
            visitor.port = port
            visitor.buffer.clear()
            self._pending_handshakes += 1
            self._by_fd[connection.fileno()] = visitor
            self._epoll.register(connection.fileno(), select.EPOLLIN)
            self._send_raw(visitor, _handshake(visitor, port))
            return
        self._schedule_reconnect(visitor, 0)

    def _lose(self, visitor: Visitor, code: int) -> None:
        assert visitor.socket is not None
        self._epoll.unregister(visitor.socket.fileno())
        del self._by_fd[visitor.socket.fileno()]
        visitor.socket.close()
        visitor.socket = None
        if visitor.is_open:
            visitor.failures = 0
        else:
            self._pending_handshakes -= 1
        visitor.is_open, visitor.is_reading = False, True
        visitor.ends.append((time.monotonic(), code))
        self._schedule_reconnect(visitor, code)

    def _schedule_reconnect(self, visitor: Visitor, code: int) -> None:
        """Schedule the reconnect as ``jobpush.js`` does (see its ``#retry``), or pusher-js (see ``getCloseAction``)."""
        band = code // 100
        if not visitor.is_wanted or band == 40:
            return
        if not self._spreads:
            self._wait(visitor, 0.0 if band == 42 else 1.0)
            return
        spread = 1.0 if band == 42 else min(_MAX_BACKOFF, 2.0**visitor.failures)
        visitor.failures += band != 42
        self._wait(visitor, (1.0 if band == 41 else 0.0) + self._dice.random() * spread)

    def _set_reading(self, visitors: Sequence[Visitor], is_reading: bool) -> None:
        for visitor in visitors:
            visitor.is_reading = is_reading
            if visitor.socket is not None:
                # Without EPOLLIN, epoll only reports errors and hang-ups.
                self._epoll.modify(visitor.socket.fileno(), select.EPOLLIN if is_reading else 0)

    # -- incoming messages -------------------------------------------------------------------------------

    def _ready(self, visitor: Visitor, events: int) -> None:
        assert visitor.socket is not None
        if not visitor.is_reading and not events & (select.EPOLLHUP | select.EPOLLERR):
            return
        try:
            data = visitor.socket.recv(262_144)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._lose(visitor, 0)
            return
        visitor.buffer += data
        if not visitor.socket_id or not visitor.is_open:
            self._take_handshake(visitor)
        self._take_frames(visitor)

    def _take_handshake(self, visitor: Visitor) -> None:
        if not visitor.buffer.startswith(b"HTTP"):
            return
        head, separator, rest = bytes(visitor.buffer).partition(b"\r\n\r\n")
        if not separator:
            return
        if not head.startswith(b"HTTP/1.1 101"):
            visitor.buffer.clear()
            self._lose(visitor, 0)
            return
        visitor.buffer = bytearray(rest)

    def _take_frames(self, visitor: Visitor) -> None:
        buffer, start = visitor.buffer, 0
        if buffer.startswith(b"HTTP"):
            return
        while len(buffer) - start >= 2:
            size, head = buffer[start + 1], 2
            if size == 126:
                head = 4
                if len(buffer) - start < head:
                    break
                (size,) = struct.unpack_from("!H", buffer, start + 2)
            elif size == 127:
                head = 10
                if len(buffer) - start < head:
                    break
                (size,) = struct.unpack_from("!Q", buffer, start + 2)
            if len(buffer) - start < head + size:
                break
            opcode, payload = buffer[start] & 0x0F, bytes(buffer[start + head : start + head + size])
            start += head + size
            if opcode == 8:
                code = int.from_bytes(payload[:2], "big")
                self._send_raw(visitor, _frame(payload[:2], opcode=8))
                if visitor.socket is not None:
                    self._lose(visitor, code)
                return
            if opcode == 1:
                self._take(visitor, json.loads(payload))
                if visitor.socket is None:
                    return
        del buffer[:start]

    def _take(self, visitor: Visitor, message: dict[str, Any]) -> None:
        visitor.received += 1
        event, channel = message["event"], message.get("channel", "")
        match event:
            case "pusher:connection_established":
                visitor.socket_id = json.loads(message["data"])["socket_id"]
                for name in visitor.channels:
                    self._send(visitor, "pusher:subscribe", _subscription(visitor, name))
            case "pusher_internal:subscription_succeeded":
                self._joined(visitor, channel, message)
            case "pusher:subscription_error":
                visitor.faults.append(f"refused: {message}")
            case "pusher:ping":
                self._send(visitor, "pusher:pong", {})
            case "pusher_internal:member_added":
                visitor.members.add(json.loads(message["data"])["user_id"])
            case "pusher_internal:member_removed":
                visitor.members.discard(json.loads(message["data"])["user_id"])
                visitor.departures.append(json.loads(message["data"])["user_id"])
            case "jobpush:resync":
                visitor.resyncs.append(channel)
                if channel in visitor.channels[:1]:
                    visitor.numbers.append(None)
                elif channel == visitor.own_channel:  # as in jobpush.js: the sequence numbers may have restarted
                    visitor.tasks = {task_id: (0, state) for task_id, (_, state) in visitor.tasks.items()}
            case "jobpush:task":
                _take_task(visitor, json.loads(message["data"]))
            case "number":
                _take_number(visitor, json.loads(message["data"])["n"])
        if "id" in message:
            visitor.since[channel] = message["id"]

    def _joined(self, visitor: Visitor, channel: str, message: dict[str, Any]) -> None:
        if channel == ROOM:
            visitor.members = set(json.loads(message["data"])["presence"]["ids"])
        last = visitor.channels[-1] if visitor.channels else visitor.own_channel
        if channel == last and not visitor.is_open:
            visitor.is_open = True
            visitor.opened.append(time.monotonic())
            self._pending_handshakes -= 1

    def _send(self, visitor: Visitor, event: str, data: object) -> None:
        self._send_raw(visitor, _frame(json.dumps({"event": event, "data": data}).encode()))

    def _send_raw(self, visitor: Visitor, data: bytes) -> None:
        assert visitor.socket is not None
        try:
            visitor.socket.send(data)  # small messages always fit into the empty send buffer
        except OSError as exc:
            if exc.errno != errno.EAGAIN:
                self._lose(visitor, 0)


def _take_task(visitor: Visitor, task: dict[str, Any]) -> None:
    task_id, seq = task["task_id"], task["seq"]
    visitor.task_events += 1
    before = visitor.tasks.get(task_id, (0, ""))
    if seq < before[0]:
        visitor.faults.append(f"{task_id} moved back from {before} to {seq} {task['state']}")
    elif seq == before[0]:
        visitor.repeats += 1
    visitor.tasks[task_id] = (seq, task["state"])
    visitor.seen.add((task_id, task["state"]))


def _take_number(visitor: Visitor, number: int) -> None:
    last = next((one for one in reversed(visitor.numbers) if one is not None), None)
    if last is not None and number <= last:
        visitor.faults.append(f"the number {number} arrived after {last}")
    visitor.numbers.append(number)


def _excused(numbers: Sequence[int | None]) -> list[tuple[float, float]]:
    """Return the gaps announced by resyncs, each as the numbers before and after it."""
    gaps: list[tuple[float, float]] = []
    for place, number in enumerate(numbers):
        if number is None:
            before = next((one for one in reversed(numbers[:place]) if one is not None), 0)
            behind = next((one for one in numbers[place:] if one is not None), float("inf"))
            gaps.append((before, behind))
    return gaps


def _handshake(visitor: Visitor, port: int) -> bytes:
    since = visitor.since.get(visitor.own_channel)
    query = f"protocol=7&client=jobpush{f'&since={since}' if since else ''}"
    lines = [
        f"GET /app/{KEY}?{query} HTTP/1.1",
        f"Host: 127.0.0.1:{port}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version: 13",
        f"Cookie: user={visitor.user}",
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def _subscription(visitor: Visitor, channel: str) -> dict[str, str]:
    data = {"channel": channel}
    if since := visitor.since.get(channel):
        data["since"] = since
    if channel.startswith("presence-"):
        data["channel_data"] = json.dumps({"user_id": visitor.user})
        data["auth"] = f"{KEY}:{sign(SECRET, f'{visitor.socket_id}:{channel}:' + data['channel_data'])}"
    return data


def _frame(payload: bytes, *, opcode: int = 1) -> bytes:
    """Return a client frame, masked with zeros."""
    size = len(payload)
    head = bytes((0x80 | opcode, 0x80 | size)) if size < 126 else struct.pack("!BBH", 0x80 | opcode, 0xFE, size)
    return head + b"\0\0\0\0" + payload
