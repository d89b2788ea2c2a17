"""The kinds of webhook events, and where each is made. Add a new kind here, at its place, and to ``docs/reference``."""

from __future__ import annotations

#: Source of all but the last two: Pusher Channels, "Webhooks".
KINDS = {
    "channel_occupied": "A channel gets its first connection: ``occupy`` in store/lua/connections.lua.",
    "channel_vacated": "A channel loses its last connection: ``occupy`` in store/lua/connections.lua.",
    "member_added": "A user joins a presence channel: store/lua/join.lua.",
    "member_removed": "A user leaves a presence channel: ``leave`` in store/lua/members.lua.",
    "client_event": "A client sends an event: ``Presence.client_event`` in store/presence.py.",
    "cache_miss": "A new subscriber finds no event in a cache channel: ``Presence.cache_miss`` in store/presence.py.",
    "subscription_count": "The connections of a channel change: ``publish_count`` in store/lua/connections.lua.",
    "user_online": "A user's first connection signs in: ``online`` in store/lua/connections.lua.",
    "user_offline": "A user's last connection closes: ``online`` in store/lua/connections.lua.",
}
