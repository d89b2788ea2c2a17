"""A browser that does not read delays no other, and gets the newest snapshots when it reads again."""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import chain
from typing import cast

import pytest

from jobpush.config import Config
from jobpush.gateway.broadcast import Broadcast
from jobpush.gateway.connection import READING, ConnectionHost
from jobpush.gateway.counters import Traffic
from jobpush.gateway.websocket import WebSocketConnection
from jobpush.protocol.server import ServerProtocol
from jobpush.store import Store
from jobpush.store.messages import read_message

from .client import data_of
from .conftest import Serve
from .publishing import finish, publish, start

#: Bytes; with it, what the kernels hold for a connection is small beside what is published.
RECEIVE_BUFFER = 4_096


def test_slow_reader_gets_the_newest_snapshots_and_every_pinned_event(serve: Serve, store: Store) -> None:
    site = serve(outbox_size=200_000)
    slow, quick = site.sign_in("42", receive_buffer=RECEIVE_BUFFER), site.sign_in("42")
    tasks = [f"task-{number}" for number in range(5)]
    for task in tasks:
        start(store, "42", task)

    for number in range(1, 2_001):
        publish(store, "42", tasks[number % 5], number, message="x" * 1_000)
    store.trigger(["#server-to-user-42"], "last", {})
    heard_by_quick = quick.receive_until(lambda message: message["event"] == "last")
    for task in tasks:
        finish(store, "42", task)
    store.trigger(["#server-to-user-42"], "end", {})
    heard_by_slow = slow.receive_until(lambda message: message["event"] == "end")

    assert len(heard_by_slow) < len(heard_by_quick)
    for task in tasks:
        events = [data_of(m) for m in heard_by_slow if m["event"] == "jobpush:task"]
        mine = [event for event in events if event["task_id"] == task]
        assert [event["seq"] for event in mine] == sorted({event["seq"] for event in mine})
        assert (mine[0]["state"], mine[-1]["state"]) == ("STARTED", "SUCCESS")
        assert [event["seq"] for event in mine][-1] == 402


def test_slow_reader_resumes_without_a_gap_from_any_received_id(serve: Serve, store: Store) -> None:
    """What overtakes others in the outbox carries no id, so no id stands for more than was received."""
    site = serve(outbox_size=500_000)
    slow = site.sign_in("42", receive_buffer=RECEIVE_BUFFER)
    start(store, "42", "one")
    for number in range(1, 1_001):
        publish(store, "42", "one", number, message="x" * 2_000)
        if number % 100 == 0:
            store.trigger(["#server-to-user-42"], "number", number)
    store.trigger(["#server-to-user-42"], "end", {})

    messages = slow.receive_until(lambda message: message["event"] == "end")

    ids = [tuple(map(int, m["id"].split("-"))) for m in messages if "id" in m]
    assert ids == sorted(ids)
    assert [int(m["data"]) for m in messages if m["event"] == "number"] == list(range(100, 1_001, 100))


def test_history_longer_than_the_outbox_is_delivered(serve: Serve, store: Store) -> None:
    site = serve(outbox_size=10_000)
    store.trigger(["news"], "number", {"n": 0})
    first = site.connect()
    since = first.subscribe("news")[-1]["id"]
    for number in range(1, 201):
        store.trigger(["news"], "number", {"n": number, "padding": "x" * 1_000})

    second = site.connect(receive_buffer=RECEIVE_BUFFER)
    second.subscribe("news", since=since)
    store.trigger(["news"], "number", {"n": 201})

    assert [data_of(second.receive())["n"] for _ in range(201)] == list(range(1, 202))


def test_persistently_slow_reader_is_closed_with_a_reconnect_code(serve: Serve, store: Store) -> None:
    site = serve(outbox_size=100_000)
    slow, quick = (site.connect(receive_buffer=RECEIVE_BUFFER), site.connect())
    for client in (slow, quick):
        client.receive()
        client.subscribe("news")

    number = 0
    while store.trigger(["news"], "number", {"n": number, "padding": "x" * 5_000}).connections == 2:
        assert data_of(quick.receive())["n"] == number
        number += 1
        assert number < 2_000

    assert slow.wait_for_close() == 4100
    numbers = [data_of(message)["n"] for message in slow.received]
    assert numbers == list(range(len(numbers)))


