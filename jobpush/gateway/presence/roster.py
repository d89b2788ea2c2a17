"""The members of a presence channel as its listeners in this process know them; pure data."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import NamedTuple

from ...events import encode
from ...protocol import messages
from ...protocol.actions import Member
from ...store.messages import Message
from ...store.replies import Roster


class Change(NamedTuple):
    """A member was added (``user_info`` is JSON text) or removed (``None``)."""

    user_id: str
    user_info: str | None

    def frame(self, channel: str) -> bytes:
        """Return the message to the channel's listeners."""
        if self.user_info is None:
            return messages.member_removed(channel, self.user_id)
        return messages.member_added(channel, self.user_id, self.user_info)


class LiveRoster:
    """
    The members of one presence channel.

    Sequence numbers order the roster from Redis and the announcements. Only changes of the list are passed on, so
    listeners receive each change once.
    """

    __slots__ = ("_kept", "_seq", "members", "version")

    def __init__(self) -> None:
        #: ``user_info`` (JSON text) by user id.
        self.members: dict[str, str] = {}
        #: A roster requested under another version may lack missed announcements.
        self.version = 0
        self._seq = 0
        #: Announcements that wait for a roster; ``None``: the list is complete.
        self._kept: list[tuple[int, Change]] | None = []

    @property
    def is_current(self) -> bool:
        """Whether no announcement is missing."""
        return self._kept is None

    def suspend(self) -> None:
        """Keep announcements until the next roster: some may have been missed."""
        self.version += 1
        if self._kept is None:
            self._kept = []

    def receive(self, message: Message) -> bool:
        """Apply an announcement. Return whether it changes the list and is passed on now."""
        change = _read_change(message)
        if self._kept is not None:
            self._kept.append((message.seq, change))
            return False
        return self._apply(message.seq, change) is not None

    def admit(self, member: Member) -> Change | None:
        """Add a member that joins through this process. Return the change, if there is one."""
        if member.user_id in self.members:
            return None
        self.members[member.user_id] = member.user_info
        return Change(member.user_id, member.user_info)

    def take(self, roster: Roster, *, is_complete: bool) -> Iterator[Change]:
        """
        Apply a roster from Redis, then the kept announcements. The caller must exhaust the iterator.

        Args:
            roster: The members.
            is_complete: Whether a member missing from it is gone.

        Returns:
            The changes.
        """
        if self._kept is None and roster.seq < self._seq:
            return  # announcements have overtaken it
        if is_complete:
            for user_id in self.members.keys() - roster.members.keys():
                del self.members[user_id]
                yield Change(user_id, None)
        for user_id, user_info in roster.members.items():
            if user_id not in self.members:
                self.members[user_id] = user_info
                yield Change(user_id, user_info)
        self._seq = roster.seq
        kept, self._kept = self._kept, None
        for seq, change in kept or ():
            if news := self._apply(seq, change):
                yield news

    def _apply(self, seq: int, change: Change) -> Change | None:
        if seq <= self._seq:
            return None
        self._seq = seq
        is_known = change.user_id in self.members
        if change.user_info is None:
            self.members.pop(change.user_id, None)
            return change if is_known else None
        self.members.setdefault(change.user_id, change.user_info)
        return None if is_known else change


def _read_change(message: Message) -> Change:
    frame = json.loads(b"{%b}" % message.members)
    data = json.loads(frame["data"])
    is_added = frame["event"] == "pusher_internal:member_added"
    return Change(data["user_id"], encode(data["user_info"]) if is_added else None)
