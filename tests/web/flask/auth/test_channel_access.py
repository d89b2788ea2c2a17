"""Access to channels for the user of the session, by Pusher's auth endpoints."""

from __future__ import annotations

import json

from jobpush.signing import verify_auth
from jobpush.store import Store
from tests.gateway.client import data_of
from tests.gateway.conftest import Site
from tests.gateway.publishing import start
from tests.gateway.site import KEY, SECRET
from tests.gateway.web import SOCKET_ID, authorize, request


def test_user_may_subscribe_to_own_and_allowed_channels(site: Site, store: Store) -> None:
    start(store, "42", "mine")

    for channel in ("private-user-42", "private-task-mine", "private-team"):
        status, body = authorize(site, channel, user="42")
        assert status == 200
        assert verify_auth(KEY, [SECRET], f"{SOCKET_ID}:{channel}", body["auth"])


def test_user_may_not_subscribe_to_other_channels(site: Site) -> None:
    for channel in ("private-user-43", "private-task-none", "private-other", "news", "private-a b", ""):
        status, body = authorize(site, channel, user="42")

        assert (status, body["error"]["code"]) == (403, "forbidden"), channel


def test_anonymous_visitor_may_subscribe_to_no_private_channel(site: Site, store: Store) -> None:
    start(store, "42", "one")

    for channel in ("private-user-42", "private-task-one", "private-team", "presence-room"):
        assert authorize(site, channel)[0] == 403


def test_presence_auth_carries_the_user_info_of_the_application(site: Site) -> None:
    status, body = authorize(site, "presence-room", user="42")

    assert status == 200
    assert json.loads(body["channel_data"]) == {"user_id": "42", "user_info": {"name": "Mx 42"}}
    assert verify_auth(KEY, [SECRET], f"{SOCKET_ID}:presence-room:{body['channel_data']}", body["auth"])


def test_user_auth_signs_in_the_user_of_the_session(site: Site) -> None:
    client = site.connect()
    socket_id = data_of(client.receive())["socket_id"]

    _, auth = request(site, "POST", "/jobpush/user-auth", user="42", form={"socket_id": socket_id})
    client.send("pusher:signin", auth)

    assert client.receive()["event"] == "pusher:signin_success"
    assert request(site, "POST", "/jobpush/user-auth", form={"socket_id": socket_id})[0] == 403


def test_auth_needs_a_socket_id_and_an_own_page(site: Site) -> None:
    without, _ = request(site, "POST", "/jobpush/auth", user="42", form={"channel_name": "private-user-42"})
    foreign, _ = authorize(site, "private-user-42", user="42", headers={"Origin": "http://evil.example"})

    assert (without, foreign) == (400, 403)
