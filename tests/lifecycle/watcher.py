"""A client that records all task events of a user, over connections that it cuts regularly."""

from __future__ import annotations

import itertools
import json
import socket
import threading
from collections.abc import Sequence
from contextlib import suppress

from jobpush.events import TaskEvent
from tests.gateway.client import Client


class Watcher:
    """Records every task event of one user, on several gateways in turn, and resumes after each cut."""

    #: Messages after which the connection is cut.
    _MESSAGES_OF_A_CONNECTION = 500

    def __init__(self, ports: Sequence[int], user: str) -> None:
        """
        Args:
            ports: Ports of the gateways; each connection uses the next.
            user: The user.
        """
        self.events: list[TaskEvent] = []
        self.connections = 0
        #: The error that stopped the thread.
        self.error: Exception | None = None
        self._ports = itertools.cycle(ports)
        self._user = user
        self._since = ""
        self._changed = threading.Condition()
        self._is_stopped = False
        self._client = self._connect()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def newest(self) -> dict[str, TaskEvent]:
        """Return the last event of each task."""
        with self._changed:
            return {event.task_id: event for event in self.events}

    def stop(self) -> None:
        """Stop watching."""
        self._is_stopped = True
        with suppress(OSError):  # the gateway has closed it already
            self._client.socket.shutdown(socket.SHUT_RDWR)  # wakes the thread
        self._thread.join()
        self._client.hang_up()

    def _connect(self) -> Client:
        self.connections += 1
        client = Client(next(self._ports), user=self._user, client="jobpush", since=self._since)
        client.socket.settimeout(None)
        return client

    def _run(self) -> None:
        try:
            while True:
                for _ in range(self._MESSAGES_OF_A_CONNECTION):
                    self._take(self._client.receive())
                self._client.hang_up()
                self._client = self._connect()
        except Exception as exc:
            if not self._is_stopped:
                self.error = exc

    def _take(self, message: dict[str, str]) -> None:
        assert message["event"] != "jobpush:resync", "no resync is expected: the history is long enough"
        if message["event"] == "pusher:ping":
            self._client.send("pusher:pong")
        self._since = message.get("id", self._since)
        if message["event"] == "jobpush:task":
            with self._changed:
                self.events.append(TaskEvent.from_wire(json.loads(message["data"])))
