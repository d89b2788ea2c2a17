"""The one subscription connection of a gateway process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .async_connection import AsyncConnection, Loop

#: Names in one SUBSCRIBE after a reconnect.
_NAMES_AT_ONCE = 500


class PubSubConnection(AsyncConnection):
    """
    Hears pub/sub channels; after a reconnect it hears the same ones again.

    Args:
        on_message: Gets the name and payload of each message.
        on_subscribed: Gets a name as soon as Redis has confirmed that nothing of it is missed from now on.
        on_down: Called when it is gone; nothing is subscribed then.
    """

    def __init__(
        self,
        loop: Loop,
        url: str,
        *,
        on_message: Callable[[bytes, bytes], None],
        on_subscribed: Callable[[bytes], None],
        on_down: Callable[[], None],
    ) -> None:
        super().__init__(loop, url, "subscription")
        self._on_message = on_message
        self._on_subscribed = on_subscribed
        self._on_down = on_down
        self._wanted: set[bytes] = set()
        #: Confirmations that are still to come, by name: a name dropped and wanted again has two under way.
        self._unconfirmed: dict[bytes, int] = {}
        #: Messages that have come.
        self.received = 0

    def subscribe(self, name: bytes) -> None:
        """Begin to hear a channel; ``on_subscribed`` tells when."""
        self._wanted.add(name)
        if self.is_up:
            self._ask_for([name])

    def unsubscribe(self, name: bytes) -> None:
        """No longer hear a channel."""
        self._wanted.discard(name)
        if self.is_up:
            self.write(("UNSUBSCRIBE", name))

    def _ask_for(self, names: Sequence[bytes]) -> None:
        for name in names:
            self._unconfirmed[name] = self._unconfirmed.get(name, 0) + 1
        self.write(("SUBSCRIBE", *names))

    def _opened(self) -> None:
        self._unconfirmed.clear()
        names = list(self._wanted)
        for start in range(0, len(names), _NAMES_AT_ONCE):
            self._ask_for(names[start : start + _NAMES_AT_ONCE])
        self._ping()  # so that it is proven, whether there is anything to hear or not

    def _take_replies(self) -> None:
        if not self._is_proven:
            self._prove()
        gets, on_message = self._reader.gets, self._on_message  # the hot path of the whole gateway
        received = 0
        while (reply := gets()) is not False:
            if type(reply) is list and reply[0] == b"message":
                received += 1
                on_message(reply[1], reply[2])
            else:
                self._received(reply)
        self.received += received

    def _received(self, reply: Any) -> None:
        if isinstance(reply, list) and reply[0] == b"subscribe":
            self._confirmed(reply[1])

    def _confirmed(self, name: bytes) -> None:
        left = self._unconfirmed.pop(name) - 1
        if left:
            self._unconfirmed[name] = left
        elif name in self._wanted:
            self._on_subscribed(name)

    def _lost(self) -> None:
        self._on_down()

    def _ping(self) -> None:
        self.write(("PING",))
