"""Pysher, unmodified: a Python client that uses protocol 6."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator

import pytest

from .backend import Backend
from .deployment import Deployment
from .pysher_client import listening


@pytest.fixture
def backend(deployment: Deployment) -> Iterator[Backend]:
    """A back end that publishes at the second entrance."""
    backend = Backend(deployment)
    yield backend
    backend.close()


@pytest.mark.parametrize("kind", ["news", "private-news"])
def test_channel_receives_events_of_the_server(deployment: Deployment, backend: Backend, kind: str) -> None:
    channel = f"{kind}-{uuid.uuid4()}"

    with listening(deployment.ports[0], {channel: ["item"]}) as listener:
        backend.trigger(channel, "item", {"title": "Grüße"})

        received = listener.next()

    assert (received[0], received[1], json.loads(received[2])) == (channel, "item", {"title": "Grüße"})


def test_members_of_a_presence_channel_see_each_other(deployment: Deployment) -> None:
    channel = f"presence-room-{uuid.uuid4()}"
    ann, ben = ({"user_id": name, "user_info": {"name": name.title()}} for name in ("ann", "ben"))

    with listening(deployment.ports[0], {channel: ["pusher_internal:member_added"]}, ann) as listener:
        with listening(deployment.ports[1], {channel: []}, ben):
            received = listener.until(channel, "pusher_internal:member_added")

    assert json.loads(received) == ben


def test_client_event_reaches_the_others(deployment: Deployment) -> None:
    channel = f"private-chat-{uuid.uuid4()}"

    with (
        listening(deployment.ports[0], {channel: []}) as sender,
        listening(deployment.ports[1], {channel: ["client-typing"]}) as listener,
    ):
        sender.pusher.channel(channel).trigger("client-typing", {"on": True})

        received = listener.until(channel, "client-typing")

    assert json.loads(received) == {"on": True}


def test_first_ping_of_pysher_is_answered(deployment: Deployment) -> None:
    with listening(deployment.ports[0], {f"news-{uuid.uuid4()}": []}) as listener:
        assert listener.pusher.connection.pong_received
        assert listener.pusher.connection.state == "connected"
