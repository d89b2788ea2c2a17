"""A connection as channels and presence see it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from .broadcast import Broadcast


class Listener(Protocol):
    """The receiver of a channel's messages; :class:`~jobpush.gateway.connection.Connection` is one."""

    is_closing: bool

    @property
    def socket_id(self) -> str:
        """Pusher socket id."""

    def send(self, text: bytes) -> None:
        """Queue a message."""

    def send_bounded(self, text: bytes) -> None:
        """Queue a message that other connections caused; close a connection that has too many of them queued."""

    def queue(self, broadcasts: Iterable[Broadcast]) -> None:
        """Queue live events."""

    def deliver(self, broadcasts: list[Broadcast], frames: bytes) -> None:
        """Send live events, at once if nothing is queued; ``frames`` are the same events as WebSocket frames."""

    def on_failure(self, exc: Exception) -> None:
        """Close the connection after an internal error."""
