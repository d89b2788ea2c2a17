"""The pub/sub connection of a gateway process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import hiredis

from .async_connection import AsyncConnection, Loop
from .topology import Address

#: Names in one SUBSCRIBE after a reconnect.
_NAMES_AT_ONCE = 500


class PubSubConnection(AsyncConnection):
    """
    Subscribes to channels, and after a reconnect to the same ones again.

    Args:
        probe: Channel that is always subscribed: a missing right shows at start, not with the first browser.
        on_message: Gets the channel and the payload of each message.
        on_subscribed: Gets a channel when Redis has confirmed the subscription: no later message is missed.
        on_down: Called when the connection is lost; nothing is subscribed then.
        address: As in :class:`AsyncConnection`.
    """

    #: Kinds of a message and of a confirmation, and the commands.
    _MESSAGE, _CONFIRMATION = b"message", b"subscribe"
    _SUBSCRIBE, _UNSUBSCRIBE = "SUBSCRIBE", "UNSUBSCRIBE"

    def __init__(
        self,
        loop: Loop,
        url: str,
        *,
        address: Address | None = None,
        probe: str | None = None,
        on_message: Callable[[bytes, bytes], None],
        on_subscribed: Callable[[bytes], None],
        on_down: Callable[[], None],
    ) -> None:
        super().__init__(loop, url, "subscription", address)
        self._on_message = on_message
        self._on_subscribed = on_subscribed
        self._on_down = on_down
        self._wanted: set[bytes] = set() if probe is None else {probe.encode()}
        #: Outstanding confirmations by channel: an unsubscribed and resubscribed channel has two.
        self._unconfirmed: dict[bytes, int] = {}
        #: Number of messages.
        self.received = 0

    def subscribe(self, name: bytes) -> None:
        """Subscribe to a channel; ``on_subscribed`` is called when that is confirmed."""
        self._wanted.add(name)
        if self.is_up:
            self._send_subscribe([name])

    def unsubscribe(self, name: bytes) -> None:
        """Unsubscribe from a channel."""
        self._wanted.discard(name)
        if self.is_up:
            self.write((self._UNSUBSCRIBE, name))

    def _send_subscribe(self, names: Sequence[bytes]) -> None:
        for name in names:
            self._unconfirmed[name] = self._unconfirmed.get(name, 0) + 1
        self.write((self._SUBSCRIBE, *names))

    def _opened(self) -> None:
        self._unconfirmed.clear()
        self._subscribe_all(list(self._wanted))
        self._ping()  # its reply shows that the connection works, even without channels

    def _subscribe_all(self, names: Sequence[bytes]) -> None:
        for start in range(0, len(names), _NAMES_AT_ONCE):
            self._send_subscribe(names[start : start + _NAMES_AT_ONCE])

    def _take_replies(self) -> None:
        gets, on_message, kind = self._reader.gets, self._on_message, self._MESSAGE  # the hot path of the whole gateway
        received = 0
        while (reply := gets()) is not False:
            if type(reply) is list and reply[0] == kind:
                received += 1
                on_message(reply[1], reply[2])
            else:
                self._received(reply)
                if self._socket is None:
                    break
        self.received += received

    def _received(self, reply: Any) -> None:
        if isinstance(reply, hiredis.ReplyError):
            self._break(reply)
            return
        is_confirmation = isinstance(reply, list) and reply[0] == self._CONFIRMATION
        if not self.is_working and not is_confirmation:  # it follows them, and may be refused where they are not
            self._accepted()
        if is_confirmation:
            name = reply[1]
            left = self._unconfirmed.pop(name) - 1
            if left:
                self._unconfirmed[name] = left
            elif name in self._wanted:
                self._on_subscribed(name)

    def _lost(self) -> None:
        self._on_down()

    def _ping(self) -> None:
        self.write(("PING",))
