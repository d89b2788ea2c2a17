"""What is served below /jobpush/."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from jobpush import JobPush
from jobpush.processes.embedded import EmbeddedRedis
from jobpush.store import Store
from jobpush.store.directory import RedisDirectory
from jobpush.web.flask.assets import script_name
from tests.gateway.client import TIMEOUT, data_of
from tests.gateway.conftest import Serve, Site
from tests.gateway.publishing import begin_workflow, publish, start, start_member
from tests.gateway.site import KEY, SECRET
from tests.gateway.web import request

OURS = {"X-Requested-With": "jobpush"}


# -- tasks -----------------------------------------------------------------------------------------------


def test_user_gets_own_tasks_newest_first(site: Site, store: Store) -> None:
    start(store, "42", "one")
    start(store, "43", "other")

    status, body = request(site, "GET", "/jobpush/tasks", user="42")
    one, _ = request(site, "GET", "/jobpush/tasks/one", user="42")
    others, error = request(site, "GET", "/jobpush/tasks/other", user="42")

    assert (status, one, others) == (200, 200, 404)
    assert [task["task_id"] for task in body["tasks"]] == ["one"]
    assert abs(body["time"] - time.time()) < TIMEOUT
    assert error["error"]["code"] == "task_not_found"
    assert request(site, "GET", "/jobpush/tasks")[0] == 401


@pytest.mark.parametrize("task_id", ["one", "a/b"])
def test_cancel_needs_the_owner_and_an_own_page(task_id: str, site: Site, store: Store) -> None:
    start(store, "42", task_id)
    path = f"/jobpush/tasks/{quote(task_id, safe='')}/cancel"

    assert request(site, "POST", path, user="42")[0] == 403
    assert request(site, "POST", path, user="42", headers={**OURS, "Origin": "http://evil.example"})[0] == 403
    assert request(site, "POST", path, headers=OURS)[0] == 401
    assert request(site, "POST", path, user="43", headers=OURS)[0] == 404
    assert not store.task(task_id).cancelling

    status, body = request(site, "POST", path, user="42", headers=OURS)

    assert (status, body) == (202, {"task_id": task_id, "state": "STARTED", "cancelling": True})
    assert store.task(task_id).cancelling


def test_children_of_a_workflow_are_paged_for_its_owner_only(site: Site, store: Store) -> None:
    begin_workflow(store, "42", "album", members=3)
    for number in range(3):
        start_member(store, "42", f"photo-{number}", "album")
    path = "/jobpush/tasks/album/children"

    _, all_of_them = request(site, "GET", path, user="42")
    _, page = request(site, "GET", f"{path}?start=1&limit=1", user="42")
    _, odd = request(site, "GET", f"{path}?start=-5&limit=x", user="42")

    assert [child["task_id"] for child in all_of_them["children"]] == ["photo-0", "photo-1", "photo-2"]
    assert {child["root_id"] for child in all_of_them["children"]} == {"album"}
    assert [child["task_id"] for child in page["children"]] == ["photo-1"]
    assert odd == all_of_them
    assert request(site, "GET", path, user="43")[0] == 404
    assert request(site, "GET", path)[0] == 401
    _, listed = request(site, "GET", "/jobpush/tasks", user="42")
    assert [task["task_id"] for task in listed["tasks"]] == ["album"]


# -- servers' requests ------------------------------------------------------------------------------------


def test_disconnect_closes_a_user_on_every_gateway(serve: Serve, store: Store) -> None:
    site = serve("--workers", "2")
    own = [site.sign_in("42") for _ in range(5)]
    stock = site.connect("42")
    stock.receive()
    stock.subscribe("news")
    other = site.sign_in("43")

    assert RedisDirectory(store).disconnect("42") == 6

    assert [client.wait_for_close() for client in (*own, stock)] == [4009] * 6
    start(store, "43", "one")
    assert data_of(other.receive())["task_id"] == "one"


def test_http_api_is_served_and_requires_a_signature(site: Site) -> None:
    assert request(site, "GET", "/apps/1/channels", is_json=False)[0] == 401


# -- event streams ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("server", ["gunicorn", "werkzeug"])
def test_event_stream_carries_the_same_messages_as_the_websocket(serve: Serve, store: Store, server: str) -> None:
    site = serve(server=server)
    start(store, "42", "one")

    with event_stream(site, "/jobpush/events?channels=news,private-user-43", user="42") as stream:
        messages = [next(stream)[1] for _ in range(6)]
        publish(store, "42", "one", 1)
        live = next(stream)[1]

    assert [(m["event"], m.get("channel")) for m in messages] == [
        ("pusher:connection_established", None),
        ("pusher:signin_success", None),
        ("pusher_internal:subscription_succeeded", "#server-to-user-42"),
        ("jobpush:task", "#server-to-user-42"),
        ("pusher_internal:subscription_succeeded", "news"),
        ("pusher:subscription_error", "private-user-43"),
    ]
    assert data_of(live)["current"] == 1


@pytest.mark.parametrize("is_new", [False, True])
def test_event_stream_resumes_each_of_its_channels(site: Site, store: Store, is_new: bool) -> None:
    store.trigger(["news"], "old", {})
    with event_stream(site, "/jobpush/events?channels=news", user="42") as stream:
        while next(stream)[1].get("channel") != "news":
            pass
        store.trigger(["#server-to-user-42"], "first", {})
        last_event_id, _ = next(stream)
    store.trigger(["news"], "second", {})
    store.trigger(["#server-to-user-42"], "third", {})

    since, headers = (f"&since={quote(last_event_id)}", {}) if is_new else ("", {"Last-Event-ID": last_event_id})
    with event_stream(site, f"/jobpush/events?channels=news{since}", user="42", headers=headers) as stream:
        missed = [message["event"] for message in (next(stream)[1] for _ in range(6))]

    assert [name for name in missed if not name.startswith("pusher")] == ["third", "second"]


def test_fifty_event_streams_need_no_threads(site: Site, store: Store) -> None:
    streams = [event_stream(site, "/jobpush/events", user="42") for _ in range(50)]
    opened = [stream.__enter__() for stream in streams]
    for stream in opened:
        while next(stream)[1]["event"] != "pusher_internal:subscription_succeeded":
            pass

    start(store, "42", "one")

    assert {data_of(next(stream)[1])["task_id"] for stream in opened} == {"one"}
    for stream in streams:
        stream.__exit__(None, None, None)


def test_quiet_event_stream_gets_comments(serve: Serve) -> None:
    site = serve(stream_heartbeat=0.1)

    with raw_stream(site, "/jobpush/events") as response:
        lines = iter(response.readline, b"")

        assert next(line for line in lines if line.startswith(b":")) == b":\n"


def test_unauthorized_event_stream_ends_like_a_websocket(serve: Serve) -> None:
    site = serve(signin_timeout=1)

    with event_stream(site, "/jobpush/events?channels=news") as stream:
        messages = [message for _, message in stream]

    assert messages[-1]["event"] == "pusher:error"
    assert messages[-1]["data"]["code"] == 4009


@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")
def test_event_stream_of_a_token_lasts_until_the_token_expires(site: Site, store: Store) -> None:
    start(store, "42", "one")
    assert request(site, "GET", "/jobpush/health/ready")[0] == 200
    token = JobPush(key=KEY, secret=SECRET, redis_url="redis://unused").token("42", ttl=1, channels=["private-team"])
    headers = {"Authorization": f"Bearer {token}"}

    with event_stream(site, "/jobpush/events?channels=private-team", headers=headers) as stream:
        messages = []
        while not messages or messages[-1]["event"] != "jobpush:signed_out":
            messages.append(next(stream)[1])

    events = [message["event"] for message in messages]
    assert "jobpush:signin_success" in events
    assert {data_of(m)["task_id"] for m in messages if m["event"] == "jobpush:task"} == {"one"}
    joined = [m["channel"] for m in messages if m["event"] == "pusher_internal:subscription_succeeded"]
    assert joined == ["#server-to-user-42", "private-team"]


@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")
def test_event_stream_of_a_refused_token_is_refused(site: Site) -> None:
    status, body = request(site, "GET", "/jobpush/events", user="42", headers={"Authorization": "Bearer a.b.c"})

    assert (status, body["error"]["code"]) == (401, "token_invalid")


def test_event_stream_of_a_foreign_page_is_refused(site: Site) -> None:
    status, _ = request(site, "GET", "/jobpush/events", user="42", headers={"Origin": "http://evil.example"})

    assert status == 403


# -- around it -------------------------------------------------------------------------------------------


def test_page_gets_the_url_of_the_gateway(site: Site) -> None:
    _, text = request(site, "GET", "/page", is_json=False)

    assert f'data-key="{KEY}"' in text
    assert f'src="/jobpush/static/{script_name()}"' in text
    assert request(site, "GET", "/jobpush/config")[1] == {"key": KEY, "path": "/app"}
    assert request(site, "GET", "/jobpush/static/jobpush.js", is_json=False)[0] == 200


def test_gateway_works_below_a_prefix(serve: Serve, store: Store) -> None:
    site = serve(environment={"SCRIPT_NAME": "/shop"})

    _, text = request(site, "GET", "/shop/page", is_json=False)
    client = site.connect("42", path=f"/shop/app/{KEY}?protocol=7&client=jobpush")

    assert 'data-root="/shop"' in text
    assert client.receive()["event"] == "pusher:connection_established"
    assert request(site, "GET", "/shop/jobpush/tasks", user="42")[0] == 200


def test_readiness_follows_redis(redis_server: EmbeddedRedis, site: Site) -> None:
    site.sign_in("42")
    assert request(site, "GET", "/jobpush/health/ready")[0] == 200

    redis_server.kill()
    client = site.connect("42")  # the hub has seen the end of its Redis connections before this one arrives
    client.receive()
    status, body = request(site, "GET", "/jobpush/health/ready")

    assert (status, body["error"]["code"]) == (503, "redis_away")
    assert request(site, "GET", "/jobpush/health/live")[0] == 200
    assert request(site, "GET", "/jobpush/tasks", user="42")[0] == 503


# -- helpers ---------------------------------------------------------------------------------------------


@contextmanager
def raw_stream(
    site: Site, path: str, *, user: str | None = None, headers: dict[str, str] | None = None
) -> Iterator[http.client.HTTPResponse]:
    """An open response."""
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=TIMEOUT)
    connection.request("GET", path, headers={**(headers or {}), **({"Cookie": f"user={user}"} if user else {})})
    response = connection.getresponse()
    assert response.headers["Content-Type"] == "text/event-stream; charset=utf-8", response.read()
    yield response
    response.close()
    connection.close()


@contextmanager
def event_stream(site: Site, path: str, **options: Any) -> Iterator[Iterator[tuple[str, dict[str, Any]]]]:
    """Id and message of each event, as a browser keeps and hands them out."""
    with raw_stream(site, path, **options) as response:
        yield read_events(response)


def read_events(response: http.client.HTTPResponse) -> Iterator[tuple[str, dict[str, Any]]]:
    """Source: HTML standard, "Interpreting an event stream"."""
    last_event_id, data = "", ""
    for line in iter(response.readline, b""):
        name, _, value = line.decode().rstrip("\n").partition(": ")
        if name == "id":
            last_event_id = value
        elif name == "data":
            data = value
        elif not name and data:
            yield last_event_id, json.loads(data)
            data = ""


def test_request_of_a_foreign_page_is_logged_since_its_browser_hides_the_reason(serve: Serve, tmp_path: Path) -> None:
    log = tmp_path / "log"
    site = serve(log=log)

    for _ in range(2):
        assert request(site, "GET", "/jobpush/config", headers={"Origin": "http://localhost:5173"})[0] == 200

    lines = [line for line in log.read_text().splitlines() if "A request is refused" in line]
    assert len(lines) == 1
    assert "Origin http://localhost:5173 is not allowed" in lines[0]
