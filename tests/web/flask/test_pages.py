"""What pages on other origins, behind CSRF protection, and with tokens get from the routes below /jobpush/."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import pytest
from flask import Flask, abort, current_app, request
from flask_wtf import CSRFProtect

from jobpush.errors import ConfigurationError
from jobpush.gateway import Gateway
from jobpush.signing import verify_auth
from jobpush.store import Store
from jobpush.store.task_logs import LogEntry
from tests.gateway.publishing import finish, start
from tests.gateway.site import KEY, SECRET

from .conftest import Make, sign_in

PAGE = "https://app.example.com"
OURS = {"X-Requested-With": "jobpush"}


# -- other origins ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["tasks", "config", "static/manifest.json", "tasks/none"])
def test_page_of_an_allowed_origin_may_read_answers_with_credentials(make: Make, path: str) -> None:
    client = make(allowed_origins=f"{PAGE},https://*.example.org")

    for origin in (PAGE, "https://a.example.org"):
        with client.get(f"/jobpush/{path}", headers={"Origin": origin}) as answer:
            headers = answer.headers

        assert headers["Access-Control-Allow-Origin"] == origin
        assert headers["Access-Control-Allow-Credentials"] == "true"
        assert "Origin" in ",".join(headers.get_all("Vary"))


@pytest.mark.parametrize("origin", [None, "https://evil.example", "http://localhost"])
def test_responses_vary_by_origin(make: Make, origin: str | None) -> None:
    client, headers = make(allowed_origins=f"{PAGE},https://*.example.org"), {"Origin": origin} if origin else {}

    for path in ("static/jobpush.js", "config"):
        with client.get(f"/jobpush/{path}", headers=headers) as answer:
            assert "Origin" in ",".join(answer.headers.get_all("Vary"))
    with make().get("/jobpush/static/jobpush.js") as answer:
        assert "Origin" not in ",".join(answer.headers.get_all("Vary"))


def test_preflight_is_answered(make: Make) -> None:
    asked = {
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,x-requested-with",
    }

    answer = make(allowed_origins=PAGE).options("/jobpush/tasks/one/cancel", headers={"Origin": PAGE, **asked})

    assert answer.status_code == 200
    assert answer.headers["Access-Control-Allow-Origin"] == PAGE
    assert {"authorization", "x-requested-with"} <= set(answer.headers["Access-Control-Allow-Headers"].split(", "))
    assert "POST" in answer.headers["Access-Control-Allow-Methods"]


@pytest.mark.parametrize("origin", ["https://evil.example", "https://a.b.example.org", "null", f"{PAGE}.evil.example"])
def test_page_of_a_foreign_origin_may_read_nothing(make: Make, origin: str) -> None:
    client = make(allowed_origins=f"{PAGE},https://*.example.org")

    assert "Access-Control-Allow-Origin" not in client.get("/jobpush/tasks", headers={"Origin": origin}).headers


def test_any_origin_may_read_answers_without_credentials(make: Make) -> None:
    headers = make(allowed_origins="*").get("/jobpush/tasks", headers={"Origin": PAGE}).headers

    assert headers["Access-Control-Allow-Origin"] == "*"
    assert "Access-Control-Allow-Credentials" not in headers


@pytest.mark.parametrize("path", ["/jobpush/metrics", "/apps/1/channels", "/form"])
@pytest.mark.parametrize("allowed", [PAGE, "*"])
def test_cors_excludes_metrics_http_api_and_application_routes(make: Make, path: str, allowed: str) -> None:
    answer = make(allowed_origins=allowed).get(path, headers={"Origin": PAGE})

    assert "Access-Control-Allow-Origin" not in answer.headers


# -- CSRF protection and bodies --------------------------------------------------------------------------


class SeaSurf:
    """The public side of Flask-SeaSurf, with which this was tried."""

    def __init__(self, app: Flask) -> None:
        self._exempt: set[str] = set()
        app.before_request(self._check)

    def exempt(self, view: Any) -> Any:
        self._exempt.add(f"{view.__module__}.{view.__name__}")
        return view

    def _check(self) -> None:
        view = current_app.view_functions.get(request.endpoint or "")
        if request.method == "POST" and view and f"{view.__module__}.{view.__name__}" not in self._exempt:
            abort(403, "CSRF token missing")


@pytest.mark.parametrize("csrf", ["first", "last"])
@pytest.mark.parametrize("protection", [CSRFProtect, SeaSurf])
def test_csrf_protection_of_the_application_exempts_our_routes_only(
    make: Make, store: Store, protection: Any, csrf: str
) -> None:
    client = make(csrf=csrf, protection=protection)
    sign_in(client, "42")
    start(store, "42", "one")

    assert client.post("/jobpush/tasks/one/cancel", headers=OURS).status_code == 202
    assert client.post("/jobpush/auth", data={"socket_id": "1.2", "channel_name": "private-user-42"}).status_code == 200
    assert client.post("/jobpush/user-auth", data={"socket_id": "1.2"}).status_code == 200
    assert client.post("/apps/1/events", json={}).status_code == 401
    assert client.post("/form").status_code in (400, 403)


@pytest.mark.parametrize("content_type", ["application/json", "text/plain;charset=UTF-8", None])
def test_authorizer_may_send_json(make: Make, content_type: str | None) -> None:
    client = make()
    sign_in(client, "42")
    body = '{"socket_id": "1.2", "channel_name": "private-user-42"}'

    answer = client.post("/jobpush/auth", data=body, content_type=content_type)

    assert verify_auth(KEY, [SECRET], "1.2:private-user-42", answer.json["auth"])
    assert client.post("/jobpush/user-auth", json={"socket_id": "1.2"}).status_code == 200


@pytest.mark.parametrize("body", [b"[]", b"null", b"{", b'{"socket_id": 12}', b'{"socket_id": ["1.2"]}', b"\xff"])
def test_body_other_than_an_object_of_strings_is_refused(make: Make, body: bytes) -> None:
    client = make()
    sign_in(client, "42")

    answer = client.post("/jobpush/user-auth", data=body, content_type="application/json")

    assert (answer.status_code, answer.json["error"]["code"]) == (400, "bad_request")


# -- reasons ---------------------------------------------------------------------------------------------


def test_refusal_reason_is_sent_to_the_client_and_logged_once(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    client = make(user_loader=None)

    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            foreign = client.get("/jobpush/tasks", headers={"Origin": "https://evil.example"})
            nobody = client.get("/jobpush/tasks")

    assert (foreign.status_code, foreign.json["error"]["code"]) == (403, "forbidden_origin")
    assert (nobody.status_code, nobody.json["error"]["code"]) == (401, "not_signed_in")
    assert "user_loader" in nobody.json["error"]["message"]
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 2
    assert all(text in lines[0] for text in ("https://evil.example", "localhost", "JOBPUSH_ALLOWED_ORIGINS"))
    assert "user_loader" in lines[1]


@pytest.mark.parametrize("load", [lambda: 1 / 0, lambda: ""])
def test_refusal_after_a_failed_user_loader_names_the_log(make: Make, load: Any) -> None:
    message = make(user_loader=load).get("/jobpush/tasks").json["error"]["message"]

    assert "user_loader failed" in message and "log" in message


def test_server_without_sockets_logs_an_explanation_and_polling_works(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    client = make()
    sign_in(client, "42")
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}

    for _ in range(3):
        socket = client.get(f"/app/{KEY}?protocol=7", headers={**upgrade, "Sec-WebSocket-Key": "x" * 24})
        stream = client.get("/jobpush/events")

    assert [(one.status_code, one.json["error"]["code"]) for one in (socket, stream)] == [(501, "no_sockets")] * 2
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert client.get("/jobpush/tasks").json["tasks"] == []


def test_invalid_origins_stop_the_start(redis_url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"app\.example\.com"):
        Gateway(Flask(__name__), key=KEY, secret=SECRET, redis_url=redis_url, allowed_origins="app.example.com")


# -- pages of tasks and logs -----------------------------------------------------------------------------


def test_tasks_are_paged(make: Make, store: Store) -> None:
    client = make()
    sign_in(client, "42")
    for number in range(5):
        start(store, "42", f"task-{number}")

    def ids(query: str) -> list[str]:
        return [task["task_id"] for task in client.get(f"/jobpush/tasks{query}").json["tasks"]]

    everything = ids("")
    assert len(everything) == 5
    assert ids("?limit=2") + ids("?start=2&limit=2") + ids("?start=4") == everything
    assert ids("?start=-1&limit=x") == everything
    assert ids("?limit=-5") == []


def test_log_of_a_task_is_read_in_order_by_its_owner(make: Make, store: Store) -> None:
    client = make()
    sign_in(client, "42")
    start(store, "42", "one")
    store.append_log("42", "one", [LogEntry(f"line {number}", "info", float(number)) for number in range(5)], dropped=3)

    whole = client.get("/jobpush/tasks/one/log").json
    third = whole["lines"][2]["id"]
    rest = client.get(f"/jobpush/tasks/one/log?since={third}").json

    assert [line["message"] for line in whole["lines"]] == [f"line {number}" for number in range(5)]
    assert whole["lines"][1]["level"] == "info"
    assert whole["lost"] == 3
    assert [line["message"] for line in rest["lines"]] == ["line 3", "line 4"]
    assert [line["message"] for line in client.get("/jobpush/tasks/one/log?limit=1").json["lines"]] == ["line 0"]
    for wrong in ("x", "1-x", "9" * 25 + "-1", "\u0661-1", "-1-1"):
        assert client.get("/jobpush/tasks/one/log", query_string={"since": wrong}).status_code == 400
    assert client.get("/jobpush/tasks", query_string={"start": "9" * 25}).json["tasks"] == []
    assert client.get("/jobpush/tasks/none/log").status_code == 404
    sign_in(client, "43")
    assert client.get("/jobpush/tasks/one/log").status_code == 404


# -- the inbox -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["data", "json"])
def test_inbox_is_private_and_marked_by_own_pages_only(make: Make, store: Store, kind: str) -> None:
    client = make()
    sign_in(client, "42")
    first, second = (store.keep_notification("42", "invoice", {"number": n}, title=f"Invoice {n}") for n in (1, 2))
    store.keep_notification("43", "invoice", {}, title="of another user")

    def states() -> list[tuple[str, bool, bool]]:
        return [(item["title"], item["seen"], item["read"]) for item in client.get("/jobpush/inbox").json["items"]]

    def mark(status: int = 200, headers: dict[str, str] = OURS, **fields: str) -> None:
        assert client.post("/jobpush/inbox/read", headers=headers, **{kind: fields}).status_code == status

    assert states() == [("Invoice 2", False, False), ("Invoice 1", False, False)]
    mark(state="seen")
    mark(state="read", ids=f"{first},1-1,x")
    assert states() == [("Invoice 2", True, False), ("Invoice 1", True, True)]
    mark(400, state="unread")
    for unknown in ("", ",", "9" * 25 + "-1", "\u0661-1"):
        mark(state="read", ids=unknown)
    for wrong in ({"ids": 1}, {"ids": [1]}, {"ids": None}, []):
        answer = client.post("/jobpush/inbox/read", json=wrong, headers=OURS)
        assert answer.status_code == 400, wrong
    mark(403, headers={}, state="read")
    assert states()[0] == ("Invoice 2", True, False)
    assert second in {item["id"] for item in client.get("/jobpush/inbox").json["items"]}
    mark(state="read")
    body = client.get("/jobpush/inbox").json
    assert (body["unseen"], body["unread"]) == (0, 0)
    with client.session_transaction() as stored:
        stored.clear()
    assert client.get("/jobpush/inbox").status_code == 401


def test_inbox_is_paged_and_counts_all_items(make: Make, store: Store) -> None:
    client = make(inbox_size=300)
    sign_in(client, "42")
    keeping = Store(replace(store.config, inbox_size=300))
    for number in range(210):
        keeping.keep_notification("42", "invoice", {"number": number})
    keeping.close()

    def numbers(query: str = "") -> list[int]:
        body = client.get(f"/jobpush/inbox{query}").json
        assert (body["unseen"], body["unread"]) == (210, 210)
        return [item["data"]["number"] for item in body["items"]]

    assert numbers() == list(range(209, 9, -1))
    assert numbers("?start=200") == list(range(9, -1, -1))
    assert numbers("?start=1&limit=2") == [208, 207]
    assert numbers("?limit=0") == []


# -- run again -------------------------------------------------------------------------------------------


def test_ended_task_runs_again_where_the_application_allows_it(make: Make, store: Store) -> None:
    client = make()
    sign_in(client, "42")
    start(store, "42", "one")
    asked = []

    def rerun(path: str = "one", headers: dict[str, str] = OURS) -> tuple[int, str]:
        answer = client.post(f"/jobpush/tasks/{path}/rerun", headers=headers)
        return answer.status_code, answer.json.get("error", {}).get("code", "")

    assert rerun() == (409, "rerun_refused")  # there is no function

    @client.application.gateway.on_rerun
    def run_again(task_id: str, name: str, user_id: str) -> bool:
        asked.append((task_id, name, user_id))
        return len(asked) < 2

    assert rerun() == (409, "rerun_refused")  # it runs
    finish(store, "42", "one")
    assert rerun() == (202, "")
    assert rerun() == (409, "rerun_refused")  # the application refuses
    assert asked == [("one", "", "42")] * 2
    assert rerun("another") == (404, "task_not_found")
    assert rerun(headers={}) == (403, "forbidden")


def test_failing_rerun_function_is_reported(make: Make, store: Store, caplog: pytest.LogCaptureFixture) -> None:
    client = make()
    sign_in(client, "42")
    start(store, "42", "one")
    finish(store, "42", "one")

    @client.application.gateway.on_rerun
    def run_again(task_id: str, name: str, user_id: str) -> None:
        raise RuntimeError("secret detail")

    answer = client.post("/jobpush/tasks/one/rerun", headers=OURS)

    assert (answer.status_code, answer.json["error"]["code"]) == (500, "rerun_failed")
    assert "secret detail" not in answer.text
    assert "secret detail" in caplog.text
    assert client.get("/jobpush/tasks").status_code == 200
