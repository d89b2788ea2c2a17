"""
The state of one connection: what a client's messages mean, and what is to be done.

A state machine without I/O, threads or clock: its shell (the gateway's hub) hands in text and the time, and does
the actions that come back, in order. While a :class:`Join` is under way the shell hands in no further messages of
that connection; it answers by :meth:`ServerProtocol.joined` or :meth:`ServerProtocol.refused`. Nothing here raises
on account of what a client sends.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from .actions import Action, UserData
from .codes import PusherError, SubscriptionRefused, SubscriptionUnauthorized
from .settings import ProtocolSettings


def answer(error: PusherError | SubscriptionRefused) -> list[Action]:
    """What tells a client of an error: a message, and by its code a close; for the shell's own errors too."""
    raise NotImplementedError


class ServerProtocol:
    """
    The server's side of one connection. Times (``now``) are seconds of any clock that never goes back.

    Args:
        settings: Shared by all connections.
        socket_id: From :func:`~jobpush.protocol.handshake.new_socket_id`.
    """

    def __init__(self, settings: ProtocolSettings, socket_id: str) -> None:
        raise NotImplementedError

    @property
    def user(self) -> UserData | None:
        """Who the connection is signed in as."""
        raise NotImplementedError

    @property
    def channels(self) -> Collection[str]:
        """The channels that the connection has joined."""
        raise NotImplementedError

    def member_id(self, channel: str) -> str | None:
        """The user id under which the connection is a member of a presence channel that it has joined."""
        raise NotImplementedError

    def open(
        self, now: float, *, user: UserData | None = None, announce_user: bool = False, since: str | None = None
    ) -> list[Action]:
        """
        Begin: call it once, first.

        Args:
            now: The time.
            user: Whom the page's session names; signed in at once.
            announce_user: Our own client is there: tell it so, and join its user's channel.
            since: Stream id of the last event that it has of that channel; what is no stream id counts as lost
                history, so that the shell says ``jobpush:resync``.
        """
        raise NotImplementedError

    def receive(self, text: str, now: float) -> list[Action]:
        """Take one complete text message."""
        raise NotImplementedError

    def receive_binary(self, now: float) -> list[Action]:
        """Take a binary message, whatever is in it: an error and a close (1003)."""
        raise NotImplementedError

    def receive_oversized(self, now: float) -> list[Action]:
        """Take note of a message beyond ``settings.max_message`` bytes, not read to its end: error and close (1009)."""
        raise NotImplementedError

    def touch(self, now: float) -> None:
        """Note that something came in, a control frame for instance: the client is alive."""
        raise NotImplementedError

    def tick(self, now: float) -> list[Action]:
        """What time asks for: a ping, or a close. Call about once a second."""
        raise NotImplementedError

    def joined(
        self,
        channel: str,
        *,
        position: str,
        members: Mapping[str, str] | None = None,
        has_cached: bool = False,
    ) -> list[Action]:
        """
        The shell has joined a channel. It sends what is missed, snapshots or the cached event after these actions.

        Args:
            channel: Name of the channel, as in :class:`Join`.
            position: Stream id up to which the client then has everything.
            members: ``user_info`` (JSON text) by user id, this connection's member included; of presence channels.
            has_cached: Whether a cached event follows; of cache channels.
        """
        raise NotImplementedError

    def refused(
        self, channel: str, message: str, *, error: type[SubscriptionRefused] = SubscriptionUnauthorized
    ) -> list[Action]:
        """The shell could not join a channel, for example since the task is another user's."""
        raise NotImplementedError
