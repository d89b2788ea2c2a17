"""Presence: members, occupancy, watchlists and webhooks, over one gateway and several."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from jobpush.events import RESYNC_EVENT
from jobpush.processes.embedded import EmbeddedRedis
from jobpush.signing import channel_auth, user_auth
from jobpush.store import Store
from jobpush.store.directory import RedisDirectory
from tests.effort import thorough
from tests.faults.processes import paused
from tests.waiting import wait_until

from .client import Client, data_of, events_of
from .conftest import Serve, Site
from .site import KEY, SECRET
from .web import call_api, request

ROOM = "presence-room"
ADDED = "pusher_internal:member_added"
REMOVED = "pusher_internal:member_removed"
WATCHLIST = "pusher_internal:watchlist_events"
COUNT = "pusher_internal:subscription_count"
#: Seconds. Short, so that a test sees it pass; a lease must outlive a busy machine's worst moment.
GRACE, LEASE = 0.5, 3.0
#: For who comes back within it: so long that no busy machine lets it pass.
LONG_GRACE = 3.0


@pytest.fixture
def site(serve: Serve) -> Site:
    """One gateway with a short grace."""
    return serve(grace=GRACE, lease=LEASE)


@pytest.fixture
def webhooks(redis_url: str) -> Iterator[Webhooks]:
    """The webhook events, as other servers would get them."""
    with redis.Redis.from_url(redis_url, protocol=2) as client:
        yield Webhooks(client)


class Webhooks:
    """Reads the stream of webhooks."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._last = "0"

    def until(self, **wanted: Any) -> list[dict[str, Any]]:
        """All events since the last time, up to one that has these members."""
        events: list[dict[str, Any]] = []
        while not any(wanted.items() <= event.items() for event in events):
            reply: Any = self._client.xread({"jobpush:{webhooks}:stream": self._last}, block=10_000)
            assert reply, f"{wanted} never came, but {events}"
            for entry_id, fields in reply[0][1]:
                self._last = entry_id.decode()
                events.append(json.loads(fields[b"e"]))
        return events


def connect(site: Site) -> tuple[Client, str]:
    """A stock client's connection, and its socket id."""
    client = site.connect()
    return client, client.socket_id


def join(site: Site, user: str, channel: str = ROOM, **user_info: str) -> tuple[Client, dict[str, Any]]:
    """Return a connection that is subscribed to a presence channel as a user, with the members it received."""
    client = site.connect()
    return client, data_of(ask_to_join(client, user, channel, **user_info))["presence"]


def ask_to_join(client: Client, user: str, channel: str = ROOM, **user_info: str) -> dict[str, Any]:
    """The answer to a connection that wants to join a presence channel as a user."""
    return client.subscribe(channel, **right_to_join(client, user, channel, **user_info))[-1]


def right_to_join(client: Client, user: str, channel: str = ROOM, **user_info: str) -> dict[str, str]:
    """What a connection has to show if it wants to join a presence channel as a user."""
    channel_data = json.dumps({"user_id": user, "user_info": user_info})
    return {"auth": channel_auth(KEY, SECRET, client.socket_id, channel, channel_data), "channel_data": channel_data}


def sign_in(site: Site, user: str, watchlist: list[str] | None = None) -> Client:
    """A stock client's connection that has signed in."""
    client, socket_id = connect(site)
    user_data = json.dumps({"id": user, "watchlist": watchlist or []})
    client.send("pusher:signin", {"auth": user_auth(KEY, SECRET, socket_id, user_data), "user_data": user_data})
    client.receive_until(lambda message: message["event"] == "pusher:signin_success")
    return client


def next_change(client: Client) -> tuple[str, str]:
    """Who comes or goes next."""
    message = client.receive_until(lambda message: message["event"] not in (RESYNC_EVENT, "pusher:ping"))[-1]
    assert message["event"] in (ADDED, REMOVED), message
    return message["event"], data_of(message)["user_id"]


