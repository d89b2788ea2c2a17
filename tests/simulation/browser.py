"""A browser that folds messages as ``jobpush.js`` does, and checks its guarantees at every message."""

from __future__ import annotations

import json
import socket
from typing import Any

from jobpush.channels import SERVER_TO_USER
from tests.autobahn.cases import TEXT, frame

from .world import Gateway, as_text, read_frames

NEWS = "news"
#: Bytes that the kernel holds for a client that does not read, about.
SEND_BUFFER = 4_096


class Browser:
    """One page, with whatever connection it has at the moment."""

    def __init__(self, user: str) -> None:
        self.user = user
        self.channel = SERVER_TO_USER + user
        self.socket: socket.socket | None = None
        self._rest = b""
        #: By channel, the id of the last event that had one: what the page resumes from.
        self.since: dict[str, str] = {}
        self.view: dict[str, dict[str, Any]] = {}
        #: The last number of the news, and whether the next one must follow it.
        self.number = 0
        self._is_gapless = False
        #: Of the present connection: the channels that are joined, the ids and the seqs heard.
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
        """Drop the connection without a close."""
        if self.socket is not None:
            self.socket.close()
            self.socket = None

    def read(self, size: int = 1 << 20) -> int:
        """Take so many bytes, and act on the messages that are whole; gives how many there were."""
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
            if self.socket is None:  # an answer to an earlier one found the connection broken
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
            assert self.closed_with in (4100, 4201), "a page that follows the protocol only gets reconnect codes"
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
                assert message["data"]["code"] == 4201, "the only mistake of a page is to be silent for too long"
            case other:
                raise AssertionError(f"{other} was not to be expected: {message}")

    def _subscribe(self) -> None:
        since = self.since.get(NEWS)
        self._is_gapless = self._is_gapless and since is not None
        data: dict[str, object] = {"channel": NEWS}
        if since is not None:
            data["since"] = since
        self._send({"event": "pusher:subscribe", "data": data})

    def _note_id(self, channel: str, stream_id: str) -> None:
        """Ids rise on a connection, so that the last one stands for all before it."""
        milliseconds, _, number = stream_id.partition("-")
        position = int(milliseconds), int(number)
        assert position > self._positions.get(channel, (-1, 0)), f"{stream_id} on {channel} comes too late or twice"
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
        """A snapshot of a task is never older than the last one on this connection, but after a resync."""
        task_id, seq = task["task_id"], task["seq"]
        assert task_id.startswith(f"{self.user}-"), "a page receives only its own tasks"
        assert seq > self._seqs.get(task_id, 0), f"seq {seq} of {task_id} comes too late or twice"
        self._seqs[task_id] = seq
        known = self.view.get(task_id)
        if known is None or seq > known["seq"]:
            self.view[task_id] = task

    def _count(self, number: int) -> None:
        """Live and replayed, each number arrives once and in order; a loss is announced before."""
        assert number > self.number, f"{number} comes behind {self.number}"
        assert not self._is_gapless or number == self.number + 1, (
            f"{number} comes behind {self.number}, without a resync"
        )
        self.number = number
        self._is_gapless = True
