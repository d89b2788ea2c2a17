"""Any bytes on the sockets of a gateway: each is answered or refused, and the others notice nothing."""

from __future__ import annotations

import hashlib
import http.client
import json
import logging
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobpush import signing
from jobpush.config import Config
from jobpush.gateway.counters import Refusals
from jobpush.gateway.hub import Hub
from jobpush.gateway.websocket import WebSocketConnection
from jobpush.processes.embedded import EmbeddedRedis
from jobpush.protocol.handshake import new_socket_id
from jobpush.protocol.server import ServerProtocol
from tests.autobahn.cases import frame, pieces
from tests.effort import examples
from tests.gateway.client import read_to_the_end
from tests.gateway.conftest import serving
from tests.gateway.site import KEY, SECRET
from tests.waiting import PATIENCE

# -- WebSockets ------------------------------------------------------------------------------------------


class Place:
    """A hub of this process, and somebody who is there all the time."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._config = hub.config
        self.bystander = self.connect()

    def connect(self) -> socket.socket:
        """A client's end of a connection behind its handshake."""
        ours, theirs = socket.socketpair()
        ours.settimeout(PATIENCE)
        theirs.setblocking(False)
        protocol = ServerProtocol(self._config, new_socket_id())
        self._hub.adopt(WebSocketConnection(self._hub, theirs.detach(), protocol), b"", protocol.open)
        return ours

    def ensure_bystander_is_served(self) -> None:
        """The others notice nothing."""
        self.bystander.sendall(frame(9, b"there?"))
        heard = b""
        while not heard.endswith(b"\x8a\x06there?"):
            part = self.bystander.recv(65_536)
            assert part, "it was closed"
            heard += part

    def count(self) -> int:
        """How many connections there are."""
        counted = threading.Event()
        counts: list[int] = []

        def look() -> None:
            counts.append(len(self._hub._connections))
            counted.set()

        self._hub.loop.call_soon(look)
        assert counted.wait(PATIENCE)
        return counts[0]


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    with EmbeddedRedis() as server:
        config = Config(redis_url=server.url, key=KEY, secret=SECRET, max_message=2_000, linger=0, drain_timeout=0)
        hub = Hub(config, Refusals())
        hub.start()
        place = Place(hub)
        with place.bystander:
            yield place
            hub.stop()


texts = st.sampled_from(
    [
        {"event": "pusher:ping", "data": {}},
        {"event": "pusher:pong"},
        {"event": "pusher:subscribe", "data": {"channel": "news"}},
        {"event": "pusher:subscribe", "data": {"channel": "cache-a", "since": "1-0"}},
        {"event": "pusher:unsubscribe", "data": {"channel": "news"}},
        {"event": "pusher:signin", "data": {"auth": "x", "user_data": "{}"}},
        {"event": "client-a", "channel": "news", "data": 1},
    ]
).map(lambda message: json.dumps(message).encode())
payloads = texts | st.binary(max_size=200) | st.text(max_size=40).map(str.encode) | st.just(b"*" * 2_001)
frames = st.builds(
    frame,
    st.sampled_from([0, 1, 1, 1, 2, 8, 9, 10]) | st.integers(0, 15),
    payloads,
    fin=st.sampled_from([True, True, True, False]),
    rsv=st.sampled_from([0, 0, 0, 0, 0, 1, 4]),
    size=st.none() | st.none() | st.integers(0, 300) | st.sampled_from([65_535, 65_536, 2**31, 2**63 - 1]),
)
streams = st.lists(frames | frames | frames | st.binary(max_size=30), max_size=8).map(b"".join)


@given(stream=streams, size=st.sampled_from([1, 2, 3, 7, 64, 100_000]), is_polite=st.booleans())
@settings(max_examples=examples(300), deadline=None)
def test_any_bytes_after_the_handshake_get_complete_frames(
    place: Place, stream: bytes, size: int, is_polite: bool
) -> None:
    with logged_errors() as errors, place.connect() as client:
        try:
            for piece in pieces(stream, size):
                client.sendall(piece)
            client.shutdown(socket.SHUT_WR)
        except (BrokenPipeError, ConnectionResetError):
            pass  # it was closed before
        if is_polite:
            assert_whole_frames(read_to_the_end(client))

    place.ensure_bystander_is_served()
    assert errors == []


def test_fuzzed_connections_are_closed(place: Place) -> None:
    """No connection is left of those that came before."""
    while place.count() > 1:
        pass  # each look lets the hub do what it has to do

    assert place.count() == 1