def next_watched(client: Client) -> dict[str, list[str]]:
    """Return the content of the next watchlist event."""
    message = client.receive()
    assert message["event"] == WATCHLIST
    assert "channel" not in message
    return {event["name"]: event["user_ids"] for event in data_of(message)["events"]}


# -- members ---------------------------------------------------------------------------------------------


def test_members_get_the_roster_and_then_added_and_removed_events(site: Site) -> None:
    ada, first = join(site, "ada", name="Ada")
    bob, second = join(site, "bob", name="Bob")

    assert first == {"ids": ["ada"], "hash": {"ada": {"name": "Ada"}}, "count": 1}
    assert second["hash"] == {"ada": {"name": "Ada"}, "bob": {"name": "Bob"}}
    added = ada.receive()
    assert (added["event"], data_of(added)) == (ADDED, {"user_id": "bob", "user_info": {"name": "Bob"}})

    bob.send("pusher:unsubscribe", {"channel": ROOM})

    assert next_change(ada) == (REMOVED, "bob")


def test_members_of_other_gateways_are_included(serve: Serve) -> None:
    here, there = serve(grace=GRACE), serve(grace=GRACE)
    ada, _ = join(here, "ada", name="Ada")

    bob, members = join(there, "bob", name="Bob")

    assert members["hash"] == {"ada": {"name": "Ada"}, "bob": {"name": "Bob"}}
    assert next_change(ada) == (ADDED, "bob")
    bob.send("pusher:unsubscribe", {"channel": ROOM})
    assert next_change(ada) == (REMOVED, "bob")


@thorough
def test_user_info_of_the_authorization_reaches_the_other_members(site: Site) -> None:
    ada, _ = join(site, "ada")
    bob = site.connect("bob")
    socket_id = data_of(bob.receive())["socket_id"]

    form = {"socket_id": socket_id, "channel_name": ROOM}
    _, answer = request(site, "POST", "/jobpush/auth", form=form, user="bob")
    bob.subscribe(ROOM, **answer)

    assert data_of(ada.receive()) == {"user_id": "bob", "user_info": {"name": "Mx bob"}}


def test_several_tabs_are_one_member(serve: Serve) -> None:
    here, there = serve(grace=GRACE), serve(grace=GRACE)
    ada, _ = join(here, "ada")
    tabs = [join(where, "bob")[0] for where in (here, here, there)]

    assert next_change(ada) == (ADDED, "bob")
    for tab in tabs[:2]:
        tab.send("pusher:unsubscribe", {"channel": ROOM})
    join(here, "meanwhile")
    assert next_change(ada) == (ADDED, "meanwhile")
    tabs[2].send("pusher:unsubscribe", {"channel": ROOM})
    assert next_change(ada) == (REMOVED, "bob")
    join(there, "end")
    assert next_change(ada) == (ADDED, "end")


def test_navigation_between_pages_announces_nothing(serve: Serve, webhooks: Webhooks) -> None:
    sites = [serve(grace=LONG_GRACE, webhook_urls="https://example.com/") for _ in range(2)]
    for site in sites:
        connect(site)  # else a grace would pass while the second one starts
    ada, _ = join(sites[0], "ada")
    bob, _ = join(sites[0], "bob")
    assert next_change(ada) == (ADDED, "bob")

    for number in range(1, 5):
        bob.hang_up()
        bob, _ = join(sites[number % 2], "bob")
    last, _ = join(sites[0], "last")
    last.hang_up()

    assert [next_change(ada), next_change(ada)] == [(ADDED, "last"), (REMOVED, "last")]
    published = [(event["name"], event.get("user_id")) for event in webhooks.until(name="member_removed")]
    assert published == [
        ("channel_occupied", None),
        ("member_added", "ada"),
        ("member_added", "bob"),
        ("member_added", "last"),
        ("member_removed", "last"),
    ]


