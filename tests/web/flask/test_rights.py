"""Isolation: cross-site requests, and user ids that look like patterns."""

from __future__ import annotations

import ast
import itertools
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis

import jobpush
from jobpush.channels import escape_user_id, user_channel, user_topic
from jobpush.config import Config
from jobpush.store import Store
from jobpush.store.directory import RedisDirectory
from jobpush.store.keys import Keys
from tests.gateway.client import TIMEOUT, Client, data_of
from tests.gateway.conftest import Site
from tests.gateway.publishing import start
from tests.gateway.web import SOCKET_ID, authorize, call_api, request, scrape

from .test_routes import OURS

PACKAGE = Path(jobpush.__file__).parent

#: Ids that mean something to a channel's name, to a key, to Redis's patterns, to a URL, to JSON or to a terminal.
ODD_IDS = [
    "*",
    "?",
    "[a-z]",
    "a*",
    "ab",
    "a:b",
    "a#b",
    "#server-to-user-42",
    "{42}",
    "42}",
    "42",
    "42:tasks",
    "channel:news",
    "=u=2A",
    "a b",
    "a\nb",
    "a/b/../c",
    "%2A",
    "a|b",
    'a"b',
    "日本",
    "e\u0301",
    "\u00e9",
    "\u202e",
]


# -- other sites' pages ----------------------------------------------------------------------------------

FORMS = [
    ("/jobpush/auth", {"socket_id": SOCKET_ID, "channel_name": "private-user-42"}),
    ("/jobpush/user-auth", {"socket_id": SOCKET_ID}),
]
FOREIGN = [
    {"Origin": "http://evil.example"},
    {"Origin": "null"},
    {"Origin": ""},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Origin": "http://evil.example", "Sec-Fetch-Site": "same-origin"},
]


def test_form_of_another_site_signs_nothing(site: Site) -> None:
    for (path, form), headers in itertools.product(FORMS, FOREIGN):
        status, body = request(site, "POST", path, user="42", form=form, headers=headers)
        assert (status, body["error"]["code"]) == (403, "forbidden_origin"), (path, headers)

    figures = scrape(site)
    assert figures['jobpush_refusals_total{reason="forbidden_origin"}'] == len(FORMS) * len(FOREIGN)


def test_own_page_and_a_client_that_is_no_browser_are_signed(site: Site) -> None:
    own = {"Origin": f"http://127.0.0.1:{site.port}", "Sec-Fetch-Site": "same-origin"}

    for (path, form), headers in itertools.product(FORMS, ({}, own)):
        assert request(site, "POST", path, user="42", form=form, headers=headers)[0] == 200


def test_image_of_another_site_uses_no_session(site: Site, store: Store) -> None:
    start(store, "42", "one")

    for path in ("/jobpush/tasks", "/jobpush/tasks/one", "/jobpush/tasks/one/children", "/jobpush/events"):
        status, body = request(site, "GET", path, user="42", headers={"Sec-Fetch-Site": "cross-site"})
        assert (status, body["error"]["code"]) == (403, "forbidden_origin"), path


def test_cancel_of_another_site_is_refused_whatever_it_sends(site: Site, store: Store) -> None:
    start(store, "42", "one")

    for headers in ({}, *({**OURS, **foreign} for foreign in FOREIGN)):
        assert request(site, "POST", "/jobpush/tasks/one/cancel", user="42", headers=headers)[0] == 403, headers

    assert not store.task("one").cancelling


def test_websocket_of_another_site_has_no_user(site: Site) -> None:
    for headers in FOREIGN:
        client = site.connect("42", client="jobpush", headers=headers)
        assert client.receive()["data"]["code"] == 4009, headers
        assert client.wait_for_close() == 4009
        assert client.received == []


# -- user ids --------------------------------------------------------------------------------------------


def test_users_with_any_id_receive_only_their_own_events(site: Site, store: Store, redis_url: str) -> None:
    with every_command(redis_url) as commands:
        clients = {user: site.sign_in(user) for user in ODD_IDS}
        directory = RedisDirectory(store)
        for number, user in enumerate(ODD_IDS):
            start(store, user, f"task-{number}")
        for number, user in enumerate(ODD_IDS):
            store.trigger([user_channel(user)], "hello", {"to": number})
        received = {user: own_events(client) for user, client in clients.items()}
        listed = {user: request(site, "GET", "/jobpush/tasks", user=user)[1]["tasks"] for user in ODD_IDS}
        online = {user for user in ODD_IDS if directory.user(user) == 1}
        found = [
            call_api(site, "GET", "/apps/1/channels", filter_by_prefix=prefix)[1] for prefix in ("*", "[a-z]", "?")
        ]
        # Now disconnect one user after the other; no other user may be affected.
        for user in ODD_IDS:
            directory.disconnect(user)
            assert clients.pop(user).wait_for_close() == 4009
            for other in itertools.islice(clients.values(), 1):
                other.send("pusher:ping")
                assert other.receive()["event"] == "pusher:pong"

    for number, user in enumerate(ODD_IDS):
        assert received[user] == [f"task-{number}", number], user
        assert [task["task_id"] for task in listed[user]] == [f"task-{number}"], user
    assert online == set(ODD_IDS)
    assert found == [{"channels": {}}] * 3
    assert_no_patterns(commands)


def own_events(client: Client) -> list[object]:
    """Return the events of a user up to the greeting: ids of tasks, and the addressee of the greeting."""
    messages = client.receive_until(lambda message: message["event"] == "hello")
    return [data.get("task_id", data.get("to")) for data in map(data_of, messages)]


