"""Handshake, first message, pings and time limits."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest

from jobpush.config import Config
from jobpush.protocol import codes, handshake, messages
from jobpush.protocol.actions import Close, UserData
from jobpush.protocol.server import answer

CONFIG = Config(key="key", secret="secret")


def test_protocol_imports_no_sockets_or_frameworks() -> None:
    program = (
        "import sys, pkgutil, importlib, uuid\n"  # on Python 3.10 uuid imports subprocess
        "before = set(sys.modules)\n"
        "import jobpush.protocol as package\n"
        "for module in pkgutil.iter_modules(package.__path__):\n"
        "    importlib.import_module(f'jobpush.protocol.{module.name}')\n"
        "print(*set(sys.modules) - before)"
    )

    modules = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout.split()

    assert "jobpush.protocol.server" in modules
    forbidden = "socket _socket select selectors asyncio flask werkzeug redis celery wsproto".split()
    assert not set(forbidden).intersection(modules)
    assert not [
        name
        for name in modules
        if name.startswith(("jobpush.gateway", "jobpush.reporting", "jobpush.queues", "jobpush.web", "jobpush.store"))
    ]


def test_first_message_is_encoded_twice(shell) -> None:
    assert shell.messages == [
        {
            "event": "pusher:connection_established",
            "data": '{"socket_id":"1234.1234","activity_timeout":120}',
        }
    ]


def test_jobpush_client_gets_the_time_of_the_gateway() -> None:
    frame = messages.connection_established("1.2", 120, 1700000000.1234)

    assert json.loads(json.loads(frame)["data"]) == {
        "socket_id": "1.2",
        "activity_timeout": 120,
        "time": 1700000000.123,
    }


def test_socket_ids_have_the_form_the_sdks_require() -> None:
    ids = {handshake.new_socket_id() for _ in range(100)}

    assert len(ids) == 100
    assert all(re.fullmatch(r"\d+\.\d+", socket_id) for socket_id in ids)


@pytest.mark.parametrize("version", ["5", "6", "7"])
def test_protocols_5_to_7_are_supported(version) -> None:
    handshake.check_version({"protocol": version})


@pytest.mark.parametrize(
    ("query", "error", "code"),
    [
        ({}, codes.MissingVersion, 4008),
        ({"protocol": ""}, codes.MissingVersion, 4008),
        ({"protocol": "seven"}, codes.InvalidVersion, 4006),
        ({"protocol": "7.0"}, codes.InvalidVersion, 4006),
        ({"protocol": "٧"}, codes.InvalidVersion, 4006),
        ({"protocol": "9" * 5000}, codes.InvalidVersion, 4006),
        ({"protocol": "4"}, codes.UnsupportedVersion, 4007),
        ({"protocol": "8"}, codes.UnsupportedVersion, 4007),
        ({"protocol": "20"}, codes.UnsupportedVersion, 4007),
    ],
)
def test_other_versions_are_refused(query, error, code) -> None:
    with pytest.raises(error) as caught:
        handshake.check_version(query)

    told, close = answer(caught.value)
    assert json.loads(told.text) == {"event": "pusher:error", "data": {"code": code, "message": error.sentence}}
    assert close == Close(code, error.sentence)


@pytest.mark.parametrize("key", ["", "KEY", "keys", "ké\ud800"])
def test_unknown_key_is_refused(key) -> None:
    handshake.check_app(CONFIG, "key")

    with pytest.raises(codes.UnknownApp) as caught:
        handshake.check_app(CONFIG, key)

    assert answer(caught.value)[-1].code == 4001


@pytest.mark.parametrize(
    ("error", "close_code"),
    [
        (codes.TlsRequired, 4000),
        (codes.UnknownApp, 4001),
        (codes.NotAuthorized, 4009),
        (codes.OverCapacity, 4100),
        (codes.Reconnect, 4200),
        (codes.PongMissing, 4201),
        (codes.Inactive, 4202),
        (codes.InvalidMessage, None),
        (codes.ClientEventRejected, None),
        (codes.WatchlistTooLong, None),
    ],
)
def test_range_of_a_code_decides_whether_it_closes(error, close_code) -> None:
    actions = answer(error())

    closes = [action.code for action in actions if isinstance(action, Close)]
    assert closes == ([] if close_code is None else [close_code])


def test_reasons_of_closes_fit_into_a_control_frame() -> None:
    leaves = [codes.UnknownApp, codes.PongMissing, codes.NotAuthorized, codes.MessageTooBig]

    for leaf in leaves:
        close = answer(leaf("x" * 500))[-1]
        assert len(close.reason.encode()) <= 123  # RFC 6455, 5.5: 125 bytes with the code


def test_ping_is_answered(shell) -> None:
    assert shell.send("pusher:ping", {}) == [{"event": "pusher:pong", "data": {}}]
    assert shell.send_text('{"event":"pusher:ping"}') == [{"event": "pusher:pong", "data": {}}]


@pytest.mark.parametrize("text", ['{"event":"pusher:subscribe","data":{"channel":"news"}}', '{"event":"x"}', "…"])
def test_other_messages_wait_for_a_pending_subscription(shell, text) -> None:
    assert shell.protocol.receive_early(text, shell.now) is None


def test_pings_and_pongs_do_not_wait_for_a_pending_subscription(shell) -> None:
    early = [shell.protocol.receive_early(f'{{"event":"pusher:{name}"}}', shell.now) for name in ("ping", "pong")]

    assert [shell.perform(actions) for actions in early] == [[{"event": "pusher:pong", "data": {}}], []]


def test_client_with_a_pending_subscription_gets_no_ping(make_shell) -> None:
    shell = make_shell(signin_timeout=10).open()

    assert [shell.protocol.tick(shell.now + seconds, is_subscribing=True) for seconds in (11, 500)] == [[], []]


def test_silent_client_is_pinged_and_then_closed(shell) -> None:
    assert shell.pass_time(24) == []
    assert shell.pass_time(1) == [{"event": "pusher:ping", "data": {}}]
    assert shell.pass_time(29) == []

    shell.pass_time(1)

    assert shell.close == Close(4201, codes.PongMissing.sentence)
    assert shell.pass_time(1000) == []


@pytest.mark.parametrize("sign_of_life", ["pong", "control frame", "nonsense"])
def test_any_received_message_answers_a_ping(shell, sign_of_life) -> None:
    shell.pass_time(25)
    shell.now += 29

    if sign_of_life == "pong":
        assert shell.send("pusher:pong", {}) == []
    elif sign_of_life == "control frame":
        shell.protocol.touch(shell.now)
    else:
        shell.send_text("…")

    assert shell.pass_time(24) == []
    assert shell.pass_time(1) == [{"event": "pusher:ping", "data": {}}]
    assert shell.close is None


@pytest.mark.parametrize(("settings", "seconds"), [({}, 25), ({"activity_timeout": 10}, 10), ({"ping_interval": 3}, 3)])
def test_gateway_pings_before_a_proxy_with_a_limit_of_60_seconds_cuts(make_shell, settings, seconds) -> None:
    shell = make_shell(**settings).open()

    assert shell.pass_time(seconds - 1) == []
    assert shell.pass_time(1) == [{"event": "pusher:ping", "data": {}}]
    assert json.loads(shell.messages[0]["data"])["activity_timeout"] == settings.get("activity_timeout", 120)


@pytest.mark.parametrize("is_pinging", [True, False])
def test_connection_idle_for_a_day_is_closed(shell, is_pinging) -> None:
    shell.subscribe("news")
    shell.send("pusher:unsubscribe", {"channel": "news"})
    for _ in range(24 * 60):
        assert shell.close is None
        shell.pass_time(60)
        shell.send("pusher:ping" if is_pinging else "pusher:pong", {})
    shell.pass_time(120)

    assert shell.close == Close(4202, codes.Inactive.sentence)


@pytest.mark.parametrize("use", ["a channel", "a user", "a message now and then", "no limit"])
def test_active_connection_stays_open(make_shell, use) -> None:
    shell = make_shell(idle_timeout=0 if use == "no limit" else 86_400).open()
    if use == "a channel":
        shell.subscribe("news")
    elif use == "a user":
        shell.sign_in({"id": "42"})

    for hour in range(72):
        shell.pass_time(3600)
        shell.send("pusher:ping", {})
        if use == "a message now and then" and hour % 23 == 0:
            shell.send("pusher:unsubscribe", {"channel": "news"})

    assert shell.close is None


def test_sign_in_is_optional_by_default(shell) -> None:
    shell.pass_time(100)

    assert shell.close is None


def test_connection_without_sign_in_in_time_is_closed(make_shell) -> None:
    shell = make_shell(ping_interval=120, signin_timeout=30.0).open()
    shell.subscribe("news")
    assert shell.pass_time(29) == []

    (told,) = shell.pass_time(1)

    assert told["data"] == {"code": 4009, "message": "Connection not authorized within timeout"}
    assert shell.close == Close(4009, "Connection not authorized")


@pytest.mark.parametrize("authorized_by", ["session", "sign-in", "private channel"])
def test_connection_authorized_in_time_stays_open(make_shell, authorized_by) -> None:
    shell = make_shell(ping_interval=120, signin_timeout=30.0)
    shell.open(user=UserData("42") if authorized_by == "session" else None)

    if authorized_by == "sign-in":
        shell.sign_in({"id": "42"})
    elif authorized_by == "private channel":
        shell.subscribe_signed("private-a")

    assert shell.pass_time(30) == []
    assert shell.close is None


def test_idle_connection_costs_less_than_a_kilobyte(make_shell) -> None:
    protocol = make_shell().open(user=UserData("42"), announce_user=True).protocol

    assert protocol.channels == {"#server-to-user-42"}
    assert _size_of(protocol, shared={id(protocol.config)}) < 1024


def _size_of(thing: object, shared: set[int]) -> int:
    if id(thing) in shared or thing is None or isinstance(thing, (bool, int, type)):
        return 0
    shared.add(id(thing))
    inner = [getattr(thing, name) for name in getattr(type(thing), "__slots__", ()) if not name.startswith("__")]
    if isinstance(thing, dict):
        inner += [*thing, *thing.values()]
    elif isinstance(thing, tuple):
        inner += thing
    return sys.getsizeof(thing) + sum(_size_of(part, shared) for part in inner)