def test_full_channel_admits_existing_members_only(serve: Serve) -> None:
    here, there = (serve(grace=GRACE, max_members=2) for _ in range(2))
    (ada, _), (bob, _) = join(here, "ada"), join(there, "bob")
    assert next_change(ada) == (ADDED, "bob")
    join(there, "ada")  # another tab

    tabs = [connect(where)[0] for where in (here, here, there)]
    refused = [ask_to_join(tab, "carol") for tab in tabs]

    assert [answer["event"] for answer in refused] == ["pusher:subscription_error"] * 3
    assert refused[0]["data"] == {
        "type": "LimitReached",
        "status": 429,
        "error": "A presence channel may have 2 members",
    }
    bob.send("pusher:unsubscribe", {"channel": ROOM})
    assert next_change(ada) == (REMOVED, "bob")
    assert data_of(ask_to_join(tabs[0], "carol"))["presence"]["ids"] == ["ada", "carol"]
    assert next_change(ada) == (ADDED, "carol")


@thorough
def test_second_tab_is_refused_by_a_full_channel_like_the_first(serve: Serve, redis_server: EmbeddedRedis) -> None:
    """It asks before Redis has answered the first."""
    site = serve(max_members=1)
    join(site, "ada")
    (first, _), (second, _), (witness, _) = connect(site), connect(site), connect(site)

    with paused([redis_server.pid]):
        for tab in (first, second):
            tab.send("pusher:subscribe", {"channel": ROOM, **right_to_join(tab, "carol")})
            witness.send("pusher:ping")
            witness.receive()  # so that the hub reports each to Redis in a separate wake-up
    answers = [tab.receive()["event"] for tab in (first, second)]

    assert answers == ["pusher:subscription_error"] * 2


def test_member_with_a_lost_socket_is_removed_after_the_grace(site: Site) -> None:
    ada, _ = join(site, "ada")
    bob, _ = join(site, "bob")

    bob.hang_up()

    assert [next_change(ada), next_change(ada)] == [(ADDED, "bob"), (REMOVED, "bob")]


def test_unsubscribed_member_is_removed_at_once(serve: Serve) -> None:
    site = serve(grace=3_600)
    ada, _ = join(site, "ada")
    bob, _ = join(site, "bob")

    bob.send("pusher:unsubscribe", {"channel": ROOM})

    assert [next_change(ada), next_change(ada)] == [(ADDED, "bob"), (REMOVED, "bob")]


def test_only_the_members_of_a_killed_gateway_are_removed(serve: Serve, store: Store) -> None:
    here, there = serve(lease=LEASE), serve(lease=LEASE)
    ada, _ = join(here, "ada")
    both_here, _ = join(here, "both")
    join(there, "both")
    for user in ("bob", "carol"):
        join(there, user)
    assert {next_change(ada) for _ in range(3)} == {(ADDED, "both"), (ADDED, "bob"), (ADDED, "carol")}

    there.kill()

    assert {next_change(ada), next_change(ada)} == {(REMOVED, "bob"), (REMOVED, "carol")}
    both_here.send("pusher:unsubscribe", {"channel": ROOM})
    assert next_change(ada) == (REMOVED, "both")
    assert RedisDirectory(store).users_in(ROOM) == ["ada"]


@thorough
def test_gateway_declared_dead_restores_its_statements(serve: Serve) -> None:
    here, there = serve(lease=LEASE), serve(lease=LEASE)
    ada, _ = join(here, "ada")
    bob, _ = join(there, "bob")
    assert next_change(ada) == (ADDED, "bob")

    os.killpg(there.process.pid, signal.SIGSTOP)
    assert next_change(ada) == (REMOVED, "bob")
    os.killpg(there.process.pid, signal.SIGCONT)

    assert next_change(ada) == (ADDED, "bob")
    bob.send("pusher:unsubscribe", {"channel": ROOM})
    assert next_change(ada) == (REMOVED, "bob")


