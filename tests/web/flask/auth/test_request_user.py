"""The user of a request: from a bearer token or from user_loader."""

from __future__ import annotations

import json
import time
import uuid
from types import MappingProxyType
from typing import Any

import jwt
import pytest

from jobpush import JobPush
from jobpush.store import Store
from tests.gateway.publishing import start
from tests.gateway.site import KEY, SECRET
from tests.web.flask.conftest import Make, sign_in

OURS = {"X-Requested-With": "jobpush"}
#: The key of Pusher's own examples is short.
pytestmark = pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def token_of(user: str, **claims: Any) -> str:
    return JobPush(key=KEY, secret=SECRET, redis_url="redis://unused").token(user, **claims)


def test_token_names_the_user_of_a_request(make: Make, store: Store) -> None:
    client = make(user_loader=None)
    start(store, "42", "one")

    tasks = client.get("/jobpush/tasks", headers=bearer(token_of("42")))
    cancelled = client.post("/jobpush/tasks/one/cancel", headers={**OURS, **bearer(token_of("42"))})
    others = client.post("/jobpush/tasks/one/cancel", headers={**OURS, **bearer(token_of("43"))})

    assert [task["task_id"] for task in tasks.json["tasks"]] == ["one"]
    assert (cancelled.status_code, others.status_code) == (202, 404)


def test_token_takes_precedence_over_the_session(make: Make) -> None:
    client = make()
    sign_in(client, "43")

    answer = client.post("/jobpush/user-auth", data={"socket_id": "1.2"}, headers=bearer(token_of("42")))

    assert answer.json["user_data"] == '{"id":"42"}'


def test_token_covers_channels_and_tasks(make: Make, store: Store) -> None:
    client = make(user_loader=None)
    start(store, "43", "shared")
    headers = bearer(token_of("42", channels=["private-team-*"], tasks=["shared"]))

    def status(channel: str) -> int:
        return client.post(
            "/jobpush/auth", data={"socket_id": "1.2", "channel_name": channel}, headers=headers
        ).status_code

    assert [status(one) for one in ("private-team-a", "private-task-shared", "private-user-42")] == [200] * 3
    assert [status(one) for one in ("private-other", "private-task-none", "private-user-43")] == [403] * 3


@pytest.mark.parametrize(
    ("claims", "secret", "code"),
    [
        ({}, "another secret of thirty-two byte", "token_invalid"),
        ({}, None, "token_invalid"),
        ({"exp": -60}, SECRET, "token_expired"),
        ({"nbf": 600}, SECRET, "token_not_yet_valid"),
        ({"aud": "another"}, SECRET, "token_audience"),
        ({"sub": None}, SECRET, "token_invalid"),
        ({"sub": 42}, SECRET, "token_invalid"),
        ({"pad": "x" * 9_000}, SECRET, "token_invalid"),
    ],
)
@pytest.mark.parametrize("path", ["/jobpush/tasks", "/jobpush/tasks/one"])
def test_refused_token_has_a_code_whatever_the_session_names(
    make: Make, caplog: pytest.LogCaptureFixture, claims: dict[str, Any], secret: str | None, code: str, path: str
) -> None:
    client = make()
    sign_in(client, "42")
    signed = {"sub": "42", **claims, "exp": time.time() + claims.get("exp", 60)}
    if "nbf" in claims:
        signed["nbf"] = time.time() + claims["nbf"]
    token = jwt.encode(signed, secret or "", "HS256" if secret else "none")

    answer = client.get(path, headers=bearer(token))

    assert (answer.status_code, answer.json["error"]["code"]) == (401, code)
    assert token not in caplog.text


@pytest.mark.parametrize("token", ["no-token", "", "a.b.c", "\u00e9"])
def test_malformed_token_is_refused(make: Make, token: str) -> None:
    client = make()
    sign_in(client, "42")

    assert client.get("/jobpush/tasks", headers=bearer(token)).json["error"]["code"] == "token_invalid"


def test_other_bearer_token_is_left_to_the_user_loader(make: Make) -> None:
    from flask import request

    def load() -> str | None:
        return "42" if request.headers.get("Authorization") == "Bearer of-the-application" else None

    client = make(user_loader=load)

    assert client.get("/jobpush/tasks", headers=bearer("of-the-application")).status_code == 200
    assert client.get("/jobpush/tasks", headers=bearer("of-somebody")).status_code == 401


def test_sign_out_revokes_the_tokens_of_the_user(make: Make) -> None:
    client = make()
    token, other = token_of("42"), token_of("43")
    assert client.get("/jobpush/tasks", headers=bearer(token)).status_code == 200

    client.post("/logout", headers=bearer(token))

    answer = client.get("/jobpush/tasks", headers=bearer(token))
    assert (answer.status_code, answer.json["error"]["code"]) == (401, "token_revoked")
    assert client.get("/jobpush/tasks", headers=bearer(other)).status_code == 200


@pytest.mark.parametrize("info", [{"name": "Ada"}, MappingProxyType({"name": "Ada"})])
@pytest.mark.parametrize("pair", [tuple, list])
def test_user_loader_may_return_user_info(make: Make, pair: type, info: Any) -> None:
    client = make(user_loader=lambda: pair((uuid.UUID(int=1), info)))
    client.application.gateway.authorize_channel(lambda user_id, channel: True)  # type: ignore[attr-defined]

    user = client.post("/jobpush/user-auth", data={"socket_id": "1.2"}).json
    member = client.post("/jobpush/auth", data={"socket_id": "1.2", "channel_name": "presence-room"}).json

    user_id = str(uuid.UUID(int=1))
    assert json.loads(user["user_data"]) == {"id": user_id, "user_info": {"name": "Ada"}}
    assert json.loads(member["channel_data"]) == {"user_id": user_id, "user_info": {"name": "Ada"}}


@pytest.mark.parametrize(
    "loaded", [("42", "Ada"), ("42", ["Ada"]), ("42", {"name": "x" * 2_000}), ("42", {}, {}), ({}, {})]
)
def test_invalid_user_of_a_user_loader_is_anonymous_and_logged(
    make: Make, loaded: Any, caplog: pytest.LogCaptureFixture
) -> None:
    client = make(user_loader=lambda: loaded)

    assert client.get("/jobpush/tasks").status_code == 401
    assert "user_loader returned an invalid user" in caplog.text
