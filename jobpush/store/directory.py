"""
Questions about who is there, over all gateways; only those that live count, whether or not the others are reaped yet.

User ids are the application's own here, not escaped. This client blocks.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ..channels import Topic, escape_user_id, parse_channel, unescape_id, user_topic
from ..events import encode
from ..tokens import LEEWAY, MAX_TTL
from .keys import Keys
from .live_gateways import LiveGateways, ask_live_gateways, read_live_gateways
from .replies import read_member_id
from .scripts import Command
from .store import Store

#: Names that are read at once: some milliseconds of Redis's time.
_PAGE = 1_000


@dataclass(frozen=True, slots=True)
class CachedEvent:
    """The last event of a cache channel: its data, and the whole seconds that it is kept yet."""

    data: str
    ttl: int


@dataclass(frozen=True, slots=True)
class ChannelInfo:
    """
    The state of one channel.

    Args:
        subscription_count: Connections that have joined it.
        user_count: Members, of presence channels; 0 elsewhere.
        cache: Of cache channels; ``None`` if nothing is kept. Not told in lists.
    """

    subscription_count: int
    user_count: int
    cache: CachedEvent | None = None


class RedisDirectory:
    """
    Answers from Redis; each method raises :class:`~jobpush.errors.StoreError` if there is none.

    Args:
        store: Whose connections are used.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    @property
    def _keys(self) -> Keys:
        return self._store.keys

    # -- users ---------------------------------------------------------------------------------------

    def is_online(self, user_id: object) -> bool:
        """Whether a user has a connection anywhere."""
        return self.user(user_id) > 0

    def user(self, user_id: object) -> int:
        """How many connections a user has."""
        live, (connections,) = self._ask_with_live(("HGETALL", self._keys.connections(user_topic(user_id))))
        return live.count(connections)

    def online_users(self, cursor: str | None = None, *, limit: int = _PAGE) -> tuple[list[str], str | None]:
        """
        A page of the users who are online.

        Args:
            cursor: Of the page before; ``None``: the first page.
            limit: Users to look at; a page may hold fewer, even none, and still have a next one.

        Returns:
            Ids in a stable order, and the cursor of the next page; ``None``: this is the last one. Who comes or goes
            meanwhile may be in it or not; who stays is in it once.
        """
        names = self._names(self._keys.users, "", cursor, limit)
        topics = [Topic(f"user:{name}") for name in names]
        live, counts = self._ask_with_live(*(("HGETALL", self._keys.connections(topic)) for topic in topics))
        users = [unescape_id(name) for name, count in zip(names, counts, strict=True) if live.count(count)]
        return users, names[-1] if len(names) == limit else None

    def all_online_users(self) -> Iterator[str]:
        """All of them, read page by page."""
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
        (revoked_at,) = self._store.run(commands=[("GET", self._keys.revoked(user_topic(user_id)))])
        return None if revoked_at is None else float(revoked_at)

    def _end_rights(self, user_id: object, command: str) -> int:
        topic = user_topic(user_id)
        text = encode({"command": command, "user": escape_user_id(user_id)})
        live, (_, connections, _) = self._ask_with_live(
            ("SET", self._keys.revoked(topic), f"{time.time():.3f}", "EX", MAX_TTL + LEEWAY),
            ("HGETALL", self._keys.connections(topic)),
            ("PUBLISH", self._keys.topic(topic), f"- ! 0 1 -\n{text}"),
        )
        return live.count(connections)

    # -- channels ------------------------------------------------------------------------------------

    def users_in(self, channel: str) -> list[str]:
        """Ids of the members of a presence channel; other channels have none."""
        return [unescape_id(member_id) for member_id in self.member_ids(channel)]

    def member_ids(self, channel: str) -> list[str]:
        """The same as the channel itself tells them; who signs for it may have given any text."""
        live, (members,) = self._ask_with_live(("HGETALL", self._keys.members(parse_channel(channel).occupancy_topic)))
        return [read_member_id(field) for field, stored in members.items() if live.hold(stored)]

    def channels(self, prefix: str = "") -> dict[str, ChannelInfo]:
        """
        The channels that somebody has joined and whose names begin with ``prefix``, in the order of their names.

        Channels of users (``#server-to-user-…``, ``private-user-…``) are not listed: ask for who is online.
        """
        found: dict[str, ChannelInfo] = {}
        cursor: str | None = None
        while names := self._names(self._keys.channels, prefix, cursor, _PAGE):
            found |= {
                name: info for name, info in zip(names, self._infos(names), strict=True) if info.subscription_count
            }
            cursor = names[-1]
        return found

    def channel(self, name: str) -> ChannelInfo:
        """One channel, whether somebody has joined it or not."""
        (info,) = self._infos([name])
        if not parse_channel(name).is_cache:
            return info
        return ChannelInfo(info.subscription_count, info.user_count, self._cached(name))

    def _infos(self, names: Sequence[str]) -> list[ChannelInfo]:
        keys, topics = self._keys, [parse_channel(name).occupancy_topic for name in names]
        live, connections = self._ask_with_live(*(("HGETALL", keys.connections(topic)) for topic in topics))
        users = self._count_members(topics, live)
        return [ChannelInfo(live.count(one), count) for one, count in zip(connections, users, strict=True)]

    def _count_members(self, topics: Sequence[Topic], live: LiveGateways) -> list[int]:
        keys = [self._keys.members(topic) for topic in topics]
        if not live.has_ghosts:  # nearly always, and it costs the same however many there are
            return [int(size) for size in self._store.run(commands=[("HLEN", key) for key in keys])]
        members = self._store.run(commands=[("HVALS", key) for key in keys])
        return [sum(map(live.hold, stored)) for stored in members]

    def _cached(self, name: str) -> CachedEvent | None:
        key = self._keys.cache(parse_channel(name).occupancy_topic)
        message, ttl = self._store.run(commands=[("GET", key), ("TTL", key)])
        if message is None or ttl < 0:
            return None
        members = json.loads(b"{" + message.partition(b"\n")[2] + b"}")
        return CachedEvent(members["data"], ttl)

    # -- shared --------------------------------------------------------------------------------------

    def _ask_with_live(self, *commands: Command) -> tuple[LiveGateways, list[Any]]:
        """The gateways that live, and the replies to some commands, in one round trip."""
        live, *replies = self._store.run([ask_live_gateways(self._keys)], commands)
        return read_live_gateways(live), replies

    def _names(self, index: str, prefix: str, after: str | None, limit: int) -> list[str]:
        """Names of an index, in their order; all are ASCII, so ``\\xff`` is behind each of them."""
        first = f"[{prefix}" if after is None else f"({after}"
        (names,) = self._store.run(
            commands=[("ZRANGEBYLEX", index, first, f"({prefix}".encode() + b"\xff", "LIMIT", 0, limit)]
        )
        return [name.decode() for name in names]
