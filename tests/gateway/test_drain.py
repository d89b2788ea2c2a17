"""A gateway that stops spreads its closes: clients reconnect in the same instant."""

from __future__ import annotations

import os
import socket
from types import SimpleNamespace
from typing import Any

import pytest

from jobpush.gateway.connections import Connections
from jobpush.gateway.counters import Traffic
from jobpush.gateway.websocket import WebSocketConnection


class FakeConnection:
    """Records the codes and times of its closes."""

    def __init__(self, loop: Any) -> None:
        self.loop = loop
        self.closed: list[tuple[int, float]] = []

    @property
    def is_closing(self) -> bool:
        return bool(self.closed)

    def close(self, code: int, reason: str) -> None:
        self.closed.append((code, self.loop.now))


@pytest.mark.parametrize(("number", "seconds"), [(2_000, 5.0), (100, 0.5)])
def test_closes_are_spread_evenly_over_the_drain(number: int, seconds: float) -> None:
    loop: Any = SimpleNamespace(now=100.0)
    connections: Any = Connections(loop, lambda connection: None)
    fakes = [FakeConnection(loop) for _ in range(number)]
    connections._slices[0] = dict(enumerate(fakes))

    connections.drain(5.0, lambda: None)
    while not all(fake.is_closing for fake in fakes):
        loop.now += 0.125
        connections._drain(connections._drain_until)

    moments = [moment - 100.0 for fake in fakes for _, moment in fake.closed]
    assert len(moments) == number, "each is closed once"
    assert {code for fake in fakes for code, _ in fake.closed} == {4200}
    assert max(moments) <= seconds
    slices = [moments.count(moment) for moment in sorted(set(moments))]
    assert len(slices) == seconds * 8
    assert max(slices) - min(slices) <= 1


class SilentConnection(FakeConnection):
    """Never answers a close."""

    def __init__(self, loop: Any, connections: Connections) -> None:
        super().__init__(loop)
        self.fd = os.open(os.devnull, os.O_RDONLY)
        self.connections: Any = connections
        self.is_gone = False

    def close(self, code: int, reason: str) -> None:
        super().close(code, reason)
        self.connections.expect_end(self)

    def tick(self, now: float) -> None:
        """Nothing is due."""

    def gone(self) -> None:
        self.is_gone = True


@pytest.fixture
def loop() -> Any:
    return SimpleNamespace(now=100.0, unregister=lambda fd: None)


def turn(connections: Any, loop: Any, seconds: float) -> None:
    """Let time pass as the hub does."""
    for _ in range(int(seconds * 8)):
        loop.now += 0.125
        connections.tick()
        connections.finish()


def test_client_that_does_not_answer_the_close_is_cut_after_two_seconds(loop: Any) -> None:
    connections: Any = Connections(loop, lambda connection: None)
    silent, ends = SilentConnection(loop, connections), []
    connections._slice_of(silent)[silent.fd] = silent

    connections.drain(5.0, lambda: ends.append(loop.now))
    turn(connections, loop, 1.875)
    assert not silent.is_gone
    turn(connections, loop, 0.5)

    assert silent.is_gone
    assert ends[0] - 100.0 <= 2.5


def test_client_that_reads_on_is_not_cut_before_five_seconds(loop: Any) -> None:
    connections: Any = Connections(loop, lambda connection: None)
    slow = SilentConnection(loop, connections)
    connections._slice_of(slow)[slow.fd] = slow

    connections.drain(5.0, lambda: None)
    for _ in range(4):
        turn(connections, loop, 1.0)
        assert not slow.is_gone
        connections.expect_end(slow)
    turn(connections, loop, 1.25)

    assert slow.is_gone


def test_closing_connection_gets_more_time_whenever_its_client_reads() -> None:
    ends: list[WebSocketConnection] = []
    host: Any = SimpleNamespace(
        loop=SimpleNamespace(now=0.0, modify=lambda fd, events: None),
        flush_later=lambda connection: None,
        leave=lambda connection: None,
        expect_end=ends.append,
        traffic=Traffic(),
    )
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        protocol: Any = SimpleNamespace(socket_id="1.1")
        connection = WebSocketConnection(host, ours.fileno(), protocol)
        connection.send(b"x" * 4_000_000)
        connection.close(4200, "the gateway is restarting")

        counts = [len(ends)]
        for _ in range(2):  # the second one sends nothing
            connection.flush()
            counts.append(len(ends))
        while len(theirs.recv(1_000_000)) == 1_000_000:
            pass
        connection.flush()

    assert counts == [1, 2, 2]
    assert len(ends) == 3
