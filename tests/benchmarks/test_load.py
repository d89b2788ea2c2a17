"""A lost or duplicated frame fails the run, however the bytes are split; the publisher sends each number once."""

from __future__ import annotations

import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from jobpush.channels import Topic
from jobpush.processes.embedded import EmbeddedRedis
from jobpush.store.keys import Keys, bucket_tags

from .errors import BenchmarkError
from .native import compiled
from .peers import OURS
from .processes import Cores, Load

ANSWER = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"


def frame(text: str) -> bytes:
    """Return a text frame of a server."""
    payload = text.encode()
    size = bytes([len(payload)]) if len(payload) < 126 else b"\x7e" + len(payload).to_bytes(2, "big")
    return b"\x81" + size + payload


def event(seq: int, stream: int = 0, at: int = 0) -> bytes:
    """Return the frame of an event."""
    return frame(f'{{"event":"bench","data":"~{stream}.{seq}.{at or time.monotonic_ns()}~......"}}')


@contextmanager
def load_of(pieces: Sequence[bytes], folder: Path, *options: str) -> Iterator[Load]:
    """Start a load with one connection to a server that sends each of these pieces separately."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                connection.recv(4096)
                connection.sendall(ANSWER)
                for piece in pieces:
                    connection.sendall(piece)
                while connection.recv(4096):
                    pass  # until the load disconnects

        thread = threading.Thread(target=serve)
        thread.start()
        command = [compiled("load"), "127.0.0.1", str(listener.getsockname()[1]), *options]
        with Load(command, cores=Cores.split().load, log=folder / "load.log") as load:
            yield load
        thread.join()


@pytest.mark.parametrize(
    ("events", "error"),
    [
        ([event(1), event(3)], "got seq 3 after 1: 1 lost"),
        ([event(2)], "got seq 2 after 0: 1 lost"),
        ([event(1), event(2), event(2)], "got seq 2 after 2: doubled or out of order"),
        ([event(2, stream=1)], "got an event of stream 1, which is not its own"),
        ([event(1), b"\x88\x02\x03\xe8"], "was closed by the server with code 1000"),
        ([b"\xc1\x05hello"], "a frame that begins with 0xc1"),
    ],
)
def test_unexpected_event_fails_the_run(events: list[bytes], error: str, tmp_path: Path) -> None:
    with load_of(events, tmp_path) as load, pytest.raises(BenchmarkError, match=error):
        load.wait_until_ready()
        load.request("until 9")


def test_frames_are_reassembled_from_any_pieces(tmp_path: Path) -> None:
    stream = b"".join(event(seq) for seq in range(1, 31)) + b"\x89\x00" + frame("~0.31.1~" + "x" * 500)

    with load_of([stream[index : index + 7] for index in range(0, len(stream), 7)], tmp_path) as load:
        load.wait_until_ready()
        load.request("until 31")
        report = load.request("report")

    assert (report["deliveries"], report["lowest"], report["highest"]) == (31, 31, 31)


def test_newer_snapshots_may_replace_older_ones_if_the_run_allows_it(tmp_path: Path) -> None:
    with load_of([event(1), event(5)], tmp_path, "--may-skip") as load:
        load.wait_until_ready()
        load.request("until 5")

        assert (load.request("report")["deliveries"], load.request("report")["skipped"]) == (2, 3)


def test_latency_is_the_time_since_the_mark(tmp_path: Path) -> None:
    a_minute_ago = time.monotonic_ns() - 60_000_000_000

    with load_of([event(1, at=a_minute_ago)], tmp_path) as load:
        load.wait_until_ready()
        load.request("until 1")
        latency = load.request("report")["latency_us"]

    assert latency["count"] == 1
    assert 58e6 < latency["p50"] <= latency["max"] < 120e6


def test_publisher_cycles_through_the_streams_and_ends_them_together(redis_server: EmbeddedRedis) -> None:
    client = redis.Redis.from_url(redis_server.url)
    pubsub = client.pubsub(ignore_subscribe_messages=True)
    pubsub.psubscribe("*")
    pubsub.get_message(timeout=10)
    socket_path = redis_server.url.removeprefix("unix://").partition("?")[0]

    command = [compiled("publish"), "--redis", socket_path, "--channel", "to-{s}", "--message", '{s} {q} "{m}"']
    subprocess.run(
        [*command, "--streams", "3", "--from", "7", "--events", "10", "--rate", "100000", "--size", "64"],
        check=True,
        capture_output=True,
    )

    received = []
    while len(received) < 12:
        message = pubsub.get_message(timeout=10)
        assert message is not None
        received.append((message["channel"].decode(), message["data"].decode()))
    assert [channel for channel, _ in received] == ["to-0", "to-1", "to-2"] * 4
    assert [text.split()[:2] for _, text in received] == [[str(n % 3), str(7 + n // 3)] for n in range(12)]
    assert all(f'"~{text.split()[0]}.{text.split()[1]}.' in text and len(text) > 66 for _, text in received)
    client.close()


def test_publisher_names_the_channels_of_jobpush(redis_server: EmbeddedRedis) -> None:
    client = redis.Redis.from_url(redis_server.url)
    pubsub = client.pubsub(ignore_subscribe_messages=True)
    pubsub.psubscribe("*")
    pubsub.get_message(timeout=10)
    socket_path = redis_server.url.removeprefix("unix://").partition("?")[0]

    command = [compiled("publish"), "--redis", socket_path, "--channel", OURS.channel, "--message", "{s}"]
    subprocess.run(
        [*command, "--tags", ",".join(bucket_tags()), "--streams", "300", "--events", "300"],
        check=True,
        capture_output=True,
    )

    received = [pubsub.get_message(timeout=10) for _ in range(300)]
    names = [message["channel"].decode() for message in received if message]
    assert names == [Keys("jobpush").topic(Topic(f"channel:news-{number}")) for number in range(300)]
    client.close()


def test_missing_compiler_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(BenchmarkError, match="apt-get install gcc"):
        compiled("load")
