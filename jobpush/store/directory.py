"""
Queries over all gateways: online users, channels and members. Only statements of live gateways count.

User ids are the application's own here, not escaped. This client blocks.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from ..channels import Topic, escape_user_id, parse_channel, unescape_id, user_topic
from ..events import decode, encode
from ..tokens import LEEWAY, MAX_TTL
from .keys import BUCKETS, bucket_tags, tag_of
from .malformed import malformed
from .replies import read_member_id, read_revoked_at
from .store import Store

#: Names in one page: some milliseconds of Redis' time.
_PAGE = 1_000
#: Buckets read in one round trip.
_BUCKETS_AT_ONCE = 32


@dataclass(frozen=True, slots=True)
class CachedEvent:
    """The last event of a cache channel: its data, and for how many more seconds it is kept."""

    data: str
    ttl: int


@dataclass(frozen=True, slots=True)
class ChannelInfo:
    """
    The state of one channel.

    Args:
        subscription_count: Its subscribed connections.
        user_count: Members of a presence channel; 0 for others.
        cache: The event of a cache channel; ``None`` if there is none, and in lists.
    """

    subscription_count: int
    user_count: int
    cache: CachedEvent | None = None


class RedisDirectory:
    """
    Answers from Redis; each method raises :class:`~jobpush.errors.StoreError` if Redis does not answer.

    Args:
        store: The client that it uses.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._keys = store.keys

    # -- users ---------------------------------------------------------------------------------------

    def is_online(self, user_id: object) -> bool:
        """Return whether a user has a connection anywhere."""
        return self.user(user_id) > 0

    def user(self, user_id: object) -> int:
        """Return the number of a user's connections."""
        return self._count_connections([user_topic(user_id)])[0]

    def online_users(self, cursor: str | None = None, *, limit: int = _PAGE) -> tuple[list[str], str | None]:
        """
        Return a page of the online users.

        Args:
            cursor: From the last page; ``None``: the first page.
            limit: Users to examine; a page may have fewer, even none, although another page follows.

        Returns:
            Ids in a stable order, and the cursor of the next page; ``None``: this is the last one. A user that stays
            online appears once; one that comes or goes may be missing.
        """
        names = self._names(self._keys.users, "", cursor or "", limit)
        counts = self._count_connections([Topic(f"user:{name}") for name in names])
        users = [unescape_id(name) for name, count in zip(names, counts, strict=True) if count]
        return users, names[-1] if len(names) == limit else None

    def all_online_users(self) -> Iterator[str]:
        """Yield all online users, reading page by page."""
        cursor: str | None = None
        while True:
            users, cursor = self.online_users(cursor)
            yield from users
            if cursor is None:
                return

    def disconnect(self, user_id: object) -> int:
        """
        Close all connections of a user, with a code that keeps them from reconnecting, and revoke the user's tokens.

        Returns:
            The number of connections.
        """
        return self._end_rights(user_id, "disconnect")

    def sign_out(self, user_id: object) -> int:
        """
        End the rights of a user's connections, which stay open, and revoke the user's tokens.

        Returns:
            The number of connections.
        """
        return self._end_rights(user_id, "sign_out")

    def revoked_at(self, user_id: object) -> float | None:
        """Return since when connection tokens of a user are revoked, in Unix seconds; ``None`` if they are not."""
        (revoked_at,) = self._store.run([("GET", self._keys.revoked(user_topic(user_id)))])
        return None if revoked_at is None else read_revoked_at(revoked_at)

    def _end_rights(self, user_id: object, command: str) -> int:
        topic = user_topic(user_id)
        text = encode({"command": command, "user": escape_user_id(user_id)})
        revoke = ("SET", self._keys.revoked(topic), f"{time.time():.3f}", "EX", MAX_TTL + LEEWAY)
        read = ("HGETALL", self._keys.connections(topic))
        publish = ("PUBLISH", self._keys.topic(topic), f"- ! 0 1 -\n{text}")
        _, connections, _ = self._store.run([revoke, read, publish])
        return self._store.live_gateways(connections).count(connections)

    # -- channels ------------------------------------------------------------------------------------

    def users_in(self, channel: str) -> list[str]:
        """Return the ids of the members of a presence channel; other channels have none."""
        return [unescape_id(member_id) for member_id in self.member_ids(channel)]

    def member_ids(self, channel: str) -> list[str]:
        """Return the member ids as they are on the wire: an application may sign any text."""
        (members,) = self._store.run([("HGETALL", self._keys.members(parse_channel(channel).occupancy_topic))])
        live = self._store.live_gateways()
        fields = [field for field, stored in members.items() if live.hold(stored)]
        return malformed.read("members of presence channels", fields, read_member_id, channel)

    def channels(self, prefix: str = "") -> dict[str, ChannelInfo]:
        """
        Return the channels with subscribers and names that begin with ``prefix``, sorted by name.

        Channels of users (``#server-to-user-…``, ``private-user-…``) are not listed: read the online users.
        """
        found: dict[str, ChannelInfo] = {}
        cursor = ""
        while names := self._names(self._keys.channels, prefix, cursor, _PAGE):
            infos = zip(names, self._infos(names), strict=True)
            found |= {name: info for name, info in infos if info.subscription_count}
            cursor = names[-1]
        return dict(sorted(found.items()))

    def channel(self, name: str) -> ChannelInfo:
        """Return one channel, with or without subscribers."""
        (info,) = self._infos([name])
        if not parse_channel(name).is_cache:
            return info
        return ChannelInfo(info.subscription_count, info.user_count, self._cached(name))

    def _infos(self, names: Sequence[str]) -> list[ChannelInfo]:
        topics = [parse_channel(name).occupancy_topic for name in names]
        counts = zip(self._count_connections(topics), self._count_members(topics), strict=True)
        return [ChannelInfo(connections, users) for connections, users in counts]

    def _count_connections(self, topics: Sequence[Topic]) -> list[int]:
        connections = self._store.run([("HGETALL", self._keys.connections(topic)) for topic in topics])
        live = self._store.live_gateways(gateway for one in connections for gateway in one)
        return [live.count(one) for one in connections]

    def _count_members(self, topics: Sequence[Topic]) -> list[int]:
        keys, live = [self._keys.members(topic) for topic in topics], self._store.live_gateways()
        if not live.has_ghosts:  # the usual case; its cost does not depend on the number of members
            return [int(size) for size in self._store.run([("HLEN", key) for key in keys])]
        return [sum(map(live.hold, stored)) for stored in self._store.run([("HVALS", key) for key in keys])]

    def _cached(self, name: str) -> CachedEvent | None:
        key = self._keys.cache(parse_channel(name).occupancy_topic)
        message, ttl = self._store.run([("GET", key), ("TTL", key)])
        if message is None or ttl < 0:
            return None
        events = malformed.read("events of cache channels", [message], _read_data, key)
        return CachedEvent(events[0], ttl) if events else None

    def _names(self, index: Callable[[str], str], prefix: str, after: str, limit: int) -> list[str]:
        """
        Read names from the indexes of all buckets, in order of bucket and name.

        Names are ASCII, so ``\\xff`` follows each of them. The bucket of ``after`` is the first one.
        """
        tags, names = bucket_tags(), list[str]()
        start = tags.index(tag_of(after)) if after else 0
        first, last = f"[{prefix}", f"({prefix}".encode() + b"\xff"
        for first_bucket in range(start, BUCKETS, _BUCKETS_AT_ONCE):
            some = tags[first_bucket : first_bucket + _BUCKETS_AT_ONCE]
            commands = [("ZRANGEBYLEX", index(tag), first, last, "LIMIT", 0, limit) for tag in some]
            if after and first_bucket == start:
                commands[0] = ("ZRANGEBYLEX", index(tags[start]), f"({after}", last, "LIMIT", 0, limit)
            for tag, page in zip(some, self._store.run(commands), strict=True):
                found = _read_names(index(tag), tag, page)
                while len(page) == limit and len(found) < limit:  # some were malformed
                    more = ("ZRANGEBYLEX", index(tag), b"(" + page[-1], last, "LIMIT", 0, limit)
                    (page,) = self._store.run([more])
                    found += _read_names(index(tag), tag, page)
                names += found
            if len(names) >= limit:
                break
        return names[:limit]


def _read_names(key: str, tag: str, names: Sequence[bytes]) -> list[str]:
    """Read the names of a bucket; another program's would lead the cursor astray."""

    def read(stored: bytes) -> str:
        name = stored.decode("ascii")
        if tag_of(name) != tag:
            raise ValueError(f"{name!r} does not belong in this bucket")
        return name

    return malformed.read("names in indexes", names, read, key)


def _read_data(message: bytes) -> str:
    _, _, members = message.partition(b"\n")
    return str(decode(b"{" + members + b"}")["data"])