@thorough
def test_clients_of_a_stopped_gateway_stay_present(serve: Serve) -> None:
    here, there = serve(grace=LONG_GRACE), serve(grace=LONG_GRACE)
    ada, _ = join(here, "ada")
    bob, _ = join(there, "bob")
    carol, _ = join(there, "carol")

    there.stop()  # the grace begins before its processes have ended
    join(here, "bob")

    news = [next_change(ada) for _ in range(3)]
    assert news == [(ADDED, "bob"), (ADDED, "carol"), (REMOVED, "carol")]


@thorough
def test_presence_is_restored_quietly_in_an_emptied_redis(serve: Serve, store: Store) -> None:
    sites = [serve(grace=GRACE, lease=LEASE) for _ in range(2)]
    (ada, _), (bob, _) = join(sites[0], "ada"), join(sites[1], "bob")
    assert next_change(ada) == (ADDED, "bob")

    store.run([("FLUSHALL",)])
    carol, _ = join(sites[1], "carol")

    assert [next_change(client) for client in (ada, bob)] == [(ADDED, "carol")] * 2
    wait_for_members(store, ["ada", "bob", "carol"])
    carol.send("pusher:unsubscribe", {"channel": ROOM})
    assert [next_change(client) for client in (ada, bob)] == [(REMOVED, "carol")] * 2
    dora, members = join(sites[0], "dora")
    assert sorted(members["ids"]) == ["ada", "bob", "dora"]


@thorough
def test_member_of_a_gateway_that_dies_during_an_outage_is_removed(serve: Serve, redis_server: EmbeddedRedis) -> None:
    here, there, elsewhere = (serve(grace=GRACE, lease=LEASE) for _ in range(3))
    (ada, _), (bob, _), _ = join(here, "ada"), join(there, "bob"), join(elsewhere, "carol")
    assert [next_change(ada), next_change(ada), next_change(bob)] == [
        (ADDED, "bob"),
        (ADDED, "carol"),
        (ADDED, "carol"),
    ]

    redis_server.kill()
    elsewhere.kill()
    redis_server.restart(keep_data=False)

    assert next_change(ada) == (REMOVED, "carol")
    assert next_change(bob) == (REMOVED, "carol")


def wait_for_members(store: Store, wanted: list[str]) -> None:
    """Wait until the gateways have repeated their statements; each checks three times per lease."""
    directory = RedisDirectory(store)
    while sorted(directory.users_in(ROOM)) != wanted:
        pass


# -- users -----------------------------------------------------------------------------------------------


def wait_until_online(store: Store, *users: str) -> None:
    """Wait until Redis knows that these users are online: a gateway answers a sign-in without waiting for that."""
    directory = RedisDirectory(store)
    wait_until(lambda: all(map(directory.user, users)))


def test_watchlist_gets_the_online_users_and_then_changes(serve: Serve, store: Store) -> None:
    here, there = serve(grace=GRACE), serve(grace=GRACE)
    sign_in(there, "bob")
    wait_until_online(store, "bob")

    ada = sign_in(here, "ada", ["bob", "carol"])

    assert next_watched(ada) == {"online": ["bob"], "offline": ["carol"]}
    carol = sign_in(there, "carol")
    assert next_watched(ada) == {"online": ["carol"]}
    carol.hang_up()
    assert next_watched(ada) == {"offline": ["carol"]}


def test_second_watcher_gets_the_known_state_at_once(site: Site) -> None:
    ada = sign_in(site, "ada", ["bob"])
    assert next_watched(ada) == {"offline": ["bob"]}

    carol = sign_in(site, "carol", ["bob", "ada"])

    assert next_watched(carol) == {"online": ["ada"], "offline": ["bob"]}
    sign_in(site, "bob")
    assert [next_watched(client) for client in (ada, carol)] == [{"online": ["bob"]}] * 2


@thorough
def test_watchlist_is_correct_after_redis_returns_empty(
    serve: Serve, redis_server: EmbeddedRedis, store: Store
) -> None:
    here, there, elsewhere = (serve(grace=GRACE, lease=LEASE) for _ in range(3))
    sign_in(there, "bob")
    sign_in(elsewhere, "carol")
    wait_until_online(store, "bob", "carol")
    ada = sign_in(here, "ada", ["bob", "carol"])
    assert next_watched(ada) == {"online": ["bob", "carol"]}

    redis_server.kill()
    elsewhere.kill()
    redis_server.restart(keep_data=False)

    assert next_watched(ada) == {"offline": ["carol"]}


