"""Watchlists: connections that receive the online and offline events of chosen users."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from ...channels import watch_topic
from ...store.redis.command_connection import Commands, ConnectionLost
from ...store.replies import read_online
from ..connection import Connection
from ..loop import Loop
from ..topics import Topics
from .lease import RETRY_AFTER, Lease
from .watched import Newcomer, Watched

logger = logging.getLogger("jobpush.gateway")

#: Users in one query: well below a millisecond of Redis' time.
_USERS_AT_ONCE = 500


@dataclass(eq=False)
class Watchlists:
    """All watchlists of this process."""

    loop: Loop
    commands: Commands
    lease: Lease
    topics: Topics
    #: Users to query.
    _unknown: set[Watched] = field(default_factory=set, init=False)
    _ready: list[Newcomer] = field(default_factory=list, init=False)

    def watch(self, connection: Connection, user_ids: Iterable[str]) -> None:
        """Send a connection the presence of some users, and each change from then on."""
        wanted = [self.topics.watch(watch_topic(user_id), user_id) for user_id in user_ids]
        added = tuple(one for one in wanted if one not in connection.watched)
        if not added:
            return
        connection.watched += added
        newcomer = Newcomer(connection, added)
        for watched in added:
            watched.connections += 1
            if not watched.is_current:
                newcomer.missing += 1
                watched.waiting.append(newcomer)
                if watched.is_confirmed:
                    self._unknown.add(watched)
        if not newcomer.missing:
            self._ready.append(newcomer)

    def discard(self, connection: Connection) -> None:
        """Forget a connection."""
        watched, connection.watched = connection.watched, ()
        for one in watched:
            one.watchers.discard(connection)
            one.connections -= 1
            if not one.connections:
                self.topics.unwatch(one, self.loop.now)

    def receive(self, watched: Watched, members: bytes) -> None:
        """Apply an announcement of a user's presence; see ``online.lua``."""
        frame = json.loads(b"{%b}" % members)
        (event,) = json.loads(frame["data"])["events"]
        self._ready += watched.update(is_online=event["name"] == "online")

    def on_confirmed(self, watched: Watched) -> None:
        """Query the presence of a user with a confirmed topic."""
        watched.is_confirmed = True
        self._unknown.add(watched)

    def on_held(self) -> None:
        """Ask again for what got no answer."""
        self._unknown.update(watched for watched in self._confirmed() if not watched.is_current)

    def on_settled(self) -> None:
        """Find users of gateways that died while Redis was unreachable: no announcement arrives for them."""
        for watched in self._confirmed():
            watched.is_current = False
            self._unknown.add(watched)

    def finish(self) -> None:
        """Introduce the newcomers that became complete in this wake-up."""
        ready, self._ready = self._ready, []
        for newcomer in ready:
            newcomer.introduce()

    def flush(self) -> None:
        """Ask Redis for unknown presences, while the lease is held."""
        unknown, self._unknown = list(self._unknown), set()
        for start in range(0, len(unknown), _USERS_AT_ONCE):
            asked = unknown[start : start + _USERS_AT_ONCE]
            by_id = {one.user_id: one for one in asked}
            for command, user_ids in self.lease.presence.watched(by_id):
                self.commands.call(command, partial(self._answered, [by_id[user_id] for user_id in user_ids]))

    def _confirmed(self) -> Iterator[Watched]:
        for topic in self.topics:
            if topic.watched is not None and topic.is_confirmed:
                yield topic.watched

    def _answered(self, asked: Sequence[Watched], reply: Any) -> None:
        if isinstance(reply, ConnectionLost):
            return  # queried again once the lease is held
        if isinstance(reply, Exception):
            if not self.lease.refused(reply):
                logger.warning("Redis refused the presence of %d watched users: %s", len(asked), reply)
            self.loop.call_later(RETRY_AFTER, lambda: self._unknown.update(asked))
            return
        online = set(read_online([one.user_id for one in asked], reply))
        for watched in asked:
            if not watched.is_current:  # an announcement received meanwhile is at least as new
                # Until the lease is settled, the gateway of a user that was online may still report that again.
                may_come_back = watched.is_online and not (self.lease.is_held and self.lease.is_settled)
                self._ready += watched.update(is_online=watched.user_id in online or may_come_back)
