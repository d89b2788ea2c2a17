"""Pusher's HTTP API: signatures with every habit of the SDKs, exact bodies and status codes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import quote, urlencode

import pytest
from flask import Flask
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.test import Client, TestResponse

from jobpush import signing
from jobpush.config import Config
from jobpush.errors import StoreError, TaskNotFound
from jobpush.store import Notification
from jobpush.web.flask.http_api import HttpApi

# The credentials and the request of Pusher's worked example.
KEY, SECRET, NOW = "278d425bdf160c739803", "7ad3773142a6692b25b8", 1353088179
EXAMPLE_BODY = b'{"name":"foo","channels":["project-3"],"data":"{\\"some\\":\\"data\\"}"}'
EXAMPLE_QUERY = (
    "auth_key=278d425bdf160c739803&auth_timestamp=1353088179&auth_version=1.0"
    "&body_md5=ec365a775a4cd0599faeb73354201b6f"
    "&auth_signature=da454824c97ba181a32ccc17a72625ba02771f50b50e1e7430e47a1f3f457e6c"
)
CONFIG = Config(app_id="3", key=KEY, secret=SECRET)


@dataclass
class Cached:
    data: str
    ttl: int


@dataclass
class Info:
    subscription_count: int = 0
    user_count: int = 0
    cache: Cached | None = None


@dataclass
class Backend:
    """Remembers what is published, and knows a handful of channels and users."""

    published: list[Notification] = field(default_factory=list)
    disconnected: list[str] = field(default_factory=list)
    failure: Exception | None = None
    known: Mapping[str, Info] = field(
        default_factory=lambda: {
            "news": Info(2),
            "presence-a": Info(3, 2),
            "presence-b": Info(1, 1),
            "cache-a": Info(1, 0, Cached('{"x":1}', 60)),
            "cache-b": Info(1),
        }
    )
    online: tuple[str, ...] = ("1", "a:b")

    def trigger_batch(self, notifications: Sequence[Notification]) -> None:
        if self.failure is not None:
            raise self.failure
        self.published += notifications

    def channels(self, prefix: str) -> Mapping[str, Info]:
        return {name: info for name, info in self.known.items() if name.startswith(prefix)}

    def channel(self, name: str) -> Info:
        return self.known.get(name, Info())

    def member_ids(self, channel: str) -> Iterable[str]:
        return ["1", "jane+test@x.com"] if channel == "presence-a" else []

    def online_users(self, cursor: str | None) -> tuple[Iterable[str], str | None]:
        return (self.online[1:], None) if cursor else (self.online[:1], "more")

    def user(self, user_id: str) -> int:
        return 2 if user_id in self.online else 0

    def disconnect(self, user_id: str) -> None:
        self.disconnected.append(user_id)


def make_app(backend: Backend, url_prefix: str | None = None, config: Config = CONFIG) -> Flask:
    app = Flask(__name__)
    app.register_blueprint(HttpApi(config, backend, backend, clock=lambda: NOW).blueprint(), url_prefix=url_prefix)
    return app


@pytest.fixture
def backend() -> Backend:
    return Backend()


@pytest.fixture
def client(backend: Backend) -> Client:
    return make_app(backend).test_client()


def signed_query(method: str, path: str, body: bytes = b"", *, secret: str = SECRET, **parameters: str) -> str:
    """The query of a request as an SDK makes it; a parameter that is given replaces the SDK's own."""
    query = {"auth_key": KEY, "auth_timestamp": str(NOW), "auth_version": "1.0"}
    if body:
        query["body_md5"] = hashlib.md5(body, usedforsecurity=False).hexdigest()
    query.update(parameters)
    query["auth_signature"] = signing.sign(secret, signing.http_text(method, path, query))
    return urlencode(query)


def post(client: Client, path: str, members: object, **parameters: str) -> TestResponse:
    body = members if isinstance(members, bytes) else json.dumps(members).encode()
    return client.post(f"{path}?{signed_query('POST', path, body, **parameters)}", data=body)


def get(client: Client, path: str, **parameters: str) -> TestResponse:
    return client.get(f"{path}?{signed_query('GET', path, **parameters)}")


def trigger(client: Client, **members: object) -> TestResponse:
    return post(client, "/apps/3/events", {"name": "foo", "channels": ["a"], "data": "{}", **members})