def test_disconnect_closes_all_connections_of_a_user_at_once_and_for_good(serve: Serve, store: Store) -> None:
    sites = [serve(grace=3_600) for _ in range(2)]
    watcher = sign_in(sites[0], "ada", ["bob"])
    assert next_watched(watcher) == {"offline": ["bob"]}
    clients = [sign_in(site, "bob") for site in sites]
    assert next_watched(watcher) == {"online": ["bob"]}
    for client in clients:
        client.subscribe("#server-to-user-bob")

    count = RedisDirectory(store).disconnect("bob")

    assert count == 2
    assert [client.wait_for_close() for client in clients] == [4009, 4009]
    assert next_watched(watcher) == {"offline": ["bob"]}


# -- counts and webhooks ---------------------------------------------------------------------------------


def test_subscribers_get_the_subscription_count(serve: Serve) -> None:
    sites = [serve(subscription_count=True) for _ in range(2)]
    first, _ = connect(sites[0])
    first.subscribe("news")
    assert data_of(first.receive()) == {"subscription_count": 1}

    second, _ = connect(sites[1])
    second.subscribe("news")

    assert data_of(second.receive()) == {"subscription_count": 2}
    assert data_of(first.receive()) == {"subscription_count": 2}
    second.send("pusher:unsubscribe", {"channel": "news"})
    assert (message := first.receive())["event"] == COUNT
    assert data_of(message) == {"subscription_count": 1}


def test_channel_is_occupied_while_another_gateway_has_subscribers(serve: Serve, webhooks: Webhooks) -> None:
    sites = [serve(webhook_urls="https://example.com/") for _ in range(2)]
    clients = [connect(site)[0] for site in sites]
    for client in clients:
        client.subscribe("news")

    for number, client in enumerate(clients):
        client.send("pusher:unsubscribe", {"channel": "news"})
        client.subscribe(f"after-{number}")

    published = webhooks.until(name="channel_occupied", channel="after-1")
    names = [(event["name"], event["channel"]) for event in published]
    assert names == [
        ("channel_occupied", "news"),
        ("channel_occupied", "after-0"),
        ("channel_vacated", "news"),
        ("channel_occupied", "after-1"),
    ]


def test_webhook_stream_gets_every_presence_event(serve: Serve, webhooks: Webhooks) -> None:
    site = serve(grace=GRACE, webhook_urls="https://example.com/")

    ada, _ = join(site, "ada")
    assert [event["name"] for event in webhooks.until(name="member_added")] == ["channel_occupied", "member_added"]
    bob, _ = join(site, "bob")
    bob.send("client-typing", {"on": True}, channel=ROOM)
    typing = ada.receive_until(lambda message: message["event"] == "client-typing")[-1]
    assert (typing["user_id"], data_of(typing)) == ("bob", {"on": True})
    (event,) = [one for one in webhooks.until(name="client_event") if one["name"] == "client_event"]
    assert event["user_id"] == "bob" and event["channel"] == ROOM and event["event"] == "client-typing"
    assert json.loads(event["data"]) == {"on": True}

    user = sign_in(site, "42")
    webhooks.until(name="user_online", user_id="42")
    user.hang_up()
    webhooks.until(name="user_offline", user_id="42")

    client, _ = connect(site)
    client.subscribe("cache-scores")
    assert client.receive()["event"] == "pusher:cache_miss"
    webhooks.until(name="cache_miss", channel="cache-scores")

    bob.send("pusher:unsubscribe", {"channel": ROOM})
    ada.send("pusher:unsubscribe", {"channel": ROOM})
    names = [(event["name"], event.get("user_id")) for event in webhooks.until(name="channel_vacated")]
    assert names == [("member_removed", "bob"), ("member_removed", "ada"), ("channel_vacated", None)]


