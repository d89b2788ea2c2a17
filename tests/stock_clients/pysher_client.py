"""Pysher, unmodified and used as in its README, with a queue of received events."""

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
        Prepare the connection; :meth:`connect` opens it.

        Args:
            port: Port of the gateway.
            channels: Events to listen to, by channel.
            user_data: The member data for presence channels.
            user: User to sign in first; implemented here, because Pysher does not support it.
        """
        self._channels = channels
        self._user = user
        self._received: queue.Queue[tuple[str, str, str]] = queue.Queue()
        self.pusher = pysher.Pusher(
            KEY, secret=SECRET, secure=False, custom_host="127.0.0.1", port=port, user_data=user_data
        )
        # Bound callbacks run in Pysher's thread, so they bind channel events before any message of the channel is read.
        self.pusher.connection.bind("pusher:connection_established", self._sign_in if user else self._join)
        self.pusher.connection.bind("pusher:signin_success", self._join)

    def connect(self) -> None:
        """Connect, and wait until all channels are joined."""
        self.pusher.connect()
        for channel in self._channels:
            self.until(channel, SUBSCRIBED)

    def close(self) -> None:
        """
        Disconnect in Pysher's thread: after a close in another thread, its reader may wait for ping_timeout, 100 s.
        """
        connection = self.pusher.connection
        connection.disconnect_called = True  # disables the reconnect
        connection.bind("pusher:pong", lambda _: connection.socket.close())
        connection.send_ping()
        connection.join(PATIENCE)

    def until(self, channel: str, event: str) -> str:
        """Return the data of the next event with this name; skip earlier events."""
        while True:
            received_channel, received_event, data = self.next()
            if (received_channel, received_event) == (channel, event):
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
    """Yield a :class:`Listener` that is connected until the end of the block."""
    listener = Listener(*arguments, **options)
    try:
        listener.connect()
        yield listener
    finally:
        listener.close()
