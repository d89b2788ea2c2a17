"""Rotation of the secret: two are valid for a while, and the new one signs."""

from __future__ import annotations

import hashlib
import time
from typing import Any
from urllib.parse import urlencode

import pytest
from flask import Flask

from jobpush import JobPush, signing
from jobpush.config import Config
from jobpush.gateway import Gateway
from jobpush.signing import channel_auth, user_auth
from tests.gateway.client import data_of
from tests.gateway.conftest import Serve, Site
from tests.gateway.site import KEY, SECRET
from tests.gateway.web import authorize, request

OLD = "0123456789abcdef0123"


@pytest.fixture
def site(serve: Serve) -> Site:
    """A gateway that is in the middle of it."""
    return serve(previous_secret=OLD)


def test_both_secrets_are_valid_for_channels_users_and_servers(site: Site) -> None:
    for secret, is_good in ((SECRET, True), (OLD, True), ("guessed", False), ("", False)):
        assert_good(site, secret, is_good=is_good)


def assert_good(site: Site, secret: str, *, is_good: bool) -> None:
    """Whether what is signed with a secret passes everywhere, or nowhere."""
    client = site.connect()
    socket_id = data_of(client.receive())["socket_id"]

    joined = client.subscribe("private-team", auth=channel_auth(KEY, secret, socket_id, "private-team"))
    user_data = '{"id":"42"}'
    client.send("pusher:signin", {"auth": user_auth(KEY, secret, socket_id, user_data), "user_data": user_data})
    signed_in = client.receive()
    status, _ = call_api(site, secret)

    assert joined[-1]["event"] == ("pusher_internal:subscription_succeeded" if is_good else "pusher:subscription_error")
    assert signed_in["event"] == ("pusher:signin_success" if is_good else "pusher:error")
    assert status == (200 if is_good else 401)


def call_api(site: Site, secret: str) -> tuple[int, Any]:
    """A request of a server that knows this secret."""
    query = {"auth_key": KEY, "auth_timestamp": f"{time.time():.0f}", "auth_version": "1.0"}
    query["body_md5"] = hashlib.md5(b"", usedforsecurity=False).hexdigest()
    query["auth_signature"] = signing.sign(secret, signing.http_text("GET", "/apps/1/channels", query))
    return request(site, "GET", f"/apps/1/channels?{urlencode(query)}")


def test_new_secret_signs(site: Site) -> None:
    _, body = authorize(site, "private-user-42", user="42")
    both = JobPush(key=KEY, secret=SECRET, previous_secret=OLD)

    assert body["auth"] == channel_auth(KEY, SECRET, "123.456", "private-user-42")
    assert both.authorize_channel("123.456", "private-a")["auth"] == channel_auth(KEY, SECRET, "123.456", "private-a")
    assert both.authenticate_user("123.456", {"id": "42"})["auth"].startswith(KEY)


def test_empty_secret_is_invalid_without_a_previous_secret() -> None:
    app = Flask(__name__)
    Gateway(app, key=KEY, secret=SECRET, redis_url="redis://unused")

    assert Config(secret=SECRET).secrets == (SECRET,)
    assert app.extensions["jobpush"].config.secrets == (SECRET,)