# -- what it costs ---------------------------------------------------------------------------------------


class Frozen:
    """Connections whose clients do not read, in as much of a hub as they need, which notes what the kernel is asked."""

    def __init__(self, number: int) -> None:
        self.pairs = [socket.socketpair() for _ in range(number)]
        for ours, _ in self.pairs:
            ours.setblocking(False)
        host = cast(ConnectionHost, self)
        protocol = cast(ServerProtocol, None)
        self.connections = [WebSocketConnection(host, ours.fileno(), protocol) for ours, _ in self.pairs]
        self._unflushed: list[WebSocketConnection] = []
        self._write = os.write
        self.writes = self.refused = 0
        self.traffic = Traffic()
        self.watched: list[int] = []
        self.config = Config()
        self.loop = self

    def write(self, fd: int, data: bytes) -> int:
        """As the kernel's, counted."""
        self.writes += 1
        try:
            return self._write(fd, data)
        except BlockingIOError:
            self.refused += 1
            raise

    def modify(self, fd: int, events: int) -> None:
        self.watched.append(events)

    def flush_later(self, connection: WebSocketConnection) -> None:
        self._unflushed.append(connection)

    def publish(self, header: bytes) -> None:
        """One event, in a wake-up of its own."""
        event = Broadcast(b"news", read_message(header + b'\n"event":"news","data":"%b"' % (b"x" * 1_000)))
        for connection in self.connections:
            connection.deliver([event], event.frame)
        unflushed, self._unflushed = self._unflushed, []
        for connection in unflushed:
            connection.flush()

    def leave(self, connection: WebSocketConnection) -> None:
        pass

    def fill(self) -> None:
        """Send until the kernel takes no more for any of them."""
        while self.refused < len(self.connections):
            self.publish(b"1-0 - 0 1 -")


@pytest.fixture
def freeze(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], Frozen]]:
    """Makes as many connections as are asked for; their sockets are closed behind the test."""
    with ExitStack() as stack:

        def freeze(number: int) -> Frozen:
            frozen = Frozen(number)
            for one in chain(*frozen.pairs):
                stack.enter_context(one)
            monkeypatch.setattr(os, "write", frozen.write)
            return frozen

        yield freeze


def test_full_socket_is_not_written_again(freeze: Callable[[int], Frozen]) -> None:
    frozen = freeze(1)
    frozen.fill()
    writes = frozen.writes

    for _ in range(500):
        frozen.publish(b"1-0 - 0 1 -")

    assert (frozen.writes, frozen.refused) == (writes, 1)
    assert frozen.watched == [READING | select.POLLOUT]


def test_history_counts_while_it_waits_to_be_sent(freeze: Callable[[int], Frozen]) -> None:
    frozen = freeze(2)
    frozen.fill()
    event = Broadcast(b"news", read_message(b'1-0 - 0 1 -\n"event":"news","data":"%b"' % (b"x" * 1_000)))

    for connection in frozen.connections:
        for _ in range(3):
            connection.send_event(event, event.stream_id)
        connection.flush()

    assert frozen.traffic.replaying == 2 * 3 * len(event.frame)
    reader, leaver = frozen.pairs[0][1], frozen.connections[1]
    leaver.gone()
    assert frozen.traffic.replaying == 3 * len(event.frame)
    while frozen.traffic.replaying:
        reader.recv(100_000)
        frozen.connections[0].flush()


def test_overtaking_frame_is_built_once_for_all_slow_readers(
    freeze: Callable[[int], Frozen], monkeypatch: pytest.MonkeyPatch
) -> None:
    frozen = freeze(5)
    frozen.fill()
    frozen.publish(b"1-0 task 1 0 -")
    made: list[Broadcast] = []
    text_with_id = Broadcast.text_with_id
    monkeypatch.setattr(Broadcast, "text_with_id", lambda one, at: made.append(one) or text_with_id(one, at))

    frozen.publish(b"2-0 task 2 0 -")

    assert (len(made), frozen.traffic.conflated) == (1, 5)
