"""Subscriptions: who may join what, and what is answered."""

from __future__ import annotations

import json

import pytest

from jobpush import signing
from jobpush.channels import MAX_CHANNEL_LENGTH
from jobpush.protocol import messages
from jobpush.protocol.actions import Member, Subscribe, Unsubscribe, UserData
from jobpush.protocol.codes import SubscriptionLimitReached

from .conftest import KEY, POSITION, SECRET, SOCKET_ID

MR_CHANNELS = '{"user_id":10,"user_info":{"name":"Mr. Channels"}}'
PRESENCE_AUTH = f"{KEY}:31935e7d86dba64c2a90aed31fdc61869f9b22ba9d8863bba239c03ca481bc80"
PRIVATE_AUTH = f"{KEY}:58df8b0c36d6982b82c3ecf6b4662e34fe8c25bba48f5369f135bf843651c3a4"


def succeeded(channel, data="{}") -> dict:
    return {"event": "pusher_internal:subscription_succeeded", "channel": channel, "data": data, "id": POSITION}


def assert_refused(shell, answer, channel, status, text="") -> None:
    (message,) = answer
    assert message["event"] == "pusher:subscription_error"
    assert message["channel"] == channel
    assert message["data"]["status"] == status
    assert text in message["data"]["error"]
    assert channel not in shell.channels
    assert channel not in shell.protocol.channels


# -- public, private, encrypted --------------------------------------------------------------------------


def test_public_channel_is_open_to_all(shell) -> None:
    assert shell.subscribe("news") == [succeeded("news")]
    assert shell.subscribes == [Subscribe("news")]
    assert shell.protocol.channels == {"news"}


def test_data_may_be_json_text(shell) -> None:
    assert shell.send("pusher:subscribe", '{"channel":"news"}') == [succeeded("news")]


def test_public_channel_needs_no_signature(shell) -> None:
    assert shell.subscribe("news", auth="key:wrong", channel_data="") == [succeeded("news")]


def test_documented_private_example_is_accepted(shell) -> None:
    assert shell.subscribe("private-foobar", auth=PRIVATE_AUTH) == [succeeded("private-foobar")]


@pytest.mark.parametrize("auth", [None, "", "x", PRIVATE_AUTH[:-1], PRIVATE_AUTH.replace(KEY, "other"), PRESENCE_AUTH])
@pytest.mark.parametrize("channel", ["private-foobar", "private-encrypted-a", "presence-foobar", "private-cache-a"])
def test_wrong_channel_signature_is_refused_on_its_channel(shell, auth, channel) -> None:
    answer = shell.subscribe(channel, auth=auth)

    assert_refused(shell, answer, channel, 401)
    assert answer[0]["data"]["type"] == "AuthError"
    assert shell.subscribes == []


def test_signature_for_another_socket_is_refused(shell) -> None:
    auth = signing.channel_auth(KEY, SECRET, "1234.1235", "private-a")

    assert_refused(shell, shell.subscribe("private-a", auth=auth), "private-a", 401, "not valid for this connection")


def test_refused_channel_can_be_retried(shell) -> None:
    shell.subscribe("private-a")

    assert shell.subscribe_signed("private-a") == [succeeded("private-a")]


def test_channel_data_of_a_private_channel_is_signed_too(shell) -> None:
    assert shell.subscribe_signed("private-a", '{"any":1}') == [succeeded("private-a")]

    without = signing.channel_auth(KEY, SECRET, SOCKET_ID, "private-b")
    assert_refused(shell, shell.subscribe("private-b", auth=without, channel_data="{}"), "private-b", 401)


def test_encrypted_channel_is_private(shell) -> None:
    assert shell.subscribe_signed("private-encrypted-a") == [succeeded("private-encrypted-a")]


@pytest.mark.parametrize(
    "channel", ["", "a b", "ü", "#a", "#private-a", "a" * (MAX_CHANNEL_LENGTH + 1), "a/b", "\ud800"]
)
def test_invalid_name_is_refused(shell, channel) -> None:
    assert_refused(shell, shell.subscribe(channel), channel, 400, "channel name")


# -- presence --------------------------------------------------------------------------------------------


def test_documented_presence_example_is_accepted(shell) -> None:
    shell.members = {"7": '{"name":"Eve"}'}

    (answer,) = shell.subscribe("presence-foobar", auth=PRESENCE_AUTH, channel_data=MR_CHANNELS)

    assert shell.subscribes == [Subscribe("presence-foobar", member=Member("10", '{"name":"Mr. Channels"}'))]
    assert json.loads(answer["data"]) == {
        "presence": {"ids": ["7", "10"], "hash": {"7": {"name": "Eve"}, "10": {"name": "Mr. Channels"}}, "count": 2}
    }
    assert shell.protocol.member_id("presence-foobar") == "10"


