"""
Pusher's SDK for Python servers, unmodified; Pysher receives its events.

Its ``authenticate`` and ``authenticate_user`` are tested with the JavaScript clients: see application.py.
"""

from __future__ import annotations

import json
import time
import uuid

import pusher
import pytest
from pusher.errors import PusherBadAuth, PusherBadRequest

from jobpush.signing import sign

from .backend import sdk
from .deployment import APP_ID, KEY, SECRET, Deployment
from .pysher_client import listening


@pytest.fixture
def server(deployment: Deployment) -> pusher.Pusher:
    """The SDK, configured for the second entrance; the clients use the first."""
    return sdk(deployment.ports[1])


def unique(name: str) -> str:
    return f"{name}-{uuid.uuid4()}"


def test_trigger_reaches_many_channels(deployment: Deployment, server: pusher.Pusher) -> None:
    channels = [unique("news") for _ in range(100)]

    with listening(deployment.ports[0], {channel: ["item"] for channel in channels}) as listener:
        response = server.trigger(channels, "item", {"number": 1})
        received = [listener.next() for _ in channels]

    assert response == {}
    assert sorted(received) == sorted((channel, "item", '{"number": 1}') for channel in channels)


def test_trigger_leaves_out_a_socket(deployment: Deployment, server: pusher.Pusher) -> None:
    channel = unique("news")

    with listening(deployment.ports[0], {channel: ["not-to-me", "fence"]}) as listener:
        server.trigger(channel, "not-to-me", "1", listener.pusher.connection.socket_id)
        server.trigger(channel, "fence", "2")
        received = listener.next()

    assert received == (channel, "fence", "2")


def test_trigger_batch_sends_each_event_to_its_channel(deployment: Deployment, server: pusher.Pusher) -> None:
    first, second = unique("a"), unique("b")

    with listening(deployment.ports[0], {first: ["one"], second: ["two"]}) as listener:
        response = server.trigger_batch(
            [{"channel": first, "name": "one", "data": "1"}, {"channel": second, "name": "two", "data": {"number": 2}}]
        )
        received = [listener.next() for _ in range(2)]

    assert response == {}
    assert sorted(received) == [(first, "one", "1"), (second, "two", '{"number": 2}')]


def test_channels_info_lists_occupied_channels_by_prefix(deployment: Deployment, server: pusher.Pusher) -> None:
    prefix = unique("presence-room")
    ann, ben = ({"user_id": name} for name in ("ann", "ben"))

    with (
        listening(deployment.ports[0], {f"{prefix}-1": [], f"{prefix}-2": []}, ann),
        listening(deployment.ports[1], {f"{prefix}-2": []}, ben),
    ):
        response = server.channels_info(prefix, ["user_count"])

    assert response == {"channels": {f"{prefix}-1": {"user_count": 1}, f"{prefix}-2": {"user_count": 2}}}


def test_channel_info_counts_subscriptions(deployment: Deployment, server: pusher.Pusher) -> None:
    channel = unique("news")
    before = server.channel_info(channel, ["subscription_count"])

    with listening(deployment.ports[0], {channel: []}), listening(deployment.ports[1], {channel: []}):
        during = server.channel_info(channel, ["subscription_count"])

    assert before["occupied"] is False
    assert during == {"occupied": True, "subscription_count": 2}


def test_users_info_lists_the_members(deployment: Deployment, server: pusher.Pusher) -> None:
    channel = unique("presence-room")

    with listening(deployment.ports[0], {channel: []}, {"user_id": "ann"}):
        response = server.users_info(channel)

    assert response == {"users": [{"id": "ann"}]}


def test_users_info_of_a_public_channel_is_a_bad_request(server: pusher.Pusher) -> None:
    with pytest.raises(PusherBadRequest):
        server.users_info(unique("news"))


def test_wrong_secret_is_unauthorized(deployment: Deployment) -> None:
    server = pusher.Pusher(APP_ID, KEY, "wrong", host="127.0.0.1", port=deployment.ports[0], ssl=False)

    with pytest.raises(PusherBadAuth):
        server.channels_info()


def test_send_to_user_reaches_the_signed_in_user(deployment: Deployment, server: pusher.Pusher) -> None:
    user = unique("ann")
    channel = f"#server-to-user-{user}"

    with listening(deployment.ports[0], {channel: ["greeting"]}, user=user) as listener:
        response = server.send_to_user(user, "greeting", {"text": "hello"})
        received = listener.next()

    assert response == {}
    assert received == (channel, "greeting", '{"text": "hello"}')


def test_terminate_user_connections_ends_them(deployment: Deployment, server: pusher.Pusher) -> None:
    user = unique("ann")

    with listening(deployment.ports[0], {f"#server-to-user-{user}": []}, user=user) as listener:
        response = server.terminate_user_connections(user)
        listener.pusher.connection.join(timeout=15)  # its thread ends: it does not reconnect

    assert response == {}
    assert not listener.pusher.connection.is_alive()


def test_validate_webhook_accepts_our_signature(server: pusher.Pusher) -> None:
    body = json.dumps({"time_ms": int(time.time() * 1000), "events": []})

    assert server.validate_webhook(KEY, sign(SECRET, body), body) == json.loads(body)
    assert server.validate_webhook(KEY, sign("another", body), body) is None
