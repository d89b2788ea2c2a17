"""Users on the watchlists of this process's connections; pure data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ...channels import Topic
from ...protocol import messages
from ..broadcast import Listener


@dataclass(eq=False, slots=True)
class Watched:
    """
    A user watched by connections of this process.

    Args:
        user_id: Escaped id.
        topic: The topic that announces the user's presence.
    """

    user_id: str
    topic: Topic
    #: Whether Redis has confirmed the subscription to the topic.
    is_confirmed: bool = False
    #: The presence last sent to the watchers.
    is_online: bool = False
    #: Whether that is current: not before the reply of Redis, nor after a broken subscription.
    is_current: bool = False
    #: Connections that have the presence and receive each change.
    watchers: set[Listener] = field(default_factory=set)
    #: Connections that do not have it yet.
    waiting: list[Newcomer] = field(default_factory=list)
    #: Number of both.
    connections: int = 0

    def update(self, *, is_online: bool) -> list[Newcomer]:
        """Store the presence and send a change to the watchers. Return the newcomers that are now complete."""
        if is_online != self.is_online:
            self.is_online = is_online
            ids = (self.user_id,)
            text = messages.watchlist_events(online=ids) if is_online else messages.watchlist_events(offline=ids)
            for watcher in self.watchers:
                watcher.send_bounded(text)
        self.is_current = True
        waiting, self.waiting = self.waiting, []
        for newcomer in waiting:
            newcomer.missing -= 1
        return [newcomer for newcomer in waiting if not newcomer.missing]


@dataclass(eq=False, slots=True)
class Newcomer:
    """A connection that gets one message once the presence of all users on its list is known."""

    listener: Listener
    watched: Sequence[Watched]
    #: Users of unknown presence.
    missing: int = 0

    def introduce(self) -> None:
        """Send the presence of all users on the list, and receive changes from now on."""
        if self.listener.is_closing:
            return
        online = [one.user_id for one in self.watched if one.is_online]
        offline = [one.user_id for one in self.watched if not one.is_online]
        self.listener.send(messages.watchlist_events(online=online, offline=offline))
        for watched in self.watched:
            watched.watchers.add(self.listener)