@pytest.mark.parametrize(
    ("user_id", "text"),
    [("10", "10"), (10, "10"), (10.0, "10"), (1.5, "1.5"), (-3, "-3"), ("ü:#", "ü:#"), ("x" * 128,) * 2],
)
def test_user_id_becomes_text(shell, user_id, text) -> None:
    shell.subscribe_signed("presence-a", json.dumps({"user_id": user_id}))

    assert shell.subscribes == [Subscribe("presence-a", member=Member(text, "{}"))]


@pytest.mark.parametrize(
    "channel_data",
    [
        "text",
        "[]",
        "5",
        "{}",
        '{"user_id":null}',
        '{"user_id":""}',
        '{"user_id":true}',
        '{"user_id":["1"]}',
        '{"user_id":1e999}',
        '{"user_id":%s}' % ("9" * 129),
        json.dumps({"user_id": "x" * 129}),
        json.dumps({"user_id": "1", "user_info": {"a": "x" * 1017}}),
        '{"user_id":"1","user_info":"text"}',
        '{"user_id":"1","user_info":["list"]}',
        '{"user_id":"1","user_info":7}',
        '{"user_id":"1","user_info":false}',
        '{"user_id":"1","user_info":1e999}',
        '{"user_id":"1","user_info":' + "[" * 5000 + "]" * 5000 + "}",
    ],
    ids=lambda text: text[:30],
)
def test_channel_data_without_a_member_is_refused(shell, channel_data) -> None:
    assert_refused(shell, shell.subscribe_signed("presence-a", channel_data), "presence-a", 400)


def test_user_info_up_to_the_limit_is_accepted(shell) -> None:
    shell.subscribe_signed("presence-a", json.dumps({"user_id": "1", "user_info": {"a": "x" * 1016}}))

    assert shell.channels == {"presence-a"}


def test_connection_without_sign_in_needs_channel_data(shell) -> None:
    assert_refused(shell, shell.subscribe_signed("presence-a"), "presence-a", 400, "channel_data is missing")


def test_signed_in_connection_may_omit_channel_data(shell) -> None:
    shell.sign_in({"id": "42", "user_info": {"name": "Ann"}})

    shell.subscribe_signed("presence-a")

    assert shell.subscribes == [Subscribe("presence-a", member=Member("42", '{"name":"Ann"}'))]


# -- own channels ----------------------------------------------------------------------------------------


def test_server_to_user_channel_is_for_its_user_only(shell) -> None:
    assert_refused(shell, shell.subscribe("#server-to-user-42", auth=""), "#server-to-user-42", 401)

    shell.sign_in({"id": "42"})

    assert shell.subscribe("#server-to-user-42", auth="") == [succeeded("#server-to-user-42")]
    assert_refused(shell, shell.subscribe("#server-to-user-4", auth=""), "#server-to-user-4", 401)
    assert_refused(shell, shell.subscribe("#server-to-user-421", auth=""), "#server-to-user-421", 401)


def test_signature_does_not_open_the_server_to_user_channel_of_another(shell) -> None:
    assert_refused(shell, shell.subscribe_signed("#server-to-user-42"), "#server-to-user-42", 401)


@pytest.mark.parametrize("channel", ["private-user-42", "private-task-d1c2"])
def test_own_channels_need_no_signature(make_shell, channel) -> None:
    shell = make_shell().open(user=UserData("42"))
    shell.tasks = {"private-task-d1c2"}

    assert shell.subscribe(channel) == [succeeded(channel)]
    assert shell.subscribes == [Subscribe(channel, owner_only=channel == "private-task-d1c2")]


@pytest.mark.parametrize(
    "channel", ["private-user-43", "private-user-4", "private-user-", "private-users", "private-task"]
)
def test_other_channels_need_a_signature(make_shell, channel) -> None:
    shell = make_shell().open(user=UserData("42"))

    assert_refused(shell, shell.subscribe(channel), channel, 401)


def test_task_of_another_user_is_refused_by_the_host(make_shell) -> None:
    shell = make_shell().open(user=UserData("42"))

    assert_refused(shell, shell.subscribe("private-task-d1c2"), "private-task-d1c2", 401, "not your task")


def test_wrong_signature_is_refused_even_for_an_own_channel(make_shell) -> None:
    shell = make_shell().open(user=UserData("42"))

    assert_refused(shell, shell.subscribe("private-user-42", auth="x:y"), "private-user-42", 401)


def test_connection_without_a_user_has_no_own_channels(shell) -> None:
    assert_refused(shell, shell.subscribe("private-task-d1c2"), "private-task-d1c2", 401)
    assert_refused(shell, shell.subscribe("private-user-42"), "private-user-42", 401)


def test_signature_needs_no_owner(shell) -> None:
    assert shell.subscribe_signed("private-task-d1c2") == [succeeded("private-task-d1c2")]


# -- cache channels --------------------------------------------------------------------------------------


