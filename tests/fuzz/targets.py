"""
What is fed with any bytes: one function for each way by which something comes in from outside.

Each returns where the bytes are taken or refused as they are meant to be, and raises for all else. The same functions
serve the coverage-guided fuzzer (``make fuzz``) and the replay of what it has found (``test_corpus.py``).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qsl

from werkzeug.exceptions import HTTPException
from wsproto.frame_protocol import Opcode, ParseFailed

from jobpush import signing
from jobpush.channels import PRIVATE_TASK, SERVER_TO_USER
from jobpush.config import Config
from jobpush.errors import EventError, InvalidData
from jobpush.events import TaskEvent, encode
from jobpush.gateway.event_stream import read_positions
from jobpush.gateway.frames import FrameReader, Oversized, close_code
from jobpush.protocol.actions import UserData
from jobpush.protocol.codes import PusherError
from jobpush.protocol.handshake import check_app, check_version
from jobpush.store.messages import read_event, read_message, read_task
from jobpush.web.flask.http_request import (
    COUNTS,
    check_signature,
    read_batch,
    read_channel_name,
    read_info,
    read_trigger,
)
from tests.protocol.conftest import KEY, SECRET, SOCKET_ID, Shell

from .reference import Broken, TooLong, read_all

#: Bytes of a message in these tests: few, so that the bound is met.
LIMIT = 300
_CONFIG = Config(key=KEY, secret=SECRET)


def frames(data: bytes) -> None:
    """A client's bytes behind the handshake; the first byte says in what pieces they come."""
    if not data:
        return
    size, stream = data[0] + 1, data[1:]
    expected, expected_end = _collect(read_all(stream, LIMIT))
    for piece_size in (len(stream) or 1, size):
        messages, end = _collect(_read_in_pieces(stream, piece_size))
        assert messages == expected, (messages, expected)
        assert (end is None) == (expected_end is None), (end, expected_end)
    for opcode, payload in expected:
        if opcode == Opcode.CLOSE:
            _may_raise(lambda payload=payload: close_code(payload), ParseFailed)


def protocol(data: bytes) -> None:
    """A client's messages, one a line; a line that is empty lets a while pass. ``"@"`` stands for a right signature."""
    shell = Shell(max_channels=5, max_watchlist=2, signin_timeout=100)
    shell.tasks = {f"{PRIVATE_TASK}mine"}
    lines = data.decode("utf-8", "replace").split("\n")
    first = lines.pop(0)
    since = first[1:] if first.startswith("s") else None
    shell.open(user=UserData("42") if first else None, announce_user=bool(since), since=since)
    for line in lines[:50]:
        if line:
            shell.send_text(_signed(line))
        else:
            shell.pass_time(40)
        assert set(shell.protocol.channels) == shell.channels
        if shell.close is not None:
            return


def handshake(data: bytes) -> None:
    """What stands in the address of a WebSocket: the key, then the query."""
    key, _, query = data.decode("latin-1").partition("?")
    config = Shell().protocol.config
    _may_raise(lambda: check_app(config, key), PusherError)
    _may_raise(lambda: check_version(dict(parse_qsl(query))), PusherError)


def http_api(data: bytes) -> None:
    """A request to the HTTP API: a line with the path, one with the query, then the body. ``@``: it is signed."""
    path, _, rest = data.partition(b"\n")
    query_text, _, body = rest.partition(b"\n")
    query = dict(parse_qsl(query_text.decode("latin-1"), keep_blank_values=True))
    name = path.decode("utf-8", "surrogateescape")
    if query.get("auth_signature") == "@":
        del query["auth_signature"]
        query["auth_signature"] = signing.sign(SECRET, signing.http_text("POST", name, query))
    paths = ["/" + name, name]
    _may_raise(lambda: check_signature(_CONFIG, 1_700_000_000.0, "POST", paths, query, lambda: body), HTTPException)
    _may_raise(lambda: read_trigger(body, _CONFIG), HTTPException)
    _may_raise(lambda: read_batch(body, _CONFIG), HTTPException)
    _may_raise(lambda: read_channel_name(name), HTTPException)
    _may_raise(lambda: read_info(query.get("info"), COUNTS), HTTPException)


def stream_ids(data: bytes) -> None:
    """``Last-Event-ID`` of an event stream, and behind a line's end its ``channels``."""
    last_id, _, names = data.decode("latin-1").partition("\n")
    positions = read_positions(last_id)
    shell = Shell()
    shell.open(user=UserData("42"), announce_user=True, since=positions.get(SERVER_TO_USER + "42"))
    for name in names.split(",")[:20]:
        request = {"channel": name, "since": positions.get(name)}
        shell.send_text(encode({"event": "pusher:subscribe", "data": request}))


def task_events(data: bytes) -> None:
    """A task's event as JSON."""
    try:
        wire = json.loads(data)
    except (ValueError, RecursionError):
        return
    try:
        event = TaskEvent.from_wire(wire)
    except EventError:
        return
    try:
        text = encode(event.to_wire())
    except InvalidData:
        return  # NaN, which Python's reader lets in
    assert TaskEvent.from_wire(json.loads(text)) == event
    inside = event.volatile_json() + "," + event.stable_json()
    assert isinstance(json.loads(json.loads('"{' + inside + '}"')), dict)


def redis_messages(data: bytes) -> None:
    """What comes from a topic: other programs may write there too."""
    try:
        message = read_message(data)
    except ValueError:
        return
    _may_raise(lambda: read_event(message.members), ValueError)
    _may_raise(lambda: read_task(data), ValueError, EventError)


Target = Callable[[bytes], None]
TARGETS: dict[str, Target] = {
    target.__name__: target
    for target in (frames, protocol, handshake, http_api, stream_ids, task_events, redis_messages)
}


def _may_raise(call: Callable[[], object], *errors: type[Exception]) -> None:
    try:
        call()
    except errors:
        pass


def _read_in_pieces(stream: bytes, size: int) -> Iterator[tuple[int, str | bytes]]:
    reader = FrameReader(LIMIT)
    for start in range(0, len(stream), size):
        yield from reader.feed(stream[start : start + size])
        held = len(reader._frames.buffer)
        assert held <= 14 + 125, f"{held} bytes of a frame are held: more than a header and a control frame"
        assert sum(map(len, reader._parts)) <= LIMIT
        assert len(reader._parts) <= 66


def _collect(messages: Iterator[tuple[int, Any]]) -> tuple[list[tuple[int, Any]], Exception | None]:
    """All messages, and what ended them if it was an error that is meant to."""
    taken: list[tuple[int, Any]] = []
    try:
        for message in messages:
            taken.append(message)
    except (ParseFailed, Oversized, Broken, TooLong) as exc:
        return taken, exc
    return taken, None


def _signed(line: str) -> str:
    """The line with a right signature where it has a placeholder for one."""
    try:
        message = json.loads(line)
        request = message["data"]
        if request["auth"] != "@":
            return line
        if message["event"] == "pusher:signin":
            request["auth"] = signing.user_auth(KEY, SECRET, SOCKET_ID, request["user_data"])
        else:
            request["auth"] = signing.channel_auth(
                KEY, SECRET, SOCKET_ID, request["channel"], request.get("channel_data")
            )
        return json.dumps(message)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return line