def assert_success(response: TestResponse, body: object) -> None:
    assert response.status_code == 200, response.text
    assert response.mimetype == "application/json"
    assert response.json == body


def assert_refused(response: TestResponse, status: int, text: str = "") -> None:
    assert response.status_code == status, response.text
    assert response.mimetype == "application/json"
    assert text in response.json["error"]


# -- signatures ------------------------------------------------------------------------------------------


def test_documented_request_is_accepted(client, backend) -> None:
    response = client.post(f"/apps/3/events?{EXAMPLE_QUERY}", data=EXAMPLE_BODY)

    assert response.data == b"{}"
    assert_success(response, {})
    assert backend.published == [(("project-3",), "foo", '{"some":"data"}', None)]


def test_error_page_of_the_application_does_not_replace_an_answer(backend) -> None:
    app = make_app(backend)
    for status in (400, 401, 404, 413):
        app.register_error_handler(status, lambda error: "<h1>Sorry</h1>")

    assert_refused(get(app.test_client(), "/apps/4/channels"), 404, "no application")
    assert_refused(app.test_client().get("/apps/3/channels"), 401)


def test_old_request_is_refused(backend) -> None:
    app = Flask(__name__)
    app.register_blueprint(HttpApi(CONFIG, backend, backend, clock=lambda: NOW + 601).blueprint())

    assert_refused(app.test_client().post(f"/apps/3/events?{EXAMPLE_QUERY}", data=EXAMPLE_BODY), 401, "within 600 s")
    assert backend.published == []


@pytest.mark.parametrize("offset", [-600, 0, 600])
def test_clock_difference_of_ten_minutes_is_accepted(client, offset) -> None:
    assert get(client, "/apps/3/channels", auth_timestamp=str(NOW + offset)).status_code == 200


@pytest.mark.parametrize("timestamp", [str(NOW - 601), str(NOW + 601), "", "now", "-1", "1e9", "1" * 5000])
def test_timestamp_out_of_range_is_refused(client, timestamp) -> None:
    assert_refused(get(client, "/apps/3/channels", auth_timestamp=timestamp), 401, "auth_timestamp")


@pytest.mark.parametrize(
    ("parameters", "text"),
    [
        ({"auth_key": "other"}, "auth_key"),
        ({"auth_key": ""}, "auth_key"),
        ({"auth_version": "2.0"}, "auth_version"),
        ({"secret": "other"}, "Invalid signature"),
    ],
)
def test_wrong_credentials_are_refused(client, parameters, text) -> None:
    assert_refused(get(client, "/apps/3/channels", **parameters), 401, text)


def test_request_without_any_signature_is_refused(client) -> None:
    assert_refused(client.get("/apps/3/channels"), 401)
    assert_refused(client.post("/users/1/terminate_connections"), 401)


def test_modified_query_is_refused(client) -> None:
    query = signed_query("GET", "/apps/3/channels")

    assert_refused(client.get(f"/apps/3/channels?{query}&filter_by_prefix=presence-"), 401, "Invalid signature")
    assert_refused(client.get(f"/apps/3/users?{query}"), 401, "Invalid signature")


def test_modified_body_is_refused(client, backend) -> None:
    other = EXAMPLE_BODY.replace(b"foo", b"bar")

    assert_refused(client.post(f"/apps/3/events?{EXAMPLE_QUERY}", data=other), 401, "body_md5")
    assert backend.published == []


def test_body_without_its_hash_is_refused(client) -> None:
    query = signed_query("POST", "/apps/3/events")

    assert_refused(client.post(f"/apps/3/events?{query}", data=EXAMPLE_BODY), 401, "body_md5")


def test_get_with_the_hash_of_an_empty_body_is_accepted(client) -> None:
    empty = hashlib.md5(b"", usedforsecurity=False).hexdigest()

    assert get(client, "/apps/3/channels", body_md5=empty).status_code == 200


def test_signature_covers_values_before_url_encoding(client) -> None:
    path = "/apps/3/channels"
    query = {
        "auth_key": KEY,
        "auth_timestamp": str(NOW),
        "auth_version": "1.0",
        "info": "user_count,subscription_count",
    }
    query["filter_by_prefix"] = "presence-@=;ü "
    signature = signing.sign(SECRET, signing.http_text("GET", path, query))

    response = client.get(f"{path}?{urlencode({**query, 'auth_signature': signature})}")

    assert_success(response, {"channels": {}})


