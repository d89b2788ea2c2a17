"""Watchlists: connections that want to hear which users come and go."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from ...channels import watch_topic
from ...protocol import messages
from ...store.redis.command_connection import CommandConnection, ConnectionLost
from ...store.replies import read_online
from ..loop import Loop
from .lease import RETRY_AFTER, Lease

if TYPE_CHECKING:
    from ..connection import Connection
    from ..topics import Topics, TopicState

logger = logging.getLogger("jobpush.gateway")

#: Users in one question to Redis: well below a millisecond of its time.
_USERS_AT_ONCE = 500


class Watched:
    """A user whom connections of this process watch."""

    __slots__ = ("connections", "is_current", "is_online", "topic", "user_id", "waiting", "watchers")

    def __init__(self, user_id: str, topic: TopicState) -> None:
        #: As it travels.
        self.user_id = user_id
        #: Where it is told that he comes or goes.
        self.topic = topic
        #: What the watchers have been told.
        self.is_online = False
        #: Whether that is so; unknown before Redis has answered, and when something may have been missed.
        self.is_current = False
        #: Those who have been told, and hear of each change.
        self.watchers: set[Connection] = set()
        #: Those who have not.
        self.waiting: list[_Newcomer] = []
        #: All of them.
        self.connections = 0


class _Newcomer:
    """A connection that is to be told once as much is known as it asks for."""

    __slots__ = ("connection", "missing", "watched")

    def __init__(self, connection: Connection, watched: Sequence[Watched]) -> None:
        self.connection = connection
        self.watched = watched
        self.missing = 0


class Watchlists:
    """All watchlists of this process."""

    def __init__(self, loop: Loop, link: CommandConnection, lease: Lease, topics: Topics) -> None:
        self._loop = loop
        self._link = link
        self._lease = lease
        self._topics = topics
        #: Users to be asked for.
        self._unknown: set[Watched] = set()
        self._ready: list[_Newcomer] = []

    def watch(self, connection: Connection, user_ids: Iterable[str]) -> None:
        """Tell a connection which of some users are online, and from then on who comes and goes."""
        wanted = [self._topics.watch(watch_topic(user_id), user_id) for user_id in user_ids]
        added = tuple(one for one in wanted if one not in connection.watched)
        if not added:
            return
        connection.watched += added
        newcomer = _Newcomer(connection, added)
        for watched in added:
            watched.connections += 1
            if not watched.is_current:
                newcomer.missing += 1
                watched.waiting.append(newcomer)
                if watched.topic.is_confirmed:
                    self._unknown.add(watched)
        if not newcomer.missing:
            self._ready.append(newcomer)

    def forget(self, connection: Connection) -> None:
        """A connection is gone."""
        watched, connection.watched = connection.watched, ()
        for one in watched:
            one.watchers.discard(connection)
            one.connections -= 1
            if not one.connections:
                self._topics.unwatch(one.topic, self._loop.now)

    def hear(self, watched: Watched, members: bytes) -> None:
        """It is told that a user has come or gone; see ``online.lua``."""
        frame = json.loads(b"{%b}" % members)
        (event,) = json.loads(frame["data"])["events"]
        self._learn(watched, event["name"] == "online")

    def on_confirmed(self, watched: Watched) -> None:
        """Nothing of a user is missed from now on."""
        self._unknown.add(watched)

    def on_held(self) -> None:
        """Ask again for what the link could not answer."""
        self._unknown.update(watched for watched in self._confirmed() if not watched.is_current)

    def on_settled(self) -> None:
        """Find out who died while Redis was away: nobody else will ever tell of them."""
        for watched in self._confirmed():
            watched.is_current = False
            self._unknown.add(watched)

    def finish(self) -> None:
        """Tell those of whose users the wake-up has brought the last."""
        ready, self._ready = self._ready, []
        for newcomer in ready:
            _introduce(newcomer)

    def flush(self) -> None:
        """Ask what is not known; while the lease is held."""
        unknown, self._unknown = list(self._unknown), set()
        for start in range(0, len(unknown), _USERS_AT_ONCE):
            asked = unknown[start : start + _USERS_AT_ONCE]
            command = self._lease.presence.watched([one.user_id for one in asked])
            self._link.call(command, partial(self._answered, asked))

    # -- inside --------------------------------------------------------------------------------------

    def _confirmed(self) -> Iterator[Watched]:
        for topic in self._topics:
            if topic.watched is not None and topic.is_confirmed:
                yield topic.watched

    def _answered(self, asked: Sequence[Watched], reply: Any) -> None:
        if isinstance(reply, ConnectionLost):
            return  # the next link asks again
        if isinstance(reply, Exception):
            if not self._lease.refused(reply):
                logger.warning("Redis does not tell who is online: %s", reply)
            self._loop.call_later(RETRY_AFTER, lambda: self._unknown.update(asked))
            return
        online = set(read_online([one.user_id for one in asked], reply))
        for watched in asked:
            if not watched.is_current:  # what was heard meanwhile is at least as new
                self._learn(watched, watched.user_id in online or self._may_come_back(watched))

    def _may_come_back(self, watched: Watched) -> bool:
        """Whether Redis may not know yet of a user who was online."""
        return watched.is_online and not (self._lease.is_held and self._lease.is_settled)

    def _learn(self, watched: Watched, is_online: bool) -> None:
        if is_online != watched.is_online:
            watched.is_online = is_online
            ids = (watched.user_id,)
            text = messages.watchlist_events(online=ids) if is_online else messages.watchlist_events(offline=ids)
            for connection in watched.watchers:
                connection.tell(text)
        watched.is_current = True
        waiting, watched.waiting = watched.waiting, []
        for newcomer in waiting:
            newcomer.missing -= 1
            if not newcomer.missing:
                self._ready.append(newcomer)


def _introduce(newcomer: _Newcomer) -> None:
    """Tell a connection how it stands."""
    connection = newcomer.connection
    if connection.is_closing:
        return
    online = [one.user_id for one in newcomer.watched if one.is_online]
    offline = [one.user_id for one in newcomer.watched if not one.is_online]
    connection.send(messages.watchlist_events(online=online, offline=offline))
    for watched in newcomer.watched:
        watched.watchers.add(connection)