def test_cached_event_and_its_resumption_are_no_cache_miss(site: Site, store: Store) -> None:
    store.trigger(["cache-scores"], "score", 1)
    client, _ = connect(site)

    client.subscribe("cache-scores")
    cached = client.receive()
    second, _ = connect(site)
    second.subscribe("cache-scores", since=cached["id"])
    store.trigger(["cache-scores"], "score", 2)

    assert events_of([cached, client.receive(), second.receive()]) == ["score"] * 3


# -- the HTTP API ----------------------------------------------------------------------------------------


def test_http_api_lists_channels_of_all_gateways(serve: Serve) -> None:
    sites = [serve() for _ in range(2)]
    for site in sites:
        join(site, "ada")
        connect(site)[0].subscribe("news")

    every = call_api(sites[0], "GET", "/apps/1/channels", info="subscription_count")
    rooms = call_api(sites[0], "GET", "/apps/1/channels", filter_by_prefix="presence-", info="user_count")
    room = call_api(sites[1], "GET", f"/apps/1/channels/{ROOM}", info="user_count,subscription_count")

    assert every == (200, {"channels": {"news": {"subscription_count": 2}, ROOM: {"subscription_count": 2}}})
    assert rooms == (200, {"channels": {ROOM: {"user_count": 1}}})
    assert room == (200, {"occupied": True, "user_count": 1, "subscription_count": 2})


@thorough
def test_http_api_lists_members_of_all_gateways(serve: Serve) -> None:
    sites = [serve() for _ in range(2)]
    for site, user in zip(sites, ("ada", "=u=b=3Ab"), strict=True):
        join(site, user)

    status, body = call_api(sites[0], "GET", f"/apps/1/channels/{ROOM}/users")

    assert status == 200
    assert sorted(user["id"] for user in body["users"]) == ["=u=b=3Ab", "ada"]


def test_http_api_lists_and_disconnects_online_users(serve: Serve) -> None:
    sites = [serve() for _ in range(2)]
    clients = []
    for site, user in ((sites[0], "ada"), (sites[1], "ada"), (sites[1], "bob")):
        clients.append(sign_in(site, user))
        clients[-1].subscribe(f"#server-to-user-{user}")

    everybody = call_api(sites[0], "GET", "/apps/1/users")
    ada = call_api(sites[0], "GET", "/apps/1/users/ada")
    end = call_api(sites[1], "POST", "/apps/1/users/ada/terminate_connections")

    assert everybody == (200, {"users": [{"id": "ada"}, {"id": "bob"}], "next": None})
    assert ada == (200, {"id": "ada", "online": True, "connections": 2})
    assert end == (200, {})
    assert [client.wait_for_close() for client in clients[:2]] == [4009, 4009]


def test_receipt_counts_subscribed_connections_only(site: Site, store: Store) -> None:
    directory = RedisDirectory(store)
    client = sign_in(site, "42")
    watch_until_online(site, "42")
    receipts = [store.trigger(["#server-to-user-42"], "hello", {}).connections]

    client.subscribe("#server-to-user-42")
    receipts.append(store.trigger(["#server-to-user-42"], "hello", {}).connections)
    client.receive_until(lambda message: message["event"] == "hello")
    client.subscribe("private-user-42")
    receipts.append(store.trigger(["#server-to-user-42"], "hello", {}).connections)
    for channel in ("#server-to-user-42", "private-user-42"):
        client.send("pusher:unsubscribe", {"channel": channel})
    client.subscribe("news")
    receipts.append(store.trigger(["#server-to-user-42"], "hello", {}).connections)

    assert receipts == [0, 1, 1, 0]
    assert directory.is_online("42")


def watch_until_online(site: Site, user: str) -> None:
    """Wait until Redis knows a user's connection."""
    watcher = sign_in(site, "watcher", [user])
    while user not in next_watched(watcher).get("online", []):
        pass