def test_unknown_application_is_not_found(client) -> None:
    assert_refused(get(client, "/apps/4/channels"), 404, "no application '4'")


# -- prefixes and proxies --------------------------------------------------------------------------------


@pytest.mark.parametrize("signed", ["/push/apps/3/channels", "/apps/3/channels"])
def test_signature_may_include_the_blueprint_prefix(backend, signed) -> None:
    client = make_app(backend, "/push").test_client()

    assert client.get(f"/push/apps/3/channels?{signed_query('GET', signed)}").status_code == 200


@pytest.mark.parametrize("signed", ["/mount/apps/3/channels", "/apps/3/channels"])
def test_signature_may_include_the_mount_point(backend, signed) -> None:
    client = Client(DispatcherMiddleware(Flask("root"), {"/mount": make_app(backend)}))

    assert client.get(f"/mount/apps/3/channels?{signed_query('GET', signed)}").status_code == 200


@pytest.mark.parametrize("fixed", [True, False])
@pytest.mark.parametrize("signed", ["/outside/apps/3/channels", "/apps/3/channels"])
def test_signature_may_include_a_prefix_stripped_by_a_proxy(backend, signed, fixed) -> None:
    app = make_app(backend)
    client = Client(ProxyFix(app, x_prefix=1) if fixed else app)
    query = signed_query("GET", signed)

    response = client.get(f"/apps/3/channels?{query}", headers={"X-Forwarded-Prefix": "/outside"})

    assert response.status_code == 200


def test_signature_of_another_path_is_refused(client) -> None:
    query = signed_query("GET", "/other/apps/3/channels")

    assert_refused(client.get(f"/apps/3/channels?{query}"), 401)


@pytest.mark.parametrize("encode_path", [str, lambda path: quote(path, safe="/")])
def test_signature_may_cover_the_path_before_or_after_url_encoding(client, encode_path) -> None:
    plain = "/apps/3/channels/a=b@c;d"
    query = signed_query("GET", encode_path(plain))

    assert client.get(f"{quote(plain)}?{query}").status_code == 200


# -- POST events -----------------------------------------------------------------------------------------


def test_one_channel_or_many_are_published_at_once(client, backend) -> None:
    assert_success(trigger(client, channels=None, channel="one"), {})
    assert_success(trigger(client, channels=["a", "private-b", "#server-to-user-42"]), {})

    assert [channels for channels, *_ in backend.published] == [("one",), ("a", "private-b", "#server-to-user-42")]


def test_socket_can_be_excluded(client, backend) -> None:
    trigger(client, socket_id="123.456")

    assert backend.published == [(("a",), "foo", "{}", "123.456")]


@pytest.mark.parametrize(
    ("data", "published"),
    [("text", "text"), ("", ""), ({"a": [1]}, '{"a":[1]}'), (5, "5"), (None, "null"), ([], "[]")],
)
def test_data_other_than_text_is_encoded_once(client, backend, data, published) -> None:
    trigger(client, data=data)

    assert backend.published[0][2] == published


@pytest.mark.parametrize(
    ("members", "text"),
    [
        ({"name": None}, "event name"),
        ({"name": ""}, "event name"),
        ({"name": "x" * 201}, "201 characters"),
        ({"name": "pusher:error"}, "reserved for the protocol"),
        ({"channels": []}, "one or more"),
        ({"channels": "a"}, "must be a list"),
        ({"channels": [5]}, "must be text"),
        ({"channels": ["a b"]}, "channel name"),
        ({"channels": ["x" * 201]}, "201 characters"),
        ({"channels": ["#a"]}, "channel name"),
        ({"channels": None}, "must be text"),
        ({"channels": [f"c{i}" for i in range(101)]}, "100 are allowed"),
        ({"channels": ["private-encrypted-a", "b"]}, "its own key"),
        ({"socket_id": "1"}, "socket_id"),
        ({"socket_id": "1.1 2"}, "socket_id"),
        ({"socket_id": 1.1}, "socket_id"),
        ({"info": "colour"}, "info has no 'colour' here"),
        ({"info": 5}, "info must be text"),
    ],
)
def test_invalid_event_is_refused(client, backend, members, text) -> None:
    assert_refused(trigger(client, **members), 400, text)
    assert backend.published == []


def test_missing_data_is_refused(client) -> None:
    assert_refused(post(client, "/apps/3/events", {"name": "foo", "channel": "a"}), 400, "data is missing")


