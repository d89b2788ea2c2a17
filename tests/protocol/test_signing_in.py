"""Sign-in by the session, by ``pusher:signin``, and watchlists."""

from __future__ import annotations

import json

import pytest

from jobpush import JobPush, signing
from jobpush.channels import escape_id, user_topic
from jobpush.protocol import messages
from jobpush.protocol.actions import Close, Subscribe, UserData

from .conftest import KEY, POSITION, SECRET, SOCKET_ID

USER_AUTH = f"{KEY}:4708d583dada6a56435fb8bc611c77c359a31eebde13337c16ab43aa6de336ba"


def assert_sign_in_failed(shell, answer) -> None:
    (message,) = answer
    assert message["event"] == "pusher:error"
    assert message["data"]["code"] == 4009
    assert message["data"]["message"].startswith("Connection not authorized")
    assert shell.close == Close(4009, "Connection not authorized")


def test_session_user_of_a_stock_client_is_signed_in_silently(make_shell) -> None:
    shell = make_shell().open(user=UserData("42"))

    assert [message["event"] for message in shell.messages] == ["pusher:connection_established"]
    assert shell.users == [UserData("42")]
    assert shell.subscribes == []
    assert shell.protocol.user == UserData("42")


def test_jobpush_client_is_signed_in_and_subscribed_at_once(make_shell) -> None:
    shell = make_shell().open(user=UserData("42"), announce_user=True, since="5-0")

    assert shell.messages[1:] == [
        {"event": "pusher:signin_success", "data": '{"user_data":"{\\"id\\":\\"42\\"}"}'},
        {
            "event": "pusher_internal:subscription_succeeded",
            "channel": "#server-to-user-42",
            "data": "{}",
            "id": POSITION,
        },
    ]
    assert shell.subscribes == [Subscribe("#server-to-user-42", since="5-0")]


@pytest.mark.parametrize("since", [None, ""])
def test_jobpush_client_may_connect_without_since(make_shell, since) -> None:
    shell = make_shell().open(user=UserData("42"), announce_user=True, since=since)

    assert shell.subscribes == [Subscribe("#server-to-user-42")]


def test_invalid_since_is_reported_and_the_channel_still_subscribed(make_shell) -> None:
    shell = make_shell().open(user=UserData("42"), announce_user=True, since="yesterday")

    assert [message["event"] for message in shell.messages] == [
        "pusher:connection_established",
        "pusher:signin_success",
        "pusher:error",
        "pusher_internal:subscription_succeeded",
    ]
    assert shell.subscribes == [Subscribe("#server-to-user-42")]


def test_connection_without_a_user_announces_no_sign_in(make_shell) -> None:
    shell = make_shell().open(announce_user=True, since="5-0")

    assert len(shell.messages) == 1
    assert shell.subscribes == []


def test_documented_sign_in_succeeds(shell) -> None:
    answer = shell.send("pusher:signin", {"auth": USER_AUTH, "user_data": '{"id":"12345"}'})

    assert answer == [{"event": "pusher:signin_success", "data": '{"user_data":"{\\"id\\":\\"12345\\"}"}'}]
    assert shell.users == [UserData("12345")]


def test_user_data_is_returned_byte_for_byte(shell) -> None:
    user_data = '{ "id": "a",\n "user_info": {"n": "\\u00fc"}, "extra": 1.0 }'

    (answer,) = shell.sign_in(user_data)

    assert json.loads(answer["data"])["user_data"] == user_data
    assert shell.users == [UserData("a", '{"n":"ü"}')]


@pytest.mark.parametrize(
    "request_data",
    [
        {},
        {"auth": USER_AUTH},
        {"user_data": '{"id":"12345"}'},
        {"auth": "", "user_data": ""},
        {"auth": USER_AUTH, "user_data": '{"id":"12346"}'},
        {"auth": USER_AUTH[:-1], "user_data": '{"id":"12345"}'},
        {"auth": signing.user_auth(KEY, SECRET, "9.9", '{"id":"12345"}'), "user_data": '{"id":"12345"}'},
        {"auth": signing.channel_auth(KEY, SECRET, SOCKET_ID, "private-a"), "user_data": '{"id":"12345"}'},
    ],
)
def test_wrong_sign_in_signature_closes_the_connection(shell, request_data) -> None:
    assert_sign_in_failed(shell, shell.send("pusher:signin", request_data))
    assert shell.protocol.user is None


