"""The channels of one connection: confirmed subscriptions, and pending ones."""

from __future__ import annotations


class Subscriptions:
    """
    Channels, each with the user id of the connection's member, which only presence channels have.

    Most connections have one or two channels, no presence channel, and nothing pending; so the dictionaries exist only
    while they are needed.
    """

    __slots__ = ("_members", "_pending", "confirmed")

    def __init__(self) -> None:
        #: Names of the channels with a confirmed subscription.
        self.confirmed: tuple[str, ...] = ()
        self._members: dict[str, str] | None = None
        self._pending: dict[str, str | None] | None = None

    def __len__(self) -> int:
        return len(self.confirmed) + len(self._pending or ())

    def __contains__(self, channel: str) -> bool:
        return channel in self.confirmed or self.is_pending(channel)

    @property
    def has_pending(self) -> bool:
        """Whether any subscription is under way."""
        return self._pending is not None

    def is_pending(self, channel: str) -> bool:
        """Return whether a subscription is under way."""
        return self._pending is not None and channel in self._pending

    def member_id(self, channel: str) -> str | None:
        """Return the user id of the member in a channel with a confirmed subscription."""
        return None if self._members is None else self._members.get(channel)

    def begin(self, channel: str, user_id: str | None) -> None:
        """Add a pending subscription."""
        if self._pending is None:
            self._pending = {}
        self._pending[channel] = user_id

    def confirm(self, channel: str) -> None:
        """Confirm a pending subscription."""
        user_id = self.remove(channel)
        self.confirmed += (channel,)
        if user_id is not None:
            self._members = {**(self._members or {}), channel: user_id}

    def remove(self, channel: str) -> str | None:
        """Forget a channel. Return the user id of its member."""
        if self._pending is not None and channel in self._pending:
            user_id = self._pending.pop(channel)
            self._pending = self._pending or None
            return user_id
        self.confirmed = tuple(name for name in self.confirmed if name != channel)
        return None if self._members is None else self._members.pop(channel, None)
