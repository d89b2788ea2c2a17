"""Many connections at once: Redis gets their counts and histories in bounded portions, and renewals never wait."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from jobpush.config import Config
from jobpush.gateway.counters import Refusals
from jobpush.gateway.history import within_bound
from jobpush.gateway.hub import Hub
from jobpush.gateway.websocket import WebSocketConnection
from jobpush.protocol.server import ServerProtocol

USERS = 1_000


class FakeBroadcast:
    def __init__(self, number: int, size: int) -> None:
        self.number = number
        self.frame = b"x" * size


@pytest.fixture
def hub() -> Iterator[Any]:
    """A hub that is not started, whose lease is held."""
    hub: Any = Hub(Config(redis_url="redis://localhost", key="key", secret="secret"), Refusals())
    hub._lease.is_held = True
    yield hub
    hub.loop.close()


def test_counts_and_histories_after_a_reconnect_are_bounded_and_renewals_do_not_wait(hub: Any) -> None:
    reports: list[Callable[[Any], None]] = []
    histories: list[Callable[[Any], None]] = []
    renewals: list[Callable[[Any], None]] = []
    hub._subscribing.hub_commands.history = lambda *arguments: histories
    hub._lease.presence.occupy = lambda *arguments, **options: reports
    hub._lease.presence.renew = lambda *arguments, **options: renewals
    hub._commands.run = lambda call, callback=None: call.append(callback)
    with subscribed(hub, USERS):
        waves = 0
        answered = 0
        while answered < USERS:
            hub._after_each()
            assert len(reports) <= 256
            assert len(histories) <= 64
            assert not (histories and hub._reporter.is_behind(hub._commands.server)), (
                "a subscriber is counted before it gets its answer"
            )
            hub._lease._renew()
            assert renewals, "a renewal waits for nothing"
            renewals.clear()
            for report in take(reports):
                report([1, 0])
            for history in take(histories):
                history([b"1-0", 0, []])
                answered += 1
            waves += 1

        hub._after_each()
        assert all(connection.protocol.channels for connection in hub._connections)
        assert waves >= USERS / 64


@contextmanager
def subscribed(hub: Any, users: int) -> Iterator[None]:
    """Connect users, each of which subscribes to a channel of its own; Redis has confirmed the topics."""
    with ExitStack() as stack:
        for number in range(users):
            _, theirs = (stack.enter_context(one) for one in socket.socketpair())
            theirs.setblocking(False)
            protocol = ServerProtocol(hub.config, f"1.{number}")
            hub.adopt(WebSocketConnection(hub, theirs.detach(), protocol), b"", protocol.open)
        hub.loop._run_calls()
        for number, connection in enumerate(hub._connections):
            request = f'{{"event":"pusher:subscribe","data":{{"channel":"news-{number}"}}}}'
            connection.perform(connection.protocol.receive(request, 0.0))
        for topic in hub._topics:
            hub._on_subscribed(topic.key)
        yield
        for connection in hub._connections:
            hub._connections.lose(connection)
        hub._connections.finish()


@pytest.mark.parametrize("answers_counts", [False, True])
def test_server_that_hangs_delays_no_subscription_of_other_servers(hub: Any, answers_counts: bool) -> None:
    unanswered: Counter[str] = Counter()

    def run(call: tuple[str, str], callback: Callable[[Any], None]) -> None:
        kind, channel = call
        if server_of(channel) == "hangs" and (kind == "history" or not answers_counts):
            unanswered[kind] += 1
        else:
            callback([1, 0] if kind == "count" else [b"1-0", 0, []])

    hub._subscribing.hub_commands.history = lambda channel, topic, since: ("history", channel)
    hub._lease.presence.occupy = lambda topic, *arguments, **options: ("count", topic.partition(":")[2])
    hub._commands.run = run
    hub._commands.server_of = server_of
    with subscribed(hub, USERS):
        for _ in range(USERS):
            hub._after_each()

        joined = {name for connection in hub._connections for name in connection.protocol.channels}
        assert joined == {name for number in range(USERS) if server_of(name := f"news-{number}") == "answers"}
        assert unanswered == ({"history": 64} if answers_counts else {"count": 256})


def server_of(name: str) -> str:
    """Return the server of a channel, or of its topic: of two channels in a row, one hangs."""
    return "hangs" if int(name.rpartition("-")[2]) % 2 else "answers"


def take(callbacks: list[Callable[[Any], None]]) -> list[Callable[[Any], None]]:
    taken = list(callbacks)
    callbacks.clear()
    return taken


@pytest.mark.parametrize(
    ("number", "size", "kept"), [(10, 1_000, 10), (1_000, 10_000, 419), (1, 5_000_000, 0), (0, 1, 0)]
)
def test_replay_is_bounded_and_keeps_the_newest(number: int, size: int, kept: int) -> None:
    broadcasts: Any = [FakeBroadcast(one, size) for one in range(number)]

    assert [one.number for one in within_bound(broadcasts)] == list(range(number - kept, number))