@pytest.mark.parametrize("body", [b"", b"text", b"[]", b"\xff", b"[" * 5000, b'{"a":NaN}', b"9" * 5000])
@pytest.mark.parametrize("path", ["/apps/3/events", "/apps/3/batch_events"])
def test_body_other_than_a_json_object_is_refused(client, path, body) -> None:
    assert_refused(post(client, path, body), 400, "the body")


def test_hundred_channels_are_published(client, backend) -> None:
    assert trigger(client, channels=[f"c{i}" for i in range(100)]).status_code == 200
    assert len(backend.published[0][0]) == 100


def test_limit_of_channels_is_configurable(backend) -> None:
    client = make_app(backend, config=Config(app_id="3", key=KEY, secret=SECRET, max_channels_per_trigger=5000))
    client = client.test_client()

    assert trigger(client, channels=[f"c{i}" for i in range(5000)]).status_code == 200


def test_data_beyond_10_kb_is_too_large(client, backend) -> None:
    assert trigger(client, data="ü" * 5120).status_code == 200

    assert_refused(trigger(client, data="ü" * 5121), 413, "10242 bytes")
    assert len(backend.published) == 1


def test_oversized_body_is_refused_unread(client) -> None:
    body = b"x" * (CONFIG.max_body + 1)

    assert_refused(post(client, "/apps/3/events", body), 413, "1048576 are allowed")


def test_body_of_unknown_length_is_refused(client) -> None:
    path = f"/apps/3/events?{EXAMPLE_QUERY}"

    response = client.post(path, data=EXAMPLE_BODY, headers={"Transfer-Encoding": "chunked"})

    assert_refused(response, 400, "Content-Length")


def test_info_is_returned_for_channels_it_applies_to(client) -> None:
    response = trigger(client, channels=["presence-a", "news", "nobody"], info="user_count,subscription_count")

    assert_success(
        response,
        {
            "channels": {
                "presence-a": {"subscription_count": 3, "user_count": 2},
                "news": {"subscription_count": 2},
                "nobody": {"subscription_count": 0},
            }
        },
    )


@pytest.mark.parametrize(
    ("failure", "status", "text"),
    [
        (TaskNotFound("d1c2"), 404, "d1c2"),
        (StoreError("redis://user:password@host is away"), 503, "Redis does not answer"),
    ],
)
def test_store_error_is_reported_without_details(client, backend, failure, status, text) -> None:
    backend.failure = failure

    response = trigger(client)

    assert_refused(response, status, text)
    assert "password" not in response.text


# -- POST batch_events -----------------------------------------------------------------------------------


def batch(client: Client, *events: object, **parameters: str) -> TestResponse:
    return post(client, "/apps/3/batch_events", {"batch": events}, **parameters)


def test_batch_is_published_in_order(client, backend) -> None:
    first = {"name": "one", "channel": "a", "data": "1", "socket_id": "1.1"}
    second = {"name": "two", "channel": "b", "data": {"x": 1}}

    response = batch(client, first, second)

    assert response.data == b"{}"
    assert_success(response, {})
    assert backend.published == [(("a",), "one", "1", "1.1"), (("b",), "two", '{"x":1}', None)]


def test_info_of_a_batch_is_returned_by_position(client) -> None:
    response = batch(
        client,
        {"name": "e", "channel": "presence-a", "data": "", "info": "user_count"},
        {"name": "e", "channel": "news", "data": ""},
        {"name": "e", "channel": "news", "data": "", "info": "subscription_count"},
    )

    assert_success(response, {"batch": [{"user_count": 2}, {}, {"subscription_count": 2}]})


def test_batch_is_published_completely_or_not_at_all(client, backend) -> None:
    good = {"name": "e", "channel": "a", "data": ""}

    assert_refused(batch(client, good, {"name": "e", "channel": "a b", "data": ""}), 400, "channel name")
    assert_refused(batch(client, good, {"name": "e", "channel": "a", "data": "x" * 10_241}), 413)
    assert_refused(batch(client, good, "text"), 400, "list of events")
    assert_refused(batch(client, *[good] * 11), 400, "10 are allowed")
    assert backend.published == []


def test_batch_must_be_a_list(client) -> None:
    assert_refused(post(client, "/apps/3/batch_events", {"batch": {}}), 400, "list of events")
    assert_refused(post(client, "/apps/3/batch_events", {}), 400, "list of events")
    assert_success(batch(client), {})


