"""Pysher, unchanged, used as its README shows, and a queue of received events."""

from __future__ import annotations

import queue
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pysher

from tests.waiting import PATIENCE

from .application import signing_sdk
from .deployment import KEY, SECRET

SUBSCRIBED = "pusher_internal:subscription_succeeded"


class Listener:
    """A Pysher connection that subscribes to its channels once it is connected."""

    def __init__(
        self,
        port: int,
        channels: Mapping[str, Sequence[str]],
        user_data: dict[str, Any] | None = None,
        user: str | None = None,
    ) -> None:
        """
        Prepare the connection; :meth:`connect` makes it.

        Args:
            port: Where the gateway is.
            channels: Events to listen to, by channel.
            user_data: The member on presence channels.
            user: Who signs in first; by hand, for Pysher knows no users.
        """
        self._channels = channels
        self._user = user
        self._received: queue.Queue[tuple[str, str, str]] = queue.Queue()
        self.pusher = pysher.Pusher(
            KEY, secret=SECRET, secure=False, custom_host="127.0.0.1", port=port, user_data=user_data
        )
        # In Pysher's own thread: what it binds there can't come too late.
        self.pusher.connection.bind("pusher:connection_established", self._sign_in if user else self._join)
        self.pusher.connection.bind("pusher:signin_success", self._join)

    def connect(self) -> None:
        """Connect, and wait until all channels are joined."""
        self.pusher.connect()
        for channel in self._channels:
            self.until(channel, SUBSCRIBED)

    def close(self) -> None:
        """
        Disconnect in Pysher's own thread: from another one, its reader may not notice for its ping_timeout, 100 s.
        """
        connection = self.pusher.connection
        connection.disconnect_called = True  # it does not come back, whatever ends it
        connection.bind("pusher:pong", lambda _: connection.socket.close())
        connection.send_ping()
        connection.join(PATIENCE)

    def until(self, channel: str, event: str) -> str:
        """Return the data of the next event of this name; earlier events are skipped."""
        while True:
            heard_channel, heard_event, data = self.next()
            if (heard_channel, heard_event) == (channel, event):
                return data

    def next(self) -> tuple[str, str, str]:
        """Return the next received channel, event and data, as on the wire."""
        return self._received.get(timeout=PATIENCE)

    def _sign_in(self, _: object) -> None:
        auth = signing_sdk.authenticate_user(self.pusher.connection.socket_id, {"id": self._user})
        self.pusher.connection.send_event("pusher:signin", auth)

    def _join(self, _: object) -> None:
        for name, events in self._channels.items():
            channel = self.pusher.subscribe(name)
            for event in (SUBSCRIBED, *events):
                channel.bind(event, self._receive, name, event)

    def _receive(self, data: str, channel: str, event: str) -> None:
        self._received.put((channel, event, data))


@contextmanager
def listening(*arguments: Any, **options: Any) -> Iterator[Listener]:
    """A :class:`Listener` of these arguments, connected until the end of the block."""
    listener = Listener(*arguments, **options)
    try:
        listener.connect()
        yield listener
    finally:
        listener.close()