@pytest.mark.parametrize("channel", ["cache-a", "private-cache-a", "private-encrypted-cache-a", "presence-cache-a"])
@pytest.mark.parametrize("has_cached", [True, False])
def test_empty_cache_channel_sends_cache_miss_after_the_subscription(shell, channel, has_cached) -> None:
    shell.cached = {channel} if has_cached else set()

    first, *rest = shell.subscribe_signed(channel, '{"user_id":"1"}')

    assert first["event"] == "pusher_internal:subscription_succeeded"
    assert rest == ([] if has_cached else [{"event": "pusher:cache_miss", "channel": channel, "data": "{}"}])


# -- since -----------------------------------------------------------------------------------------------


def test_since_is_passed_on(shell) -> None:
    shell.subscribe("news", since="1700000000000-12")

    assert shell.subscribes == [Subscribe("news", since="1700000000000-12")]


@pytest.mark.parametrize(
    "since", ["x", "1", "1-", "-1", "1-1-1", " 1-1", "1-1\n", "٣-٣", "1" * 16 + "-1", "1-" + "1" * 11]
)
def test_invalid_since_is_refused(shell, since) -> None:
    assert_refused(shell, shell.subscribe("news", since=since), "news", 400, "since")


# -- twice, too often, and the end -----------------------------------------------------------------------


def test_second_subscription_is_reported_like_pusher(shell) -> None:
    shell.subscribe("news")

    (answer,) = shell.subscribe("news")

    assert answer["event"] == "pusher:error"
    assert answer["data"] == {"code": 4300, "message": "Existing subscription to channel news"}
    assert shell.subscribes == [Subscribe("news")]
    assert shell.protocol.channels == {"news"}


def test_unsubscribe_gets_no_reply(shell) -> None:
    shell.subscribe_signed("presence-foobar", MR_CHANNELS)

    assert shell.send("pusher:unsubscribe", {"channel": "presence-foobar"}) == []

    assert shell.leaves == [Unsubscribe("presence-foobar", "10")]
    assert shell.protocol.channels == set()
    assert shell.protocol.member_id("presence-foobar") is None


@pytest.mark.parametrize("channel", ["news", "#a", "", "presence-a", "\ud800"])
def test_unsubscribe_without_a_subscription_is_ignored(shell, channel) -> None:
    assert shell.send("pusher:unsubscribe", {"channel": channel}) == []
    assert shell.leaves == []


def test_unsubscribed_connection_may_subscribe_again(shell) -> None:
    shell.subscribe("news")
    shell.send("pusher:unsubscribe", {"channel": "news"})

    assert shell.subscribe("news") == [succeeded("news")]


def test_subscriptions_beyond_ten_thousand_are_refused(make_shell) -> None:
    shell = make_shell(message_rate=0).open()
    for number in range(10_000):
        shell.subscribe(f"channel-{number}")

    assert len(shell.channels) == len(shell.protocol.channels) == 1_000
    refused = [message for message in shell.messages if message["event"] == "pusher:subscription_error"]
    assert len(refused) == 9_000
    assert refused[0]["data"] == {
        "type": "LimitReached",
        "error": "A connection may have 1000 channels",
        "status": 429,
    }
    assert shell.close is None


def test_unsubscribe_frees_a_place_below_the_limit(make_shell) -> None:
    shell = make_shell(max_channels=1).open()
    shell.subscribe("a")
    shell.send("pusher:unsubscribe", {"channel": "a"})

    assert shell.subscribe("b") == [succeeded("b")]


def test_host_may_refuse_a_subscription(shell) -> None:
    protocol = shell.protocol
    protocol.receive(json.dumps({"event": "pusher:subscribe", "data": {"channel": "a"}}), 0)

    answer = shell.perform(protocol.refused("a", "It is full", error=SubscriptionLimitReached))

    assert_refused(shell, answer, "a", 429, "It is full")


def test_subscription_cancelled_while_pending_is_dropped(shell) -> None:
    protocol = shell.protocol
    protocol.receive(json.dumps({"event": "pusher:subscribe", "data": {"channel": "a"}}), 0)
    assert protocol.receive(json.dumps({"event": "pusher:unsubscribe", "data": {"channel": "a"}}), 0) == [
        Unsubscribe("a")
    ]

    assert protocol.subscribed("a", position=POSITION) == []
    assert protocol.refused("a", "no") == []
    assert protocol.channels == set()


# -- later messages of the hub -----------------------------------------------------------------------------


def test_messages_of_presence() -> None:
    frames = [
        messages.member_added("presence-a", "ü", '{"a":1}'),
        messages.member_removed("presence-a", "10"),
        messages.resync("news"),
    ]

    assert [json.loads(frame) for frame in frames] == [
        {
            "event": "pusher_internal:member_added",
            "channel": "presence-a",
            "data": '{"user_id":"ü","user_info":{"a":1}}',
        },
        {"event": "pusher_internal:member_removed", "channel": "presence-a", "data": '{"user_id":"10"}'},
        {"event": "jobpush:resync", "channel": "news", "data": "{}"},
    ]
