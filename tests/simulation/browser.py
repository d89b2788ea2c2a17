"""A browser that folds messages as ``jobpush.js`` does, and checks the guarantees for every message."""

from __future__ import annotations

import json
import socket
from typing import Any

from jobpush.channels import SERVER_TO_USER
from tests.autobahn.cases import TEXT, frame

from .world import Gateway, as_text, read_frames

NEWS = "news"
#: Approximate number of bytes that the kernel buffers for a client that does not read.
SEND_BUFFER = 4_096


class Browser:
    """One page, with at most one connection."""

    def __init__(self, user: str) -> None:
        self.user = user
        self.channel = SERVER_TO_USER + user
        self.socket: socket.socket | None = None
        self._rest = b""
        #: By channel, the id of the last event that had one: the page resumes from it.
        self.since: dict[str, str] = {}
        self.view: dict[str, dict[str, Any]] = {}
        #: The last number received on the news channel, and whether the next one must follow without a gap.
        self.number = 0
        self._is_gapless = False
        #: State of the current connection: joined channels, last id per channel, last seq per task.
        self.joined: set[str] = set()
        self._positions: dict[str, tuple[int, int]] = {}
        self._seqs: dict[str, int] = {}
        self.closed_with: int | None = None

    # -- actions --------------------------------------------------------------------------------

    def connect(self, gateway: Gateway) -> None:
        """Open a connection, resuming from the last received event."""
        self.hang_up()
        self.socket = gateway.accept(self.user, self.since.get(self.channel), send_buffer=SEND_BUFFER)
        self._rest, self.joined, self._positions, self._seqs = b"", set(), {}, {}

    def hang_up(self) -> None:
        """Drop the connection without a close frame."""
        if self.socket is not None:
            self.socket.close()
            self.socket = None

    def read(self, size: int = 1 << 20) -> int:
        """Read up to this many bytes and handle the complete messages; return the number of bytes read."""
        if self.socket is None:
            return 0
        try:
            data = self.socket.recv(size, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return 0
        except ConnectionResetError:
            data = b""
        if not data:
            self.hang_up()
            return 0
        frames, self._rest = read_frames(self._rest + data)
        for opcode, payload in frames:
            if self.socket is None:  # a reply to an earlier message failed: the connection is broken
                break
            self._take(opcode, payload)
        return len(data)

    def _send(self, message: dict[str, object]) -> None:
        assert self.socket is not None
        try:
            self.socket.sendall(frame(TEXT, as_text(message)))
        except BrokenPipeError:
            self.hang_up()

    # -- received messages -------------------------------------------------------------------------------

    def _take(self, opcode: int, payload: bytes) -> None:
        if opcode == 8:
            self.closed_with = int.from_bytes(payload[:2], "big")
            assert self.closed_with in (4100, 4201), "a page that follows the protocol only receives reconnect codes"
            self.hang_up()
            return
        assert opcode == TEXT
        message = json.loads(payload)
        channel = message.get("channel")
        if "id" in message:
            self._note_id(channel, message["id"])
        match message["event"]:
            case "pusher:connection_established":
                self._subscribe()
            case "pusher:ping":
                self._send({"event": "pusher:pong"})
            case "pusher_internal:subscription_succeeded":
                self.joined.add(channel)
            case "jobpush:resync":
                self._resync(channel)
            case "jobpush:task":
                assert channel == self.channel, "a page receives only its own tasks"
                self._fold(json.loads(message["data"]))
            case "number":
                self._count(json.loads(message["data"])["n"])
            case "pusher:signin_success":
                pass
            case "pusher:error":
                assert message["data"]["code"] == 4201, "a page causes no error but the activity timeout"
            case other:
                raise AssertionError(f"unexpected {other}: {message}")

    def _subscribe(self) -> None:
        since = self.since.get(NEWS)
        self._is_gapless = self._is_gapless and since is not None
        data: dict[str, object] = {"channel": NEWS}
        if since is not None:
            data["since"] = since
        self._send({"event": "pusher:subscribe", "data": data})

    def _note_id(self, channel: str, stream_id: str) -> None:
        """Check that ids increase on a connection, so that the last one covers all before it."""
        milliseconds, _, number = stream_id.partition("-")
        position = int(milliseconds), int(number)
        assert position > self._positions.get(channel, (-1, 0)), f"{stream_id} on {channel} arrived late or twice"
        self._positions[channel] = position
        self.since[channel] = stream_id

    def _resync(self, channel: str) -> None:
        if channel == NEWS:
            self._is_gapless = False
        else:
            self._seqs.clear()
            for task in self.view.values():
                task["seq"] = 0

    def _fold(self, task: dict[str, Any]) -> None:
        """Check that a snapshot is newer than the last one of its task on this connection, except after a resync."""
        task_id, seq = task["task_id"], task["seq"]
        assert task_id.startswith(f"{self.user}-"), "a page receives only its own tasks"
        assert seq > self._seqs.get(task_id, 0), f"seq {seq} of {task_id} arrived late or twice"
        self._seqs[task_id] = seq
        known = self.view.get(task_id)
        if known is None or seq > known["seq"]:
            self.view[task_id] = task

    def _count(self, number: int) -> None:
        """Check that each number, live or replayed, arrives once and in order; a resync must precede a gap."""
        assert number > self.number, f"{number} arrived after {self.number}"
        assert not self._is_gapless or number == self.number + 1, (
            f"{number} arrived after {self.number}, without a resync"
        )
        self.number = number
        self._is_gapless = True
