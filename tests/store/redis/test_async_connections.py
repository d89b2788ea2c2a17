"""The gateway's two connections to Redis, on a real loop and a real Redis."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import hiredis
import pytest
import redis

from jobpush.gateway.loop import Loop
from jobpush.processes.embedded import EmbeddedRedis
from jobpush.store.redis import async_connection as link_module
from jobpush.store.redis.command_connection import CommandConnection, ConnectionLost
from jobpush.store.redis.pubsub_connection import PubSubConnection
from jobpush.store.scripts import Call
from tests.waiting import wait_until

#: Seconds after which a test gives up.
TIMEOUT = 10.0


class Links:
    """Both connections on their own loop; their callbacks are recorded."""

    def __init__(self, url: str, *, probe: str | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.loop = Loop(self._flush, clock)
        self.messages: list[tuple[bytes, bytes]] = []
        self.subscribed: list[bytes] = []
        self.ups = 0
        self.downs = 0
        self._changed = threading.Condition()
        self.commands = CommandConnection(self.loop, url, probe=probe, on_up=self._up)
        self.subscriber = PubSubConnection(
            self.loop,
            url,
            probe=probe,
            on_message=lambda name, payload: self._note(self.messages, (name, payload)),
            on_subscribed=lambda name: self._note(self.subscribed, name),
            on_down=self._down,
        )
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def call(self, *command: str) -> Any:
        """Send a command from the loop's thread; wait for its reply."""
        return self.answer(lambda callback: self.commands.call(command, callback))

    def answer(self, ask: Callable[[Callable[[Any], None]], None]) -> Any:
        """Return the argument of a callback."""
        answers: list[Any] = []
        self.loop.call_soon(lambda: ask(lambda reply: self._note(answers, reply)))
        self.wait_until(lambda: bool(answers))
        return answers[0]

    def wait_until(self, is_true: Callable[[], bool]) -> None:
        """Wait for a callback."""
        with self._changed:
            assert self._changed.wait_for(is_true, TIMEOUT)

    def close(self) -> None:
        """End the loop."""
        self.loop.call_soon(self._stop)
        self._thread.join()

    def _note(self, notes: list[Any], note: Any) -> None:
        with self._changed:
            notes.append(note)
            self._changed.notify_all()

    def _up(self) -> None:
        with self._changed:
            self.ups += 1
            self._changed.notify_all()

    def _down(self) -> None:
        with self._changed:
            self.downs += 1
            self._changed.notify_all()

    def _flush(self) -> None:
        self.commands.flush()
        self.subscriber.flush()

    def _tick(self) -> None:
        self.loop.call_later(0.02, self._tick)
        self.commands.tick()
        self.subscriber.tick()

    def _run(self) -> None:
        self.commands.start()
        self.subscriber.start()
        self._tick()
        self.loop.run()
        self.loop.close()

    def _stop(self) -> None:
        self.commands.stop()
        self.subscriber.stop()
        self.loop.stop()


@pytest.fixture
def links(redis_url: str) -> Iterator[Links]:
    """Both connections, working."""
    links = Links(redis_url)
    links.loop.call_soon(lambda: links.subscriber.subscribe(b"first"))
    links.wait_until(lambda: links.ups == 1 and links.subscribed == [b"first"])
    links.subscribed.clear()
    yield links
    links.close()


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    """Another client."""
    with redis.Redis.from_url(redis_url) as client:
        yield client


def test_replies_are_in_the_order_of_the_commands(links: Links) -> None:
    answers: list[Any] = []

    def ask(done: Callable[[Any], None]) -> None:
        for number in range(1_000):
            links.commands.call(("ECHO", str(number)), answers.append)
        links.commands.call(("PING",), done)

    links.answer(ask)

    assert answers == [str(number).encode() for number in range(1_000)]


def test_refused_command_gets_the_error_as_its_reply(links: Links) -> None:
    assert isinstance(links.call("NO-SUCH-COMMAND"), hiredis.ReplyError)


def test_missing_script_is_loaded_again(links: Links, client: redis.Redis) -> None:
    client.script_flush()
    script: Any = SimpleNamespace(source=b"return ARGV[1]", sha="098e0f0d1448c0a81dafe820f66d460eb09263da")

    assert links.answer(lambda done: links.commands.run(Call(script, (), ("hello",)), done)) == b"hello"


