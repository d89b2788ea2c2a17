"""Events that clients send to each other."""

from __future__ import annotations

import json

import pytest

from jobpush.protocol import messages
from jobpush.protocol.actions import ClientEvent


@pytest.fixture
def member(shell):
    """A connection that has joined one channel of each kind."""
    for channel in ("news", "private-a", "private-encrypted-a", "presence-a", "private-b"):
        shell.subscribe_signed(channel, '{"user_id":"10"}')
    return shell


def assert_rejected(shell, answer, channel, text) -> None:
    (message,) = answer
    assert message["event"] == "pusher:error"
    assert message["channel"] == channel
    assert message["data"]["code"] == 4301
    assert text in message["data"]["message"]
    assert shell.client_events == []
    assert shell.close is None


def test_client_event_of_a_private_channel_is_forwarded(member) -> None:
    assert member.send("client-typing", {"a": [1, "ü"]}, "private-a") == []

    assert member.client_events == [ClientEvent("private-a", "client-typing", '"{\\"a\\":[1,\\"ü\\"]}"')]


def test_client_event_of_a_presence_channel_names_its_sender(member) -> None:
    member.send_text(
        '{"event":"client-typing","data":"hello","channel":"presence-a","user_id":"forged","socket_id":"1.1"}'
    )

    assert member.client_events == [ClientEvent("presence-a", "client-typing", '"hello"', "10")]


@pytest.mark.parametrize(
    ("data", "wire"),
    [("text", '"text"'), ("", '""'), (None, '"null"'), (5, '"5"'), ("\ud800", '"\\ud800"'), ({}, '"{}"')],
)
def test_data_is_encoded_once(member, data, wire) -> None:
    member.send("client-a", data, "private-a")

    assert member.client_events[0].data == wire


def test_client_event_without_data_is_forwarded_without_data(member) -> None:
    member.send_text('{"event":"client-a","channel":"presence-a"}')
    (event,) = member.client_events

    members = messages.event_members(event.event, event.data, event.user_id)

    assert event == ClientEvent("presence-a", "client-a", None, "10")
    assert json.loads(f"{{{members}}}") == {
        "event": "client-a",
        "user_id": "10",
    }


def test_forwarded_event_is_a_complete_frame(member) -> None:
    member.send("client-a", {"x": '"'}, "presence-a")
    (event,) = member.client_events

    members = messages.event_members(event.event, event.data, event.user_id)

    assert json.loads(f"{{{members}}}") == {
        "event": "client-a",
        "data": '{"x":"\\""}',
        "user_id": "10",
    }


@pytest.mark.parametrize(
    ("channel", "text"),
    [
        ("news", "only private and presence"),
        ("private-encrypted-a", "encrypted"),
        ("private-other", "not subscribed"),
        ("#server-to-user-1", "not subscribed"),
        ("", "not subscribed"),
    ],
)
def test_other_channels_accept_no_client_events(member, channel, text) -> None:
    assert_rejected(member, member.send("client-a", {}, channel), channel, text)


def test_unsubscribed_connection_may_send_no_client_event(member) -> None:
    member.send("pusher:unsubscribe", {"channel": "private-a"})

    assert_rejected(member, member.send("client-a", {}, "private-a"), "private-a", "not subscribed")


def test_client_event_name_has_a_limit(member) -> None:
    member.send("client-" + "x" * 193, {}, "private-a")
    assert len(member.client_events.pop().event) == 200

    assert_rejected(member, member.send("client-" + "x" * 194, {}, "private-a"), "private-a", "201 characters")


def test_client_event_data_has_a_limit(member) -> None:
    member.send("client-a", "ü" * 5120, "private-a")
    assert len(member.client_events) == 1
    member.client_events.clear()

    assert_rejected(member, member.send("client-a", "ü" * 5121, "private-a"), "private-a", "10242 bytes")


def test_data_without_a_json_form_is_rejected(member) -> None:
    answer = member.send_text('{"event":"client-a","channel":"private-a","data":[1e999]}')

    assert_rejected(member, answer, "private-a", "JSON form")


def test_eleventh_event_of_a_second_is_rejected(member) -> None:
    for number in range(10):
        member.send("client-a", number, "private-a" if number % 2 else "private-b")
    assert len(member.client_events) == 10

    (answer,) = member.send("client-a", 10, "private-a")

    assert answer["channel"] == "private-a"
    assert answer["data"] == {"code": 4301, "message": "Client event rejected due to rate limit"}
    assert len(member.client_events) == 10
    member.now += 1.0
    assert member.send("client-a", 11, "private-a") == []


def test_other_messages_do_not_count_as_client_events(member) -> None:
    for _ in range(20):
        member.send("pusher:ping")

    assert member.send("client-a", {}, "private-a") == []
