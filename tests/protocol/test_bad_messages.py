"""Messages that nobody should send: a clear error, and the connection goes on where it can."""

from __future__ import annotations

import json

import pytest

from jobpush.protocol.actions import Close


def assert_reported(messages, code, text) -> None:
    (message,) = messages
    assert message["event"] == "pusher:error"
    assert message["data"]["code"] == code
    assert text in message["data"]["message"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "hello",
        "\ufeff{}",
        '{"event":"pusher:ping","data":NaN}',
        '{"event":"pusher:ping","data":-Infinity}',
        '{"event":"pusher:ping","data":' + "9" * 5000 + "}",
        "[" * 60_000,
        '{"a":' * 10_000,
    ],
    ids=lambda text: text[:20],
)
def test_invalid_json_is_reported(shell, text) -> None:
    assert_reported(shell.send_text(text), 4300, "not valid JSON")
    assert shell.close is None
    assert shell.send("pusher:ping")


@pytest.mark.parametrize("text", ["[]", "null", '"pusher:ping"', "5"])
def test_message_other_than_an_object_is_reported(shell, text) -> None:
    assert_reported(shell.send_text(text), 4300, "must be a JSON object")


@pytest.mark.parametrize("event", [None, 5, [], {}, True])
def test_event_name_other_than_text_is_reported(shell, event) -> None:
    assert_reported(shell.send_text(json.dumps({"event": event})), 4300, '"event"')


@pytest.mark.parametrize("event", ["", "pusher:connect", "pusher_internal:member_added", "typing", "\ud800"])
def test_unknown_event_is_reported(shell, event) -> None:
    assert_reported(shell.send(event, {}), 4300, "Unknown event")


@pytest.mark.parametrize("event", ["pusher:subscribe", "pusher:unsubscribe", "pusher:signin"])
@pytest.mark.parametrize("data", [None, 5, [], True, "", "{", "[]", '"text"'])
def test_data_other_than_an_object_is_reported(shell, event, data) -> None:
    (message,) = shell.send(event, data)

    assert message["data"]["code"] == 4300
    assert shell.close is None


@pytest.mark.parametrize("channel", [None, 5, ["a"], {"a": 1}, True])
def test_channel_name_other_than_text_is_reported(shell, channel) -> None:
    assert_reported(shell.subscribe(channel), 4300, '"channel"')
    assert_reported(shell.send("pusher:unsubscribe", {"channel": channel}), 4300, '"channel"')
    assert_reported(shell.send("client-a", {}, channel), 4300, '"channel"')


@pytest.mark.parametrize("member", ["auth", "channel_data", "since"])
@pytest.mark.parametrize("value", [5, ["a"], {"a": 1}, True, "\ud800"])
def test_fields_of_the_wrong_type_are_reported(shell, member, value) -> None:
    (message,) = shell.subscribe("private-a", **{member: value})

    assert message["event"] in ("pusher:error", "pusher:subscription_error")
    assert shell.subscribes == []


def test_binary_message_closes_the_protocol_connection(shell) -> None:
    assert_reported(shell.perform(shell.protocol.receive_binary(shell.now)), 4300, "Only text")
    assert shell.close == Close(1003, "Only text messages are supported")


def test_oversized_message_closes_the_connection(shell) -> None:
    assert_reported(shell.send_text("x" * 65_537), 4300, "65536 bytes")
    assert shell.close == Close(1009, "Message too big")


def test_message_too_long_to_read_closes_the_connection(shell) -> None:
    assert_reported(shell.perform(shell.protocol.receive_oversized(shell.now)), 4300, "65536 bytes")
    assert shell.close is not None


@pytest.mark.parametrize("text", ["{", '{"event":"unknown"}', "[]", '{"event":"pusher:subscribe","data":5}', "\ud800"])
def test_repeated_invalid_messages_close_the_connection(shell, text) -> None:
    for _ in range(25):
        assert shell.close is None
        shell.send_text(text)

    shell.send_text(text)

    assert shell.close == Close(4100, "Over capacity: too many messages")


def test_occasional_invalid_messages_do_not_close_the_connection(shell) -> None:
    for _ in range(200):
        shell.send_text("{")
        shell.pass_time(1)

    assert shell.close is None


def test_long_invalid_message_counts_as_several(shell) -> None:
    text = json.dumps({"event": "pusher:pong", "data": [[]] * 16_000})
    assert 63_000 < len(text) < 65_536
    sent = 0
    while shell.close is None:
        shell.send_text(text)
        sent += 1

    assert shell.close == Close(4100, "Over capacity: too many messages")
    assert sent <= 2_000 / 60


def test_client_events_of_the_allowed_rate_and_size_stay_within_the_limit(shell) -> None:
    shell.subscribe_signed("private-a")
    for _ in range(60):
        for _ in range(10):
            shell.send("client-a", "x" * 10_240, "private-a")
        shell.pass_time(1)

    assert shell.close is None
    assert len(shell.client_events) == 600


def test_no_reply_is_sent_after_a_close(shell) -> None:
    shell.perform(shell.protocol.receive_binary(shell.now))

    assert shell.send("pusher:ping") == []
    assert shell.subscribe("news") == []
    assert shell.perform(shell.protocol.receive_binary(shell.now)) == []
    assert shell.perform(shell.protocol.subscribed("news", position="0-0")) == []
    assert shell.perform(shell.protocol.refused("news", "no")) == []


@pytest.mark.parametrize("code_band", range(4000, 4300, 100))
def test_error_of_an_open_connection_has_no_closing_code(shell, code_band) -> None:
    """Pysher takes a ``pusher:error`` of these bands as an order to disconnect or reconnect."""
    shell.send_text("{")
    shell.send("unknown")
    shell.subscribe("news")
    shell.subscribe("news")
    shell.send("client-a", {}, "news")

    codes = [message["data"]["code"] for message in shell.messages if message["event"] == "pusher:error"]
    assert len(codes) == 4
    assert not [code for code in codes if code_band <= code < code_band + 100]
