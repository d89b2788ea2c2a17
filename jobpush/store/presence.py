"""
Statements of a gateway about its connections, as calls for any client.

A gateway's statements are absolute and may be repeated: how many of its connections are subscribed to a topic
(:meth:`Presence.occupy`), and which users are members of a presence channel through it (:meth:`Presence.join`,
:meth:`Presence.leave`). The scripts detect the first arrival and the last departure over all gateways, and publish them
in the same step:

- ``member_added``, ``member_removed`` and ``subscription_count`` to the channel, ``watchlist_events`` to the topic of a
  user's watchers (:func:`jobpush.channels.watch_topic`);
- the same and ``channel_occupied``, ``channel_vacated``, ``user_online`` and ``user_offline`` to webhooks. The last two
  are jobpush's own, ``{"name": "user_online", "user_id": "42"}``: Pusher has no webhook for users coming online or
  going offline. Ids in webhooks are those of the wire, see :func:`jobpush.channels.escape_id`.

Statements count while the gateway holds a lease. When it ends, one elected gateway (:meth:`Presence.find_dead`) buries
the dead one in each bucket (:meth:`Presence.bury`): its statements there are refused from then on, and those that stand
are retracted (:meth:`Presence.retract`). A gateway that stops in good order retracts what other gateways state as well,
and keeps the rest for ``Config.grace``, for connections that come back elsewhere. An expired lease cannot be renewed:
the gateway takes a new id and repeats all its statements.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache

from ..channels import Topic, parse_channel
from ..config import Config
from ..events import encode
from .keys import BUCKETS, LAYOUT, Keys, tag_of
from .scripts import (
    BURY,
    FIND_DEAD,
    FORGET_DEAD,
    JOIN,
    LEAVE,
    OCCUPY,
    ONLINE,
    PUBLISH_WEBHOOK_EVENTS,
    RENEW,
    RETRACT,
    ROSTER,
    Call,
    Command,
    Script,
    Word,
)

#: Seconds that the empty history of a public channel is kept for clients that lost their connection: any client can
#: name such a channel. Histories of users and of private channels are kept for ``Config.history_ttl``.
_PUBLIC_HISTORY_LEFT = 20
#: Reply of :meth:`Presence.join`, and first part of that of :meth:`Presence.occupy`: the lease has ended.
NO_LEASE = -1
#: Reply of :meth:`Presence.join`: the channel is full.
FULL = -2

#: Claims in one :meth:`Presence.retract`: a few milliseconds of Redis' time.
_CLAIMS_AT_ONCE = 200
#: Seconds that the statements of a dead gateway are refused.
_TOMBSTONE_TTL = 3_600


class Presence:
    """
    The calls of one gateway.

    Args:
        config: Prefix, lease, and what to publish.
        gateway_id: Letters, digits and dashes; never used before. All user ids here are those of the wire.
    """

    def __init__(self, config: Config, gateway_id: str) -> None:
        self.gateway_id = gateway_id
        self._config = config
        self._keys = Keys.of(config)
        self._has_webhooks = int(bool(config.webhook_urls))
        self._bucket_keys = lru_cache(maxsize=BUCKETS)(self._make_bucket_keys)

    # -- the lease -----------------------------------------------------------------------------------

    def renew(self, epoch: str = "", *, seconds: float | None = None) -> Call:
        """
        Begin or renew the lease: before anything else, then three times per lease.

        Args:
            epoch: From the reply to the last call; empty in the first call.
            seconds: Length of the lease; ``None``: as configured. A gateway that shuts down asks for ``Config.grace``:
                by then its clients have reconnected to another gateway, and nothing is published.

        Returns:
            A call for :func:`~jobpush.store.replies.read_renewal`.
        """
        return RENEW(
            (self._keys.gateways, self._keys.epoch, self._keys.layout),
            gateway_id=self.gateway_id,
            seconds=self._config.lease if seconds is None else seconds,
            known_epoch=epoch,
            layout=str(LAYOUT),
        )

    # -- dead gateways -------------------------------------------------------------------------------

    def find_dead(self, milliseconds: int | None = None) -> Call:
        """Return a call that gives the ids of dead gateways if this gateway is or becomes the elected reaper."""
        milliseconds = int(self._config.lease * 1000) if milliseconds is None else milliseconds
        return FIND_DEAD(
            (self._keys.gateways, self._keys.reaper), gateway_id=self.gateway_id, milliseconds=milliseconds
        )

    def resign(self) -> Call:
        """Let another gateway become the reaper, if this one is."""
        return self.find_dead(milliseconds=1)

    def bury(self, gateway_id: str, tag: str) -> Call:
        """
        Refuse the statements of a dead gateway in one of the :func:`~jobpush.store.keys.bucket_tags`.

        Returns:
            A call that gives some claims to retract. Repeat it until there are none.
        """
        names = self._keys.claims(tag, gateway_id), self._keys.tombstone(tag, gateway_id)
        return BURY(names, limit=_CLAIMS_AT_ONCE, ttl=_TOMBSTONE_TTL)

    def retract(self, gateway_id: str, tag: str, claims: Sequence[str | bytes], *, keeps_last: bool = False) -> Call:
        """
        Retract statements of a gateway in one bucket.

        Args:
            gateway_id: A dead gateway, or this one.
            tag: Of the bucket.
            claims: As :meth:`bury` gives them.
            keeps_last: Keep claims that no other gateway makes.

        Returns:
            A call that gives the number of the claims that were kept.
        """
        keys = self._keys
        return RETRACT(
            (*self._bucket_keys(gateway_id, tag), keys.channels(tag), keys.users(tag)),
            claims,
            gateway_id=gateway_id,
            has_webhooks=self._has_webhooks,
            base=keys.bucket(tag),
            database=keys.database,
            keeps_last=int(keeps_last),
            counts_subscriptions=int(self._config.subscription_count),
            history_ttl=self._config.history_ttl,
            public_history_left=_PUBLIC_HISTORY_LEFT,
        )

    def retract_shared(self, statements: Iterable[tuple[Topic, str | None]]) -> list[Call]:
        """Retract what other gateways state as well: topics, and user ids of members. Each call has one bucket."""
        by_tag: dict[str, list[str]] = {}
        for topic, user_id in statements:
            claim = topic if user_id is None else f"{topic} {_inside_json(user_id)}"
            by_tag.setdefault(tag_of(topic.partition(":")[2]), []).append(claim)
        return [
            self.retract(self.gateway_id, tag, claims[start : start + _CLAIMS_AT_ONCE], keeps_last=True)
            for tag, claims in by_tag.items()
            for start in range(0, len(claims), _CLAIMS_AT_ONCE)
        ]

    def drop_claims(self, gateway_id: str, tag: str, claims: Iterable[bytes]) -> Command:
        """Remove claims without retracting them."""
        return "SREM", self._keys.claims(tag, gateway_id), *claims

    def forget_dead(self, gateway_id: str) -> Call:
        """Forget a dead gateway that has no claims left in any bucket."""
        return FORGET_DEAD([self._keys.gateways], holder=gateway_id)

    # -- connections ---------------------------------------------------------------------------------

    def occupy(
        self,
        topic: Topic,
        connections: int,
        *,
        subscribed: int | None = None,
        is_quiet: bool = False,
        is_lost: bool = False,
    ) -> Call:
        """
        Set how many connections of this gateway a topic has.

        Args:
            topic: A :attr:`jobpush.channels.ChannelKind.occupancy_topic`. A user's topic counts the user's connections.
            connections: All of them, not the difference.
            subscribed: For a user's topic: those subscribed to the user's channel; ``None``: all.
            is_quiet: Publish nothing, because this only restores data that Redis has lost.
            is_lost: Whether the last connection was lost, so that its client may reconnect and resume.

        Returns:
            A call that gives ``[total, wait]``: the connections of all gateways, and the milliseconds after which to
            repeat the call if the subscription count was published recently, otherwise 0. ``[NO_LEASE, 0]`` if the
            lease has ended.
        """
        keys, (kind, _, name) = self._keys, topic.partition(":")
        tag = tag_of(name)
        names = self._bucket_keys(self.gateway_id, tag)
        if kind == "user":
            return ONLINE(
                (*names, *keys.of_online(tag, name)),
                **self._statement(topic),
                user_id=name,
                count=connections,
                subscribed=connections if subscribed is None else subscribed,
                is_quiet=int(is_quiet),
                history_left=self._config.history_ttl if is_lost else 0,
            )
        is_public = not parse_channel(name).is_private
        history_left = _PUBLIC_HISTORY_LEFT if is_public else self._config.history_ttl
        return OCCUPY(
            (*names, *keys.of_occupancy(tag, name)),
            **self._statement(topic),
            channel=name,
            count=connections,
            is_quiet=int(is_quiet),
            is_counted=int(self._config.subscription_count and not parse_channel(name).is_presence),
            history_left=history_left if is_lost else 0,
        )

    # -- members -------------------------------------------------------------------------------------

    def join(self, channel: str, user_id: str, user_info: str, *, is_quiet: bool = False, is_new: bool = False) -> Call:
        """
        Make a user a member of a presence channel, at least once for all the user's connections here.

        Args:
            channel: Name of the channel.
            user_id: Any text.
            user_info: JSON text as :func:`jobpush.events.encode` writes it; the one of the first connection stays.
            is_quiet: As in :meth:`occupy`.
            is_new: Whether ``Config.max_members`` applies; not for a user that was admitted before.

        Returns:
            A call that gives 1 for a new member, 0 for a known one, :data:`NO_LEASE` if the lease has ended,
            :data:`FULL` if there is no room.
        """
        max_members = self._config.max_members if is_new else 0
        return self._member_call(
            JOIN, channel, user_id, user_info=user_info, is_quiet=int(is_quiet), max_members=max_members
        )

    def leave(self, channel: str, user_id: str) -> Call:
        """
        Withdraw a member without connections here.

        Returns:
            A call that gives 1 if the user is no longer a member through any gateway, otherwise 0.
        """
        return self._member_call(LEAVE, channel, user_id)

    def roster(self, channel: str) -> Call:
        """Read all members of a presence channel: a call for :func:`~jobpush.store.replies.read_roster`."""
        topic = parse_channel(channel).occupancy_topic
        return ROSTER((self._keys.members(topic), self._keys.members_seq(topic)))

    def _make_bucket_keys(self, gateway_id: str, tag: str) -> tuple[str, str, str]:
        keys = self._keys
        claims = keys.claims(tag, gateway_id)
        return claims, keys.tombstone(tag, gateway_id), keys.webhook_source(tag) if self._has_webhooks else claims

    def _statement(self, topic: Topic) -> dict[str, Word]:
        return {"gateway_id": self.gateway_id, "topic": topic, "has_webhooks": self._has_webhooks}

    def _member_call(self, script: Script, channel: str, user_id: str, **arguments: Word) -> Call:
        keys, topic = self._keys, parse_channel(channel).occupancy_topic
        names = keys.members(topic), keys.topic(topic), keys.members_seq(topic)
        arguments |= {**self._statement(topic), "channel": channel, "user_id": _inside_json(user_id)}
        return script((*self._bucket_keys(self.gateway_id, tag_of(topic.partition(":")[2])), *names), **arguments)

    # -- watchlists and webhooks ---------------------------------------------------------------------

    def watched(self, user_ids: Iterable[str]) -> list[tuple[Command, list[str]]]:
        """Return commands for :func:`~jobpush.store.replies.read_online`, each with the users it covers."""
        by_tag: dict[str, list[str]] = {}
        for user_id in user_ids:
            by_tag.setdefault(tag_of(user_id), []).append(user_id)
        return [(("ZMSCORE", self._keys.users(tag), *ids), ids) for tag, ids in by_tag.items()]

    def client_event(
        self, channel: str, event: str, data: str | None, socket_id: str, user_id: str | None = None
    ) -> Call | None:
        """
        Send a client event to webhooks; ``None`` if there are none.

        Args: as of :class:`jobpush.protocol.actions.ClientEvent`, ``data`` is a JSON string with its quotes.
        """
        members = {"name": "client_event", "channel": channel, "event": event, "socket_id": socket_id}
        if user_id is not None:
            members["user_id"] = user_id
        text = encode(members) if data is None else f'{encode(members)[:-1]},"data":{data}}}'
        return self._webhook(channel, text)

    def cache_miss(self, channel: str) -> Call | None:
        """Report to webhooks that a cache channel has no event; ``None`` if there are none."""
        return self._webhook(channel, encode({"name": "cache_miss", "channel": channel}))

    def _webhook(self, channel: str, event: str) -> Call | None:
        if not self._has_webhooks:
            return None
        return PUBLISH_WEBHOOK_EVENTS([self._keys.webhook_source(tag_of(channel))], event=event, has_webhooks=1)


def _inside_json(user_id: str) -> str:
    """Return a user id as it stands between the quotes of a JSON string."""
    return encode(user_id)[1:-1]
