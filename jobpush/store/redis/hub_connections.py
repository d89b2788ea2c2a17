"""The connections of a gateway's hub: to one primary, or to all primaries of a cluster."""

from __future__ import annotations

from collections.abc import Callable, Collection

from .async_connection import Loop
from .cluster_connections import ClusterCommands, ClusterPubSub, Routes
from .command_connection import CommandConnection
from .pubsub_connection import PubSubConnection
from .topology import Topology


def connect(
    loop: Loop,
    url: str,
    *,
    probe: str,
    on_up: Callable[[bool, bool], None],
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
        on_up: Called when a primary is connected: whether it holds the leases too, as a single one does, and whether it
            may lack data of its predecessor. For the primary with the leases, the lease renewal detects that.
        on_message: Gets the channel and the payload of each message.
        on_subscribed: Gets a channel when Redis has confirmed the subscription.
        on_down: Gets the channels with a lost subscription; ``None``: all.
    """
    if Topology.parse(url).is_cluster:
        routes = Routes(loop, url)
        return (
            ClusterCommands(routes, probe, on_up),
            ClusterPubSub(routes, probe, on_message, on_subscribed, on_down),
        )
    pubsub = PubSubConnection(
        loop, url, probe=probe, on_message=on_message, on_subscribed=on_subscribed, on_down=lambda: on_down(None)
    )
    commands = CommandConnection(
        loop,
        url,
        probe=probe,
        on_up=lambda: on_up(True, False),
        on_demoted=lambda: pubsub.reconnect("Redis is a replica now"),
    )
    return commands, pubsub
