"""A user who watches all of their tasks through gateways, over a connection that breaks again and again."""

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
    """Hears every task event of one user, on any of several gateways, and resumes where it was cut off."""

    #: Messages after which the connection is cut.
    _MESSAGES_OF_A_CONNECTION = 500

    def __init__(self, ports: Sequence[int], user: str) -> None:
        """
        Args:
            ports: Of the gateways; each connection takes the next.
            user: Who watches.
        """
        self.events: list[TaskEvent] = []
        self.connections = 0
        #: What has ended the watching before its time.
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
        """What is seen of each task."""
        with self._changed:
            return {event.task_id: event for event in self.events}

    def stop(self) -> None:
        """Watch no longer."""
        self._is_stopped = True
        with suppress(OSError):  # the gateway has closed it already
            self._client.socket.shutdown(socket.SHUT_RDWR)  # which wakes the thread
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
        assert message["event"] != "jobpush:resync", "the history is long enough"
        if message["event"] == "pusher:ping":
            self._client.send("pusher:pong")
        self._since = message.get("id", self._since)
        if message["event"] == "jobpush:task":
            with self._changed:
                self.events.append(TaskEvent.from_wire(json.loads(message["data"])))