def test_no_user_may_subscribe_to_channels_of_another(site: Site, store: Store) -> None:
    for number, user in enumerate(ODD_IDS):
        start(store, user, f"task-{number}")

    client = site.sign_in("*")
    own = escape_user_id("*")
    for number, user in enumerate(ODD_IDS):
        escaped = escape_user_id(user)
        for channel in (f"#server-to-user-{escaped}", f"private-user-{escaped}", f"private-task-task-{number}"):
            is_own = escaped == own
            if channel == f"#server-to-user-{own}":
                continue  # joined by its sign-in
            if not channel.startswith("#"):
                assert (authorize(site, channel, user="*")[0] == 200) is is_own, channel
            answer = client.subscribe(channel)[-1]["event"]
            assert (answer == "pusher_internal:subscription_succeeded") is is_own, channel


def test_patterns_sent_by_clients_are_refused_or_taken_literally(site: Site, store: Store, redis_url: str) -> None:
    with every_command(redis_url) as commands:
        client = site.connect("42")
        client.receive()
        answers = [client.subscribe(channel)[-1]["event"] for channel in ("news-*", "*", "news-[a]", "private-task-*")]
        client.subscribe("news-a")
        store.trigger(["news-a"], "hello", {})
        assert client.receive()["event"] == "hello"
        statuses = [
            request(site, "GET", f"/jobpush/tasks/{name}", user="42")[0] for name in ("*", "%5Ba%5D", "%2A:%2A")
        ]

    assert answers == ["pusher:subscription_error"] * 4
    assert statuses == [404] * 3
    assert_no_patterns(commands)


@contextmanager
def every_command(redis_url: str) -> Iterator[list[str]]:
    """Record all commands to Redis during the block, scripts included."""
    commands: list[str] = []
    # Without a time limit: nobody asks Redis for anything until the gateway has started.
    with redis.Redis.from_url(redis_url, socket_timeout=None) as client, client.monitor() as monitor:

        def listen() -> None:
            for one in monitor.listen():
                commands.append(one["command"])
                if one["command"].endswith("that was all"):
                    return

        thread = threading.Thread(target=listen)
        thread.start()
        yield commands
        client.echo("that was all")
        thread.join()


def assert_no_patterns(commands: list[str]) -> None:
    """Nobody has asked Redis for whatever matches something."""
    names = {command.split(" ", 1)[0].strip('"').upper() for command in commands}
    assert {"EVALSHA", "SUBSCRIBE"} <= names  # else nothing was seen
    assert not names & {"PSUBSCRIBE", "PUNSUBSCRIBE", "KEYS", "SCAN", "HSCAN", "SSCAN", "ZSCAN", "CONFIG"}


# -- neighbours in Redis ---------------------------------------------------------------------------------


def test_applications_with_different_prefixes_are_isolated(site: Site, store: Store, redis_url: str) -> None:
    neighbour = Store(Config(redis_url=redis_url, prefix="other", publish_timeout=TIMEOUT))
    client = site.sign_in("42")

    start(neighbour, "42", "theirs")
    assert neighbour.trigger([user_channel("42")], "theirs", {}).connections == 0
    start(store, "42", "ours")

    assert data_of(client.receive())["task_id"] == "ours"
    _, body = request(site, "GET", "/jobpush/tasks", user="42")
    assert [task["task_id"] for task in body["tasks"]] == ["ours"]
    neighbour.close()


def test_malformed_message_of_another_publisher_is_dropped(site: Site, store: Store, redis_url: str) -> None:
    client = site.sign_in("42")

    with redis.Redis.from_url(redis_url) as neighbour:
        for message in (b"", b"x", b"\n", b"a b c d e f\n", b"1-1 one x 0 -\n", b"\xff\xfe", b"{}" * 10_000):
            assert neighbour.publish(Keys("jobpush").topic(user_topic("42")), message) == 1
    start(store, "42", "ours")

    assert data_of(client.receive())["task_id"] == "ours"
    assert scrape(site)["jobpush_redis_reconnects_total"] == 0


# -- the code itself -------------------------------------------------------------------------------------


def test_package_uses_redis_patterns_only_in_the_demo_and_testing() -> None:
    words = re.compile(
        r"psubscribe|scan_iter|\bscan\(|\.keys\(\s*[\"'f]|[\"'](?:[HSZ]?SCAN|KEYS|PSUBSCRIBE)[\"']", re.I
    )
    sources = [*PACKAGE.rglob("*.py"), *PACKAGE.rglob("*.lua")]

    found = {path.name for path in sources if words.search(path.read_text())}

    assert found == {"demo_runner.py", "testing.py"}


def test_secrets_are_compared_in_constant_time() -> None:
    secret = re.compile(r"secret|token|signature|digest|password|^auth$|^auth_key$|^key$", re.I)
    compared = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Compare) and any(isinstance(op, (ast.Eq, ast.NotEq)) for op in node.ops):
                sides = [name_of(side) for side in (node.left, *node.comparators)]
                compared |= {(path.name, side) for side in sides if secret.search(side)}

    assert not compared


def name_of(node: ast.expr) -> str:
    """The last name of an expression, for example ``secret`` of ``self.config.secret``."""
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name) | ast.Subscript(slice=ast.Constant(value=str(name))):
            return name
        case ast.Call(func=function):
            return name_of(function)
    return ""