# -- questions -------------------------------------------------------------------------------------------


def test_channels_are_listed_without_attributes(client) -> None:
    response = get(client, "/apps/3/channels")

    assert_success(
        response, {"channels": {"news": {}, "presence-a": {}, "presence-b": {}, "cache-a": {}, "cache-b": {}}}
    )


def test_channels_are_filtered_and_counted(client) -> None:
    response = get(client, "/apps/3/channels", filter_by_prefix="presence-", info="user_count")

    assert_success(response, {"channels": {"presence-a": {"user_count": 2}, "presence-b": {"user_count": 1}}})


@pytest.mark.parametrize("prefix", ["", "private-", "presence"])
def test_users_are_counted_on_presence_channels_only(client, prefix) -> None:
    assert_refused(get(client, "/apps/3/channels", filter_by_prefix=prefix, info="user_count"), 400, "user_count")
    assert get(client, "/apps/3/channels", filter_by_prefix=prefix, info="subscription_count").status_code == 200


@pytest.mark.parametrize(
    ("channel", "info", "body"),
    [
        ("news", "", {"occupied": True}),
        ("nobody", "", {"occupied": False}),
        ("news", "subscription_count", {"occupied": True, "subscription_count": 2}),
        (
            "presence-a",
            "user_count,subscription_count",
            {"occupied": True, "user_count": 2, "subscription_count": 3},
        ),
        ("cache-a", "cache", {"occupied": True, "cache": {"data": '{"x":1}', "ttl": 60}}),
        ("cache-b", "cache", {"occupied": True, "cache": None}),
    ],
)
def test_one_channel_is_described(client, channel, info, body) -> None:
    assert_success(get(client, f"/apps/3/channels/{channel}", **({"info": info} if info else {})), body)


@pytest.mark.parametrize(
    ("channel", "info"), [("news", "user_count"), ("news", "cache"), ("presence-a", "cache"), ("news", "colour")]
)
def test_unsupported_attribute_of_a_channel_is_refused(client, channel, info) -> None:
    assert_refused(get(client, f"/apps/3/channels/{channel}", info=info), 400, f"info has no '{info}' here")


def test_invalid_channel_name_is_refused(client) -> None:
    path = "/apps/3/channels/a b"

    assert_refused(client.get(f"{quote(path)}?{signed_query('GET', path)}"), 400, "channel name")


def test_users_of_a_presence_channel_are_listed(client) -> None:
    assert_success(
        get(client, "/apps/3/channels/presence-a/users"), {"users": [{"id": "1"}, {"id": "jane+test@x.com"}]}
    )
    assert_refused(get(client, "/apps/3/channels/news/users"), 400, "only presence channels")


def test_online_users_are_paged(client) -> None:
    assert_success(get(client, "/apps/3/users"), {"users": [{"id": "1"}], "next": "more"})
    assert_success(get(client, "/apps/3/users", cursor="more"), {"users": [{"id": "=u=a=3Ab"}], "next": None})


@pytest.mark.parametrize(
    ("user_id", "body"),
    [
        ("1", {"id": "1", "online": True, "connections": 2}),
        ("9", {"id": "9", "online": False, "connections": 0}),
        ("=u=a=3Ab", {"id": "=u=a=3Ab", "online": True, "connections": 2}),
        ("a:b", {"id": "=u=a=3Ab", "online": True, "connections": 2}),
    ],
)
def test_online_state_of_one_user_is_returned(client, user_id, body) -> None:
    assert_success(get(client, f"/apps/3/users/{user_id}"), body)


# -- terminate connections -------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/apps/3/users/1/terminate_connections", "/users/1/terminate_connections"])
@pytest.mark.parametrize("body", [b"", b"{}"])
def test_connections_of_a_user_are_terminated_also_by_the_short_path(client, backend, path, body) -> None:
    response = post(client, path, body)

    assert response.data == b"{}"
    assert_success(response, {})
    assert backend.disconnected == ["1"]


def test_short_path_works_below_a_prefix(backend) -> None:
    client = make_app(backend, "/push").test_client()
    query = signed_query("POST", "/users/1/terminate_connections")

    assert client.post(f"/push/users/1/terminate_connections?{query}").status_code == 200


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_other_methods_are_refused(client, method) -> None:
    assert client.open("/apps/3/events", method=method).status_code == 405