@contextmanager
def logged_errors() -> Iterator[list[str]]:
    """What the gateway logs of errors of its own."""
    messages: list[str] = []

    class Recorder(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append(record.getMessage())

    recorder = Recorder(logging.ERROR)
    logging.getLogger("jobpush").addHandler(recorder)
    yield messages
    logging.getLogger("jobpush").removeHandler(recorder)


def assert_whole_frames(data: bytes) -> None:
    """A server's frames, none of them cut, masked or in fragments; nothing comes behind a close."""
    while data:
        assert data[0] in (0x81, 0x88, 0x8A)
        size, start = data[1], 2
        if size > 125:
            start = {126: 4, 127: 10}[size]
            size = int.from_bytes(data[2:start], "big")
        assert len(data) >= start + size
        if data[0] == 0x81:
            assert isinstance(json.loads(data[start : start + size])["event"], str)
        is_last = data[0] == 0x88
        data = data[start + size :]
        assert not (is_last and data)


# -- HTTP ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with EmbeddedRedis() as redis_server, serving(redis_server.url) as serve:
        yield serve(publish_timeout=PATIENCE).port  # what the machine holds up is no error of ours


words = st.sampled_from(
    ["apps", "app", "1", KEY, "events", "batch_events", "channels", "users", "news", "presence-a", "jobpush", "auth"]
    + ["user-auth", "tasks", "cancel", "children", "static", "jobpush.js", "..", "health", "ready", "config", "metrics"]
)
#: What may stand in a header or a query: all of Latin-1 but what ends a line.
values = st.text(st.characters(max_codepoint=255, blacklist_characters="\r\n\0"), max_size=30)
paths = st.lists(words | values.map(lambda text: escaped(text)), max_size=5).map(lambda parts: "/" + "/".join(parts))
names = st.sampled_from(["channels", "since", "client", "info", "filter_by_prefix", "auth_key", "start", "limit", "x"])
queries = st.dictionaries(names, values.map(lambda text: escaped(text)), max_size=4)
headers = st.dictionaries(
    st.sampled_from(
        [
            "Cookie",
            "Last-Event-ID",
            "Origin",
            "X-Forwarded-Prefix",
            "X-Requested-With",
            "Content-Type",
            "Host",
            "Accept",
        ]
    ),
    values
    | st.sampled_from(
        ["user=42", "user=\xe9|%00", "#server-to-user-42|5-0|news|x", "5-0", "null", "http://[", "jobpush"]
    )
    | st.sampled_from(["application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/json"]),
    max_size=4,
)
bodies = st.binary(max_size=60) | st.sampled_from(
    [b"socket_id=1.2&channel_name=private-team", b"socket_id=%ff.1", b'{"name":"a","channel":"news","data":"x"}']
)


def escaped(text: str) -> str:
    return "".join(c if c.isascii() and c.isalnum() else f"%{ord(c):02x}" for c in text)


@given(st.sampled_from(["GET", "POST", "PUT", "OPTIONS", "HEAD"]), paths, queries, headers, bodies)
@settings(max_examples=examples(300), deadline=None)
def test_any_request_gets_a_response_and_no_server_error(
    port: int, method: str, path: str, query: dict[str, str], headers: dict[str, str], body: bytes
) -> None:
    target = path + "?" + "&".join(f"{name}={value}" for name, value in query.items())

    assert status_of(port, method, target, headers, body) < 500


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10) | st.sampled_from(["news", "1.2"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
triggers = st.dictionaries(
    st.sampled_from(["name", "data", "channel", "channels", "socket_id", "info", "batch"]), json_values, max_size=5
)


@given(st.sampled_from(["events", "batch_events"]), triggers | st.builds(lambda t: {"batch": [t, t]}, triggers))
@settings(max_examples=examples(150), deadline=None)
def test_any_signed_body_is_accepted_or_refused(port: int, route: str, members: dict[str, object]) -> None:
    path, body = f"/apps/1/{route}", json.dumps(members).encode()
    query = signing_query("POST", path, body)

    assert status_of(port, "POST", f"{path}?{query}", {"Content-Type": "application/json"}, body) in (200, 400, 413)


def signing_query(method: str, path: str, body: bytes) -> str:
    query = {"auth_key": KEY, "auth_timestamp": f"{time.time():.0f}", "auth_version": "1.0"}
    query["body_md5"] = hashlib.md5(body, usedforsecurity=False).hexdigest()
    query["auth_signature"] = signing.sign(SECRET, signing.http_text(method, path, query))
    return urlencode(query)


def status_of(port: int, method: str, target: str, headers: dict[str, str], body: bytes) -> int:
    """The status of an answer; what comes behind its head is of no interest."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request(method, target, body, {name: value.encode("latin-1") for name, value in headers.items()})
        return connection.getresponse().status
    finally:
        connection.close()
