"""Who is a member of the presence channels that this process hears: one list for all who hear a channel."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from ...events import encode
from ...protocol import messages
from ...protocol.actions import Member
from ...store.messages import Message
from ...store.redis.command_connection import CommandConnection, ConnectionLost
from ...store.replies import Roster, read_roster
from ..loop import Loop
from .lease import RETRY_AFTER, Lease

if TYPE_CHECKING:
    from ..listeners import Channel
    from ..topics import Topics

logger = logging.getLogger("jobpush.gateway")


class Change(NamedTuple):
    """Somebody has come (``user_info`` is JSON text) or gone (``None``)."""

    user_id: str
    user_info: str | None

    def frame(self, channel: str) -> bytes:
        """What tells those who hear the channel."""
        if self.user_info is None:
            return messages.member_removed(channel, self.user_id)
        return messages.member_added(channel, self.user_id, self.user_info)


class LiveRoster:
    """
    The members of one presence channel as its listeners here know them.

    A roster read from Redis and the announcements behind it are put together by their numbers. Only what changes
    the list is news, so nobody hears of the same thing twice, whichever way it came.
    """

    __slots__ = ("_kept", "_seq", "members", "version")

    def __init__(self) -> None:
        #: ``user_info`` (JSON text) by user id.
        self.members: dict[str, str] = {}
        #: A roster that was asked for under another version may lack what was missed.
        self.version = 0
        self._seq = 0
        #: Announcements that wait for a roster; ``None``: the list is right.
        self._kept: list[Message] | None = []

    @property
    def is_current(self) -> bool:
        """Whether nothing is missing."""
        return self._kept is None

    def suspend(self) -> None:
        """Something may have been missed: what comes now waits for the next roster."""
        self.version += 1
        if self._kept is None:
            self._kept = []

    def hear(self, message: Message) -> bool:
        """Take an announcement. Returns whether it is news, to be passed on now."""
        if self._kept is not None:
            self._kept.append(message)
            return False
        return self._apply(message) is not None

    def admit(self, member: Member) -> Change | None:
        """Take somebody who joins by this process. Returns what is news."""
        if member.user_id in self.members:
            return None
        self.members[member.user_id] = member.user_info
        return Change(member.user_id, member.user_info)

    def take(self, roster: Roster, *, is_complete: bool) -> Iterator[Change]:
        """
        Take what was read from Redis, then what was kept; to be iterated to its end.

        Args:
            roster: The members.
            is_complete: Whether who is not in it is gone.

        Returns:
            What is news.
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
        for message in kept or ():
            if change := self._apply(message):
                yield change

    def _apply(self, message: Message) -> Change | None:
        if message.seq <= self._seq:
            return None
        self._seq = message.seq
        change = _read_change(message)
        is_known = change.user_id in self.members
        if change.user_info is None:
            self.members.pop(change.user_id, None)
            return change if is_known else None
        self.members.setdefault(change.user_id, change.user_info)
        return None if is_known else change


class Rosters:
    """Reads the rosters of this process's presence channels, and tells what they bring."""

    def __init__(self, loop: Loop, link: CommandConnection, lease: Lease, topics: Topics) -> None:
        self._loop = loop
        self._link = link
        self._lease = lease
        self._topics = topics

    def ask(self, channel: Channel, roster: LiveRoster) -> None:
        """Read the roster of a presence channel whose topic is confirmed."""
        call = self._lease.presence.roster(channel.name)
        self._link.run(call, partial(self._answered, channel, roster, roster.version))

    def on_held(self) -> None:
        """Ask again for what the link could not answer."""
        for channel, roster in self._confirmed():
            if not roster.is_current:
                self.ask(channel, roster)

    def on_settled(self) -> None:
        """Find out who died while Redis was away: nobody else will ever tell of them."""
        for channel, roster in self._confirmed():
            roster.suspend()
            self.ask(channel, roster)

    def _confirmed(self) -> Iterator[tuple[Channel, LiveRoster]]:
        """The others are asked for when they are confirmed."""
        for topic in self._topics:
            for channel in topic.whole:
                if topic.is_confirmed and channel.roster is not None:
                    yield channel, channel.roster

    def _answered(self, channel: Channel, roster: LiveRoster, version: int, reply: Any) -> None:
        if isinstance(reply, ConnectionLost) or roster.version != version:
            return
        if isinstance(reply, Exception):
            if not self._lease.refused(reply):
                logger.warning("Redis refused the roster of %s: %s", channel.name, reply)
            self._loop.call_later(RETRY_AFTER, lambda: self.ask(channel, roster))
            return
        is_complete = self._lease.is_held and self._lease.is_settled
        for change in roster.take(read_roster(reply), is_complete=is_complete):
            channel.tell(change.frame(channel.name))


def _read_change(message: Message) -> Change:
    frame = json.loads(b"{%b}" % message.members)
    data = json.loads(frame["data"])
    has_come = frame["event"] == "pusher_internal:member_added"
    return Change(data["user_id"], encode(data["user_info"]) if has_come else None)
