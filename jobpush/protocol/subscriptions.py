"""The channels of one connection: those it has joined, and those it is joining."""

from __future__ import annotations

from collections.abc import Collection


class Subscriptions:
    """
    Each channel with the user id of the connection's member, which only presence channels have.

    Most connections have one or two channels and are never joining, so the dictionaries come late and go early.
    """

    __slots__ = ("_joined", "_joining")

    def __init__(self) -> None:
        self._joined: dict[str, str | None] | None = None
        self._joining: dict[str, str | None] | None = None

    def __len__(self) -> int:
        return len(self._joined or ()) + len(self._joining or ())

    def __contains__(self, channel: str) -> bool:
        return self.is_joined(channel) or self.is_joining(channel)

    @property
    def joined(self) -> Collection[str]:
        """Names of the channels that are joined."""
        return () if self._joined is None else self._joined.keys()

    def is_joined(self, channel: str) -> bool:
        """Whether a join has ended well."""
        return self._joined is not None and channel in self._joined

    def is_joining(self, channel: str) -> bool:
        """Whether a join is under way."""
        return self._joining is not None and channel in self._joining

    def member_id(self, channel: str) -> str | None:
        """The user id of the member in a channel that is joined."""
        return None if self._joined is None else self._joined.get(channel)

    def begin(self, channel: str, user_id: str | None) -> None:
        """A join begins."""
        if self._joining is None:
            self._joining = {}
        self._joining[channel] = user_id

    def succeed(self, channel: str) -> None:
        """A join that is under way ends well."""
        user_id = self.remove(channel)
        if self._joined is None:
            self._joined = {}
        self._joined[channel] = user_id

    def remove(self, channel: str) -> str | None:
        """Forget a channel, joined or joining. Returns the user id of its member."""
        if self._joining is not None and channel in self._joining:
            user_id = self._joining.pop(channel)
            self._joining = self._joining or None
            return user_id
        return None if self._joined is None else self._joined.pop(channel, None)
