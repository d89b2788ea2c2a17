"""Connection tokens in the protocol: sign-in, refresh, the rights that they give, and the end of these rights."""

from __future__ import annotations

import json
import time
from dataclasses import replace

import pytest

from jobpush.protocol.actions import CheckToken, Member, SignOut, Subscribe, UserData
from jobpush.tokens import ConnectionToken, TokenExpired

OWN = "#server-to-user-42"
TOKEN = ConnectionToken("42", expires_at=time.time() + 3_600)


def accept(shell, token=TOKEN, expires_in=60.0) -> list:
    return shell.perform(shell.protocol.token_accepted(token, shell.now, expires_in))


def data_of(message) -> dict:
    return json.loads(message["data"])


@pytest.mark.parametrize("data", [{"token": "abc"}, '{"token":"abc"}'])
def test_token_is_passed_to_the_host(shell, data) -> None:
    actions = shell.protocol.receive(json.dumps({"event": "jobpush:signin", "data": data}), shell.now)

    assert actions == [CheckToken("abc")]
    assert "abc" not in repr(actions)


@pytest.mark.parametrize("data", [None, {}, {"token": 5}, {"token": None}, "abc", "{", [], 5])
def test_token_other_than_text_is_refused_and_the_connection_stays(shell, data) -> None:
    (message,) = shell.send("jobpush:signin", data)

    assert message["event"] == "jobpush:signin_error"
    assert data_of(message)["code"] == "token_invalid"
    assert shell.close is None
    assert shell.protocol.user is None


def test_accepted_token_signs_in_and_subscribes_to_the_user_channel(make_shell) -> None:
    shell = make_shell().open(announce_user=True, since="5-0")

    success, subscribed = accept(shell, replace(TOKEN, user_info='{"name":"Ada"}', watchlist=("7",)))

    assert success["event"] == "jobpush:signin_success"
    assert data_of(success) == {"user_id": "42", "expires_at": TOKEN.expires_at}
    assert subscribed["channel"] == OWN
    assert shell.users == [UserData("42", '{"name":"Ada"}', ("7",))]
    assert shell.subscribes == [Subscribe(OWN, since="5-0")]


def test_refresh_keeps_the_subscriptions_and_extends_the_expiry(shell) -> None:
    accept(shell, expires_in=10)
    shell.pass_time(9)

    assert [message["event"] for message in accept(shell, expires_in=10)] == ["jobpush:signin_success"]
    shell.pass_time(9)

    assert shell.channels == {OWN}
    assert shell.protocol.user == UserData("42")


@pytest.mark.parametrize("signed_in_by", ["token", "session"])
def test_refresh_for_another_user_is_refused_and_changes_nothing(make_shell, signed_in_by) -> None:
    shell = make_shell().open(user=UserData("42") if signed_in_by == "session" else None)
    if signed_in_by == "token":
        accept(shell)

    (message,) = accept(shell, ConnectionToken("43", expires_at=TOKEN.expires_at))

    assert data_of(message)["code"] == "token_other_user"
    assert shell.protocol.user == UserData("42")


def test_failed_refresh_keeps_the_user_until_the_expiry(shell) -> None:
    accept(shell, expires_in=10)

    (message,) = shell.perform(shell.protocol.token_refused(TokenExpired("the token has expired")))

    assert data_of(message) == {"code": "token_expired", "message": "the token has expired"}
    assert shell.pass_time(9) == []
    assert [message["event"] for message in shell.pass_time(1)] == ["jobpush:signed_out"]


def test_expiry_removes_the_user_and_private_channels(shell) -> None:
    accept(shell, replace(TOKEN, channels=("presence-*",), tasks=("t1",)), expires_in=10)
    for channel in ("news", "presence-a", "private-task-t1", "private-user-42"):
        shell.subscribe(channel)
    shell.subscribe_signed("private-signed")

    (message,) = shell.pass_time(10)

    assert data_of(message) == {"reason": "token_expired"}
    assert shell.channels == {"news"}
    assert shell.signed_out == [SignOut("42")]
    assert shell.protocol.user is None
    assert shell.pass_time(1) == []
    assert shell.subscribe("presence-a")[0]["event"] == "pusher:subscription_error"
    accept(shell, ConnectionToken("43", expires_at=TOKEN.expires_at))
    assert shell.protocol.user == UserData("43")


def test_expiry_waits_for_a_pending_subscription(shell) -> None:
    accept(shell, expires_in=10)
    pending = shell.protocol.receive('{"event":"pusher:subscribe","data":{"channel":"private-user-42"}}', shell.now)
    shell.now += 60
    assert shell.protocol.tick(shell.now, is_subscribing=True) == []
    assert shell.protocol.end_rights("signed_out") == []

    shell.perform(pending)
    (message,) = shell.pass_time(1)

    assert data_of(message) == {"reason": "signed_out"}
    assert shell.channels == set()


def test_channel_of_a_claim_needs_no_signature(shell) -> None:
    accept(shell, replace(TOKEN, channels=("private-team", "presence-*"), tasks=("t1",), user_info='{"name":"Ada"}'))

    for channel in ("private-team", "presence-x", "private-task-t1"):
        assert shell.subscribe(channel)[-1]["event"] == "pusher_internal:subscription_succeeded"

    assert shell.subscribes[2] == Subscribe("presence-x", member=Member("42", '{"name":"Ada"}'), is_claimed=True)


def test_unsigned_channel_data_is_ignored(shell) -> None:
    accept(shell, replace(TOKEN, channels=("presence-*",)))

    shell.subscribe("presence-x", channel_data='{"user_id":"admin"}')

    assert shell.subscribes[-1].member == Member("42", "{}")


@pytest.mark.parametrize(
    "channel", ["private-team-2", "presence-y", "private-user-7", "#server-to-user-7", "private-encrypted-x"]
)
def test_channel_outside_the_claim_is_refused(shell, channel) -> None:
    accept(shell, replace(TOKEN, channels=("private-team", "presence-x"), tasks=("t1",)))

    (message,) = shell.subscribe(channel)

    assert (message["event"], message["data"]["status"]) == ("pusher:subscription_error", 401)
    assert shell.subscribe("private-task-t2")[0]["event"] == "pusher:subscription_error"


def test_refresh_unsubscribes_channels_it_no_longer_covers(shell) -> None:
    accept(shell, replace(TOKEN, channels=("private-a", "private-b")))
    for channel in ("private-a", "private-b"):
        shell.subscribe(channel)
    shell.subscribe_signed("private-signed")

    messages = accept(shell, replace(TOKEN, channels=("private-b",)))

    assert [(message["event"], message.get("channel")) for message in messages] == [
        ("jobpush:signin_success", None),
        ("pusher:subscription_error", "private-a"),
    ]
    assert shell.channels == {OWN, "private-b", "private-signed"}


def test_sign_out_ends_the_rights_of_a_session(make_shell) -> None:
    shell = make_shell().open(user=UserData("42"), announce_user=True)

    messages = shell.perform(shell.protocol.end_rights("signed_out"))

    assert [data_of(message) for message in messages] == [{"reason": "signed_out"}]
    assert (shell.channels, shell.protocol.user) == (set(), None)
    assert shell.perform(shell.protocol.end_rights("signed_out")) == []


def test_repeated_refused_tokens_close_the_connection(shell) -> None:
    while shell.close is None:
        shell.send("jobpush:signin", {"token": 5})
        assert len(shell.messages) < 100

    assert shell.close.code == 4100