@pytest.mark.parametrize(
    "user_data",
    [
        "text",
        "[]",
        "{}",
        {"id": ""},
        {"id": 42},
        {"id": None},
        {"id": "a:b"},
        {"id": "ü"},
        {"id": "a b"},
        {"id": "x" * 129},
        {"id": "1", "user_info": "x" * 1023},
        {"id": "1", "watchlist": "2"},
        {"id": "1", "watchlist": [2]},
        {"id": "1", "watchlist": ["a:b"]},
    ],
    ids=lambda user_data: str(user_data)[:30],
)
def test_signed_user_data_without_a_user_closes_the_connection(shell, user_data) -> None:
    assert_sign_in_failed(shell, shell.sign_in(user_data))


def test_signing_in_again_as_the_same_user_succeeds(make_shell) -> None:
    shell = make_shell().open(user=UserData("42"))

    (answer,) = shell.sign_in({"id": "42", "user_info": {"name": "Ann"}})

    assert answer["event"] == "pusher:signin_success"
    assert shell.protocol.user == UserData("42", '{"name":"Ann"}')
    assert shell.close is None


@pytest.mark.parametrize("first", ["session", "sign-in"])
def test_signing_in_as_another_user_closes_the_connection(make_shell, first) -> None:
    shell = make_shell().open(user=UserData("42") if first == "session" else None)
    if first == "sign-in":
        shell.sign_in({"id": "42"})

    assert_sign_in_failed(shell, shell.sign_in({"id": "43"}))
    assert shell.protocol.user == UserData("42")


def test_marked_user_id_is_not_escaped_again(shell) -> None:
    shell.sign_in({"id": "=u=a=3Ab", "escaped": True})

    assert shell.users == [UserData("=u=a=3Ab")]


# -- watchlists ------------------------------------------------------------------------------------------


def test_watchlist_is_passed_without_duplicates(shell) -> None:
    shell.sign_in({"id": "1", "watchlist": ["3", "2", "3"]})

    assert shell.users == [UserData("1", watchlist=("3", "2"))]


def test_watchlist_beyond_the_limit_is_cut_and_reported(shell) -> None:
    answer = shell.sign_in({"id": "1", "watchlist": [str(number) for number in range(101)]})

    assert [message["event"] for message in answer] == ["pusher:signin_success", "pusher:error"]
    assert answer[1]["data"]["code"] == 4302
    assert len(shell.users[0].watchlist) == 100
    assert shell.close is None


def test_watchlist_events_have_no_channel_and_no_empty_lists() -> None:
    frame = json.loads(messages.watchlist_events(online=["1", "2"]))
    both = json.loads(messages.watchlist_events(online=["1"], offline=["3"]))

    assert frame == {
        "event": "pusher_internal:watchlist_events",
        "data": '{"events":[{"name":"online","user_ids":["1","2"]}]}',
    }
    assert json.loads(both["data"])["events"][1] == {"name": "offline", "user_ids": ["3"]}


def test_sdk_user_id_that_looks_escaped_is_taken_literally(shell) -> None:
    shell.sign_in({"id": "=u=a=20b", "watchlist": ["=u=c"]})

    assert shell.users == [UserData(escape_id("=u=a=20b"), watchlist=(escape_id("=u=c"),), alias="=u=a=20b")]
    (answer,) = shell.subscribe("#server-to-user-=u=a=20b", auth="")
    assert answer["event"] == "pusher_internal:subscription_succeeded"
    assert shell.subscribes == [Subscribe("#server-to-user-=u=a=20b", topic=user_topic("=u=a=20b"))]
    assert shell.subscribe("#server-to-user-=u=b", auth="")[0]["event"] == "pusher:subscription_error"


def test_user_id_escaped_by_jobpush_names_the_same_user(shell) -> None:
    config = {"key": KEY, "secret": SECRET}
    answer = JobPush(**config).authenticate_user(SOCKET_ID, {"id": "a b", "watchlist": ["c d"]})

    shell.send("pusher:signin", answer)

    assert shell.users == [UserData("=u=a=20b", watchlist=("=u=c=20d",))]
    assert shell.subscribe("#server-to-user-=u=a=20b", auth="")[0]["event"] == "pusher_internal:subscription_succeeded"
    assert shell.subscribes[-1].topic is None
