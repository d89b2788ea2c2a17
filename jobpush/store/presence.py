"""
Who is there: what a gateway says about its connections, as calls for whichever client is to send them.

A gateway says absolute things, each as often as it likes: how many of its connections hear a topic
(:meth:`Presence.occupy`), and who is a member of a presence channel by it (:meth:`Presence.join`,
:meth:`Presence.leave`). The scripts find out who is first and last over all gateways, and tell it in the same step:

- ``member_added``, ``member_removed`` and ``subscription_count`` to the channel, ``watchlist_events`` to the topic of
  those who watch a user (:func:`watch_topic`);
- the same and ``channel_occupied``, ``channel_vacated``, ``user_online`` and ``user_offline`` to webhooks. The last two
  are ours, ``{"name": "user_online", "user_id": "42"}``: Pusher has no webhook for a user who comes or goes. Ids in
  webhooks are those of the wire, see :func:`jobpush.channels.escape_id`.

All this counts while the gateway holds a lease. When it has ended, any other gateway takes back what was said
(:meth:`Presence.reap`, :meth:`Presence.retractions`), with the announcements of a user who leaves. A lease that has
ended does not come back: the gateway goes on under a new id, and says all that is true anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ..channels import Topic, parse_channel, watch_topic
from ..config import Config
from ..events import encode
from .keys import Keys
from .scripts import Call, Command, Script, load

#: Reply of :meth:`Presence.join`, and first part of that of :meth:`Presence.occupy`: nothing was done, for the lease
#: of the gateway has ended.
NO_LEASE = -1
#: Reply of :meth:`Presence.join`: the channel has as many members as it may.
FULL = -2

#: Claims of a dead gateway that one :meth:`Presence.reap` finds: a few milliseconds of Redis's time to take back.
_CLAIMS_AT_ONCE = 200
_CHANNEL = "channel:"


class Presence:
    """
    The calls of one gateway.

    Args:
        config: Prefix, lease, and what is to be told.
        gateway_id: Letters, digits and dashes; never used before. All user ids here are those of the wire.
    """

    def __init__(self, config: Config, gateway_id: str) -> None:
        self.gateway_id = gateway_id
        self._config = config
        self._keys = Keys(config.prefix)
        self._webhooks = self._keys.webhooks if config.webhook_urls else ""

    @property
    def scripts(self) -> Sequence[Script]:
        """The scripts that are called."""
        return tuple(
            map(_script, ("renew", "occupy", "online", "join", "leave", "roster", "reap", "publish_webhook_events"))
        )

    # -- the lease -----------------------------------------------------------------------------------

    def renew(self, epoch: str = "", *, seconds: float | None = None) -> Call:
        """
        Begin the lease, or renew it; before all else, then three times as often as it ends.

        Args:
            epoch: As the reply to the first call told it; empty in the first call.
            seconds: How long it is to last; ``None``: as configured. A gateway that is stopped in good order asks for
                ``Config.grace``: by then those who come back are there by another one, and nobody hears of it.

        Returns:
            A call for :func:`~jobpush.store.replies.read_renewal`.
        """
        arguments = (self.gateway_id, self._config.lease if seconds is None else seconds, epoch)
        return Call(_script("renew"), (self._keys.gateways, self._keys.epoch), arguments)

    def reap(self) -> Call:
        """
        Look for gateways that died.

        Returns:
            A call for :meth:`retractions`. Once these have been made, call again until there are none.
        """
        return Call(_script("reap"), (self._keys.gateways,), (self._keys.claims_prefix, _CLAIMS_AT_ONCE))

    def retractions(self, reply: Sequence[Any]) -> Iterator[Call]:
        """The calls that take back what :meth:`reap` has found; several gateways may make the same ones at once."""
        for gateway, claims in reply:
            gateway_id = gateway.decode()
            for claim in claims:
                topic, _, member = claim.decode().partition(" ")
                if member:
                    yield self._leave(gateway_id, Topic(topic), member)
                else:
                    yield self._occupy(gateway_id, Topic(topic), 0)

    # -- connections ---------------------------------------------------------------------------------

    def occupy(self, topic: Topic, connections: int, *, is_quiet: bool = False) -> Call:
        """
        Say how many connections of this gateway a topic has; 0 if none is left.

        Args:
            topic: As :attr:`jobpush.channels.ChannelKind.occupancy_topic` gives it. A user's topic counts the
                connections of that user.
            connections: All of them, not the difference.
            is_quiet: Tell nobody: Redis has lost data, and this is no news.

        Returns:
            A call that gives ``[total, wait]``: the connections of all gateways; and unless it is 0, the milliseconds
            after which to make the call again, for the subscription count was told a moment ago. ``[NO_LEASE, 0]``
            if the lease has ended.
        """
        return self._occupy(self.gateway_id, topic, connections, is_quiet=is_quiet)

    def _occupy(self, gateway_id: str, topic: Topic, connections: int, *, is_quiet: bool = False) -> Call:
        keys = self._keys
        kind, _, name = topic.partition(":")
        arguments = (gateway_id, topic, connections, int(is_quiet), name)
        names = [keys.connections(topic), keys.claims(gateway_id), keys.gateways, self._webhooks]
        if kind == "user":
            return Call(_script("online"), [*names, keys.users, keys.topic(watch_topic(name))], arguments)
        is_counted = self._config.subscription_count and not parse_channel(name).is_presence
        names += keys.channels, keys.topic(topic), keys.count_told(topic) if is_counted else ""
        return Call(_script("occupy"), names, arguments)

    # -- members -------------------------------------------------------------------------------------

    def join(
        self,
        channel: str,
        user_id: str,
        user_info: str,
        *,
        socket_id: str = "-",
        is_quiet: bool = False,
        is_new: bool = False,
    ) -> Call:
        """
        Say that a user is a member of a presence channel; once for all his connections here, or more often.

        Args:
            channel: Name of the channel.
            user_id: Any text.
            user_info: JSON text as :func:`jobpush.events.encode` writes it; of the first connection, it stays.
            socket_id: The connection that is not to hear of it, since it gets the roster.
            is_quiet: As in :meth:`occupy`.
            is_new: Whether ``Config.max_members`` counts; not for who was let in before.

        Returns:
            A call that gives 1 if he is new to the channel, 0 if not, :data:`NO_LEASE` if the lease has ended,
            :data:`FULL` if there is no place.
        """
        topic = parse_channel(channel).occupancy_topic
        names = (*self._member_keys(self.gateway_id, topic), self._keys.gateways)
        limit = self._config.max_members if is_new else 0
        told = (int(is_quiet), socket_id)
        arguments = (self.gateway_id, topic, channel, _inside_json(user_id), user_info, *told, limit)
        return Call(_script("join"), names, arguments)

    def leave(self, channel: str, user_id: str) -> Call:
        """
        Say that no connection here makes a user a member any more.

        Returns:
            A call that gives 1 if he is no member by any gateway now, else 0.
        """
        return self._leave(self.gateway_id, parse_channel(channel).occupancy_topic, _inside_json(user_id))

    def _leave(self, gateway_id: str, topic: Topic, member: str) -> Call:
        arguments = (gateway_id, topic, topic.removeprefix(_CHANNEL), member)
        return Call(_script("leave"), self._member_keys(gateway_id, topic), arguments)

    def _member_keys(self, gateway_id: str, topic: Topic) -> tuple[str, ...]:
        keys = self._keys
        announced = (keys.topic(topic), keys.members_seq(topic), self._webhooks)
        return (keys.members(topic), keys.claims(gateway_id), *announced)

    def roster(self, channel: str) -> Call:
        """Ask for all members of a presence channel: a call for :func:`~jobpush.store.replies.read_roster`."""
        topic = parse_channel(channel).occupancy_topic
        return Call(_script("roster"), (self._keys.members(topic), self._keys.members_seq(topic)), ())

    # -- watchlists and webhooks ---------------------------------------------------------------------

    def watched(self, user_ids: Sequence[str]) -> Command:
        """Ask which of some users are online: a command for :func:`~jobpush.store.replies.read_online`."""
        return "ZMSCORE", self._keys.users, *user_ids

    def client_event(
        self, channel: str, event: str, data: str | None, socket_id: str, user_id: str | None = None
    ) -> Call | None:
        """
        Tell webhooks of a client event; ``None`` if there are none.

        Args: as of :class:`jobpush.protocol.actions.ClientEvent`, ``data`` is a JSON string with its quotes.
        """
        members = {"name": "client_event", "channel": channel, "event": event, "socket_id": socket_id}
        if user_id is not None:
            members["user_id"] = user_id
        text = encode(members) if data is None else f'{encode(members)[:-1]},"data":{data}}}'
        return self._webhook(text)

    def cache_miss(self, channel: str) -> Call | None:
        """Tell webhooks that a cache channel had nothing to show; ``None`` if there are none."""
        return self._webhook(encode({"name": "cache_miss", "channel": channel}))

    def _webhook(self, event: str) -> Call | None:
        return Call(_script("publish_webhook_events"), (self._webhooks,), (event,)) if self._webhooks else None


def _script(name: str) -> Script:
    return load("presence", name)


def _inside_json(user_id: str) -> str:
    """A user id as it stands between the quotes of a JSON string; ids of Pusher's alphabet are the same."""
    return encode(user_id)[1:-1]