def test_large_reply_is_read_in_parts(links: Links, client: redis.Redis) -> None:
    client.set("large", b"x" * 3_000_000)

    assert len(links.call("GET", "large")) == 3_000_000


def test_large_command_is_sent_in_parts(links: Links) -> None:
    text = "x" * 5_000_000

    assert links.call("ECHO", text) == text.encode()


def test_subscription_receives_messages_after_its_confirmation(links: Links, client: redis.Redis) -> None:
    links.loop.call_soon(lambda: links.subscriber.subscribe(b"news"))
    links.wait_until(lambda: links.subscribed == [b"news"])

    client.publish("news", "hello")

    links.wait_until(lambda: links.messages == [(b"news", b"hello")])


def test_channel_unsubscribed_and_subscribed_again_is_confirmed_once(links: Links, client: redis.Redis) -> None:
    def waver() -> None:
        for _ in range(3):
            links.subscriber.subscribe(b"news")
            links.subscriber.unsubscribe(b"news")
        links.subscriber.subscribe(b"news")

    links.loop.call_soon(waver)
    links.wait_until(lambda: bool(links.subscribed))
    client.publish("news", "hello")

    links.wait_until(lambda: bool(links.messages))
    assert links.subscribed == [b"news"]


def test_killed_redis_fails_pending_commands_and_is_reconnected(links: Links, redis_server: EmbeddedRedis) -> None:
    links.loop.call_soon(lambda: links.subscriber.subscribe(b"news"))
    links.wait_until(lambda: bool(links.subscribed))
    lost: list[Any] = []
    links.answer(lambda done: (links.commands.call(("BLPOP", "none", "0"), lost.append), done(None))[1])

    redis_server.kill()
    links.wait_until(lambda: links.downs == 1)
    redis_server.restart(keep_data=False)

    links.wait_until(lambda: set(links.subscribed[1:]) == {b"first", b"news"} and links.ups == 2)
    assert isinstance(lost[0], ConnectionLost)
    assert links.call("PING") == b"PONG"


def test_connection_to_an_unresponsive_redis_is_replaced(
    links: Links, redis_server: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link_module, "_PING_AFTER", 0.1)
    monkeypatch.setattr(link_module, "_DEAD_AFTER", 0.3)

    os.kill(redis_server.pid, signal.SIGSTOP)
    links.wait_until(lambda: links.downs == 1)
    os.kill(redis_server.pid, signal.SIGCONT)

    links.wait_until(lambda: links.subscribed == [b"first"])


def test_redis_without_traffic_stays_connected(redis_url: str) -> None:
    now = 0.0  # moved by the test alone, for a machine that stalls is no dead Redis
    links = Links(redis_url, clock=lambda: now)
    try:
        links.loop.call_soon(lambda: links.subscriber.subscribe(b"first"))
        links.wait_until(lambda: links.ups == 1 and links.subscribed == [b"first"])
        for _ in range(4):  # longer than a dead one is given
            now += (link_module._PING_AFTER + link_module._DEAD_AFTER) / 2
            both = (links.commands, links.subscriber)
            wait_until(lambda: all(link._received_at == now for link in both), "the reply to a ping")  # noqa: B023

        assert (links.ups, links.downs) == (1, 0)
    finally:
        links.close()


def test_password_and_database_are_taken_from_the_url(redis_server: EmbeddedRedis, client: redis.Redis) -> None:
    client.config_set("requirepass", "secret")
    links = Links(redis_server.url.replace("unix://", "unix://:secret@").replace("db=0", "db=3"))
    links.wait_until(lambda: links.ups == 1)

    assert b"db=3" in links.call("CLIENT", "INFO")
    links.close()


def test_connections_reconnect_any_number_of_times(redis_url: str, client: redis.Redis) -> None:
    """redis-py's pool counts the connections that it has ever made, and makes no more than ``max_connections``."""
    joint = "&" if "?" in redis_url else "?"
    links = Links(f"{redis_url}{joint}max_connections=2")
    try:
        for number in range(1, 5):
            links.wait_until(lambda number=number: links.ups == number)
            client.client_kill_filter(_type="normal", skipme=True)
            client.client_kill_filter(_type="pubsub")
        links.wait_until(lambda: links.ups == 5)
    finally:
        links.close()
