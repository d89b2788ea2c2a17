"""The connections of a gateway's hub: to one primary, or to all primaries of a cluster."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Protocol

from .async_connection import Loop
from .cluster_connections import ClusterCommands, ClusterPubSub, Routes
from .command_connection import CommandConnection
from .pubsub_connection import PubSubConnection
from .topology import Topology


class OnUp(Protocol):
    """Callback for a connected primary."""

    def __call__(self, *, holds_leases: bool, has_lost_data: bool) -> None:
        """
        Args:
            holds_leases: Whether it holds the leases too; a single one does.
            has_lost_data: Whether it may lack data of its predecessor. For the primary with the leases, the lease
                renewal detects that.
        """


def connect(
    loop: Loop,
    url: str,
    *,
    probe: str,
    on_up: OnUp,
    on_message: Callable[[bytes, bytes], None],
    on_subscribed: Callable[[bytes], None],
    on_down: Callable[[Collection[bytes] | None], None],
) -> tuple[CommandConnection | ClusterCommands, PubSubConnection | ClusterPubSub]:
    """
    Return the connections, which are not started yet.

    Args:
        loop: The event loop.
        url: As :class:`Topology` reads it.
        probe: Channel for the check of rights; it has the tag of the leases.
        on_up: Called when a primary is connected.
        on_message: Gets the channel and the payload of each message.
        on_subscribed: Gets a channel when Redis has confirmed the subscription.
        on_down: Gets the channels with a lost subscription; ``None``: all.
    """
    if Topology.parse(url).is_cluster:
        routes = Routes(loop, url)

        def on_shard_up(holds: Callable[[str], bool], has_lost_data: bool) -> None:
            on_up(holds_leases=holds(probe), has_lost_data=has_lost_data)

        return ClusterCommands(routes, loop, url, probe=probe, on_up=on_shard_up), ClusterPubSub(
            routes, loop, url, probe=probe, on_message=on_message, on_subscribed=on_subscribed, on_down=on_down
        )
    pubsub = PubSubConnection(
        loop, url, probe=probe, on_message=on_message, on_subscribed=on_subscribed, on_down=lambda: on_down(None)
    )
    commands = CommandConnection(
        loop,
        url,
        probe=probe,
        on_up=lambda: on_up(holds_leases=True, has_lost_data=False),
        on_demoted=lambda: pubsub.reconnect("Redis is a replica now"),
    )
    return commands, pubsub
