"""The channels of one connection: those it has joined, and those it is joining."""

from __future__ import annotations


class Subscriptions:
    """
    Each channel with the user id of the connection's member, which only presence channels have.

    Most connections have one or two channels, of which none is a presence channel, and are never joining; so the
    dictionaries come late and go early.
    """

    __slots__ = ("_joining", "_members", "joined")

    def __init__(self) -> None:
        #: Names of the channels that are joined.
        self.joined: tuple[str, ...] = ()
        self._members: dict[str, str] | None = None
        self._joining: dict[str, str | None] | None = None

    def __len__(self) -> int:
        return len(self.joined) + len(self._joining or ())

    def __contains__(self, channel: str) -> bool:
        return channel in self.joined or self.is_joining(channel)

    def is_joining(self, channel: str) -> bool:
        """Whether a join is under way."""
        return self._joining is not None and channel in self._joining

    def member_id(self, channel: str) -> str | None:
        """The user id of the member in a channel that is joined."""
        return None if self._members is None else self._members.get(channel)

    def begin(self, channel: str, user_id: str | None) -> None:
        """A join begins."""
        if self._joining is None:
            self._joining = {}
        self._joining[channel] = user_id

    def succeed(self, channel: str) -> None:
        """A join that is under way ends well."""
        user_id = self.remove(channel)
        self.joined += (channel,)
        if user_id is not None:
            self._members = {**(self._members or {}), channel: user_id}

    def remove(self, channel: str) -> str | None:
        """Forget a channel, joined or joining. Returns the user id of its member."""
        if self._joining is not None and channel in self._joining:
            user_id = self._joining.pop(channel)
            self._joining = self._joining or None
            return user_id
        self.joined = tuple(name for name in self.joined if name != channel)
        return None if self._members is None else self._members.pop(channel, None)
