"""The OpenAPI document describes every route of the gateway, and its schemas fit the answers of a running one."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Iterator
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import yaml
from flask import Flask, request
from flask.testing import FlaskClient
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate
from werkzeug.test import TestResponse

from jobpush import Gateway, signing
from jobpush.events import TaskEvent, TaskState
from jobpush.store import Store
from jobpush.store.task_logs import LogEntry
from jobpush.testing import PATIENCE
from tests.gateway.publishing import finish, start

PAGES = Path(__file__).parents[2] / "docs" / "reference"
KEY, SECRET = "my-app", "0123456789abcdef0123456789abcdef"
OWN_SCRIPT = {"X-Requested-With": "jobpush"}
FORM = {"socket_id": "1.2", "channel_name": "presence-room"}


@cache
def document() -> dict[str, Any]:
    """Return the OpenAPI document."""
    document: dict[str, Any] = yaml.safe_load((PAGES / "openapi.yaml").read_text())
    return document


@pytest.fixture
def app(redis_url: str, store: Store) -> Iterator[Flask]:
    app = Flask(__name__, static_folder=None)
    settings = {"redis_url": redis_url, "key": KEY, "secret": SECRET, "metrics_token": "m", "publish_timeout": PATIENCE}
    gateway = Gateway(app, user_loader=lambda: request.headers.get("User"), **settings)
    gateway.authorize_channel(lambda user_id, channel: True)
    gateway.on_rerun(lambda task_id, name, user_id: True)
    start(store, "42", "runs")
    start(store, "42", "ended")
    finish(store, "42", "ended")
    store.append_log("42", "runs", [LogEntry("a line", "info", 1.0)])
    store.keep_notification("42", "message", {"text": "hello"}, title="Hello", url="/")
    yield app
    app.extensions["jobpush"].hub.stop()


def schema_of(path: str, method: str, response: TestResponse) -> Any:
    """Return the schema that the document gives for an answer."""
    operation = document()["paths"][path][method]
    answer = operation["responses"][str(response.status_code)]
    name = answer.get("$ref", "").rpartition("/")[2]
    answer = document()["components"]["responses"][name] if name else answer
    return answer["content"][response.mimetype]["schema"]


def call(client: FlaskClient, method: str, path: str, url: str, **options: Any) -> TestResponse:
    """Send a request, and check its answer against the document."""
    response = client.open(url, method=method.upper(), **options)
    schema = {**schema_of(path, method, response), "components": document()["components"]}
    assert list(Draft202012Validator(schema).iter_errors(response.get_json())) == [], (method, url, response.text)
    return response


def signed(method: str, url: str, **query: str) -> str:
    query = {"auth_key": KEY, "auth_timestamp": f"{time.time():.0f}", "auth_version": "1.0", **query}
    query["auth_signature"] = signing.sign(SECRET, signing.http_text(method.upper(), url, query))
    return f"{url}?{urlencode(query)}"


def test_document_is_valid() -> None:
    validate(document())


def test_document_has_every_route_and_method_and_no_other(app: Flask) -> None:
    routes = {
        (re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule), method.lower())
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }

    assert routes == {
        (path, method) for path, item in document()["paths"].items() for method in item if method != "parameters"
    }


def test_schema_of_a_task_has_its_fields() -> None:
    schemas = document()["components"]["schemas"]

    assert set(schemas["TaskEvent"]["properties"]) == {item.name for item in fields(TaskEvent)}
    assert set(schemas["TaskState"]["enum"]) == {state.value for state in TaskState}


CASES: list[tuple[str, str, str, int, dict[str, Any]]] = [
    ("get", "/jobpush/tasks", "/jobpush/tasks", 200, {}),
    ("get", "/jobpush/tasks", "/jobpush/tasks", 401, {"headers": {}}),
    ("get", "/jobpush/tasks", "/jobpush/tasks", 403, {"headers": {"Origin": "https://foreign.example"}}),
    ("get", "/jobpush/tasks/{task_id}", "/jobpush/tasks/runs", 200, {}),
    ("get", "/jobpush/tasks/{task_id}", "/jobpush/tasks/other", 404, {}),
    ("get", "/jobpush/tasks/{task_id}/children", "/jobpush/tasks/runs/children", 200, {}),
    ("get", "/jobpush/tasks/{task_id}/log", "/jobpush/tasks/runs/log", 200, {}),
    ("get", "/jobpush/tasks/{task_id}/log", "/jobpush/tasks/runs/log?since=x", 400, {}),
    ("post", "/jobpush/tasks/{task_id}/cancel", "/jobpush/tasks/runs/cancel", 202, {}),
    ("post", "/jobpush/tasks/{task_id}/cancel", "/jobpush/tasks/runs/cancel", 403, {"headers": {"User": "42"}}),
    ("post", "/jobpush/tasks/{task_id}/rerun", "/jobpush/tasks/ended/rerun", 202, {}),
    ("post", "/jobpush/tasks/{task_id}/rerun", "/jobpush/tasks/runs/rerun", 409, {}),
    ("get", "/jobpush/inbox", "/jobpush/inbox", 200, {}),
    ("post", "/jobpush/inbox/read", "/jobpush/inbox/read", 200, {"data": {"state": "seen"}}),
    ("post", "/jobpush/inbox/read", "/jobpush/inbox/read", 400, {"data": {"state": "x"}}),
    ("post", "/jobpush/auth", "/jobpush/auth", 200, {"data": FORM}),
    ("post", "/jobpush/auth", "/jobpush/auth", 400, {"json": {}}),
    ("post", "/jobpush/user-auth", "/jobpush/user-auth", 200, {"data": FORM}),
    ("get", "/jobpush/config", "/jobpush/config", 200, {}),
    ("get", "/jobpush/health/live", "/jobpush/health/live", 200, {}),
    ("get", "/jobpush/health/ready", "/jobpush/health/ready", 200, {}),
    ("get", "/jobpush/metrics", "/jobpush/metrics", 403, {}),
]


def test_browser_responses_match_their_schemas(app: Flask) -> None:
    client = app.test_client()

    for method, path, url, status, options in CASES:
        options = {"headers": {"User": "42", **OWN_SCRIPT}, **options}
        assert call(client, method, path, url, **options).status_code == status, (method, url)


def test_http_api_responses_match_their_schemas(app: Flask) -> None:
    client, root = app.test_client(), "/apps/{app_id}"

    for path, url, query in (
        ("/channels", "/channels", {}),
        ("/channels/{channel}", "/channels/cache-a", {"info": "cache,subscription_count"}),
        ("/channels/{channel}/users", "/channels/presence-room/users", {}),
        ("/users", "/users", {}),
        ("/users/{user_id}", "/users/42", {}),
    ):
        assert call(client, "get", root + path, signed("get", "/apps/1" + url, **query)).status_code == 200
    for path, url in (
        (f"{root}/users/{{user_id}}/terminate_connections", "/apps/1/users/42/terminate_connections"),
        ("/users/{user_id}/terminate_connections", "/users/42/terminate_connections"),
    ):
        assert call(client, "post", path, signed("post", url)).status_code == 200
    for path, body in (
        ("/events", b'{"name":"a","data":"{}","channels":["presence-room"],"info":"user_count,subscription_count"}'),
        ("/batch_events", b'{"batch":[{"name":"a","data":"{}","channel":"news","info":"subscription_count"}]}'),
    ):
        url = signed("post", f"/apps/1{path}", body_md5=hashlib.md5(body, usedforsecurity=False).hexdigest())
        assert call(client, "post", root + path, url, data=body).status_code == 200
    assert call(client, "get", f"{root}/users", "/apps/1/users").status_code == 401
    assert call(client, "get", f"{root}/users", "/apps/2/users").status_code == 404


def test_task_of_any_state_matches_its_schema() -> None:
    schema = {"$ref": "#/components/schemas/TaskEvent", "components": document()["components"]}
    validator = Draft202012Validator(schema)

    for state in TaskState:
        assert validator.is_valid(TaskEvent("t", state, cancelling=True).to_wire()), state
    (example,) = re.findall(r"```json\n(.*?)```", (PAGES / "wire.md").read_text(), re.DOTALL)
    assert list(validator.iter_errors(json.loads(example))) == []
    assert not validator.is_valid({**TaskEvent("t", TaskState.STARTED).to_wire(), "unknown": 1})
    assert not validator.is_valid({"task_id": "t"})
