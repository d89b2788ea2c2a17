"""``jobpush doctor``: each check finds its fault, and names the cure."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
from click.testing import CliRunner, Result

from jobpush.cli import main
from jobpush.processes.child import ChildProcess
from jobpush.processes.embedded import EmbeddedRedis
from jobpush.processes.ports import free_port
from jobpush.store import Store
from jobpush.store.worker_leases import WorkerLeases
from jobpush.testing import PATIENCE
from tests.effort import members

KEY, SECRET = "0123456789abcdef", "fedcba9876543210"

WEB = """
from flask import Flask, request
from jobpush.gateway import Gateway

def create_app(**settings):
    app = Flask(__name__)
    app.secret_key = "secret"
    Gateway(app, user_loader=lambda: request.cookies.get("user"), key="0123456789abcdef",
            secret="fedcba9876543210", **settings)
    return app

app = create_app()
long_id = Flask("long")
Gateway(long_id, user_loader=lambda: "x" * 500, key="k" * 16, secret="s" * 16)
pair = Flask("pair")
Gateway(pair, user_loader=lambda: (42, {"name": "Ada"}), key="k" * 16, secret="s" * 16)
text_info = Flask("text_info")
Gateway(text_info, user_loader=lambda: (42, "Ada"), key="k" * 16, secret="s" * 16)
broken = Flask("broken")
Gateway(broken, user_loader=lambda: {}["user"], key="k" * 16, secret="s" * 16)
anonymous = Flask("anonymous")
Gateway(anonymous, key="k" * 16, secret="s" * 16)
without_gateway = Flask("without")
elsewhere = create_app(redis_url="redis://localhost:1/0")
other_prefix = create_app(prefix="other")

def with_csrf(status=400):
    app = create_app()
    app.before_request(lambda: ("The CSRF token is missing.", status))
    return app

def with_other_csrf():
    return with_csrf(403)
"""
TASKS = """
from celery import Celery
from jobpush import JobPush

celery_app = Celery("shop", broker="memory://")
jobpush = JobPush(celery_app)
no_broker = Celery("shop", broker="redis://localhost:1/0", broker_transport_options={"max_retries": 1})
JobPush(no_broker)
"""


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Modules with applications, in the working directory."""
    (tmp_path / "doctor_web.py").write_text(WEB)
    (tmp_path / "doctor_tasks.py").write_text(TASKS)
    monkeypatch.chdir(tmp_path)
    yield
    for name in ("doctor_web", "doctor_tasks"):
        sys.modules.pop(name, None)


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch, redis_url: str) -> None:
    monkeypatch.setenv("JOBPUSH_KEY", KEY)
    monkeypatch.setenv("JOBPUSH_SECRET", SECRET)
    monkeypatch.setenv("JOBPUSH_REDIS_URL", redis_url)
    monkeypatch.setenv("JOBPUSH_PUBLISH_TIMEOUT", str(PATIENCE))


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["doctor", "--json", *arguments])


def findings(*arguments: str) -> dict[str, dict[str, str]]:
    """The last finding of each check."""
    result = run(*arguments)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.output
    found = {one["check"]: one for one in map(json.loads, result.stdout.splitlines())}
    assert result.exit_code == any(one["status"] == "failed" for one in found.values())
    assert all(one["cure"] for one in found.values() if one["status"] != "ok")
    return found


def statuses(*arguments: str) -> dict[str, str]:
    return {name: one["status"] for name, one in findings(*arguments).items()}


@pytest.mark.usefixtures("credentials")
def test_correct_environment_has_no_failed_check() -> None:
    found = statuses()

    assert "failed" not in found.values()
    for check in ("environment", "redis", "redis rights", "redis version", "redis role", "clock", "credentials"):
        assert found[check] == "ok"
    assert found["worker"] == "warning"  # there is none
    assert {found[check] for check in ("broker", "origins", "user_loader", "proxy")} == {"skipped"}


@pytest.mark.usefixtures("credentials")
def test_terminal_output_shows_each_finding_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBPUSH_SECRET", "0123456789")
    monkeypatch.setenv("JOBPUSH_REDISURL", "redis://elsewhere")

    output = CliRunner().invoke(main, ["doctor"]).output

    assert "! credentials        JOBPUSH_SECRET has only 10 characters\n" in output
    assert "→ make a longer one with: python -c" in output
    assert "JOBPUSH_REDISURL is ignored" in output
    assert "→ did you mean JOBPUSH_REDIS_URL?" in output


def test_missing_credentials_fail(redis_url: str) -> None:
    assert findings("--redis-url", redis_url)["credentials"]["message"] == "JOBPUSH_KEY is not set"


# -- Redis -------------------------------------------------------------------------------------------


def test_unreachable_redis_fails_without_its_password() -> None:
    found = findings("--redis-url", "redis://:hunter2@localhost:1/0")

    assert found["redis"]["status"] == "failed"
    assert "hunter2" not in json.dumps(found)
    assert "redis rights" not in found


@pytest.mark.usefixtures("credentials")
def test_missing_redis_url_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JOBPUSH_REDIS_URL")

    assert findings()["redis"]["message"] == "JOBPUSH_REDIS_URL is not set"


@pytest.mark.usefixtures("credentials")
def test_wrong_password_fails(redis_server: EmbeddedRedis) -> None:
    with redis.Redis.from_url(redis_server.url) as client:
        client.config_set("requirepass", "right")

    assert findings()["redis"]["status"] == "failed"


@pytest.mark.parametrize(
    ("commands", "check", "status", "word"),
    [
        (
            ["CONFIG SET maxmemory 100mb", "CONFIG SET maxmemory-policy allkeys-lru"],
            "redis eviction",
            "warning",
            "drops",
        ),
        (["REPLICAOF localhost 1"], "redis role", "failed", "replica"),
        (["ACL SETUSER default resetchannels"], "redis rights", "failed", "channel"),
        (["ACL SETUSER default -evalsha"], "redis rights", "failed", "evalsha"),
        (["ACL SETUSER default -time"], "clock", "failed", "TIME"),
        (["ACL SETUSER default resetkeys ~other:*"], "redis rights", "failed", "key"),
    ],
)
@pytest.mark.usefixtures("credentials")
def test_fault_of_redis(commands: list[str], check: str, status: str, word: str, redis_server: EmbeddedRedis) -> None:
    with redis.Redis.from_url(redis_server.url) as client:
        for command in commands:
            client.execute_command(*command.split())

    finding = findings()[check]

    assert finding["status"] == status
    assert word in finding["message"]


@pytest.mark.usefixtures("credentials")
def test_clock_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    monkeypatch.setattr("jobpush.cli.diagnosis.redis_server.time", Shifted(time))

    finding = findings()["clock"]

    assert (finding["status"], "differ by 90" in finding["message"]) == ("warning", True)


class Shifted:
    """The module ``time``, 90 seconds ahead."""

    def __init__(self, module: Any) -> None:
        self._module = module

    def time(self) -> float:
        return float(self._module.time()) + 90

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


@pytest.mark.usefixtures("credentials")
def test_worker_with_a_lease(store: Store) -> None:
    store.run(WorkerLeases(store.config).hold("w1"))

    assert findings()["worker"]["message"] == "1 worker holds a lease in this Redis"


# -- applications ------------------------------------------------------------------------------------


@pytest.mark.usefixtures("credentials", "shop")
def test_matching_applications(caplog: pytest.LogCaptureFixture) -> None:
    found = statuses("--app", "doctor_web:app", "--app", "doctor_tasks:celery_app")

    assert "private-doctor" not in caplog.text
    assert [found[check] for check in ("same redis", "broker", "user_loader", "csrf")] == ["ok"] * 4


@pytest.mark.usefixtures("credentials", "shop")
@pytest.mark.parametrize("name", ["elsewhere", "other_prefix"])
def test_worker_and_gateway_on_different_redis(name: str) -> None:
    assert statuses("--app", f"doctor_web:{name}", "--app", "doctor_tasks:celery_app")["same redis"] == "failed"


@pytest.mark.usefixtures("credentials", "shop")
def test_unreachable_broker() -> None:
    assert statuses("--app", "doctor_tasks:no_broker")["broker"] == "failed"


@pytest.mark.usefixtures("credentials", "shop")
@pytest.mark.parametrize(
    ("arguments", "status", "word"),
    [
        (["doctor_web:app"], "ok", "None"),
        (["doctor_web:create_app()", "--header", "Cookie: user=ada"], "ok", "user 'ada'"),
        (["doctor_web:pair"], "ok", "user '42'"),
        (["doctor_web:long_id"], "failed", "invalid user"),
        (["doctor_web:text_info"], "failed", "user_info must be a JSON object"),
        (["doctor_web:broken"], "failed", "KeyError"),
        (["doctor_web:anonymous"], "warning", "no user_loader"),
    ],
)
def test_user_loader(arguments: list[str], status: str, word: str) -> None:
    finding = findings("--app", *arguments)["user_loader"]

    assert finding["status"] == status
    assert word in finding["message"]


@pytest.mark.usefixtures("credentials", "shop")
@pytest.mark.parametrize("name", ["with_csrf", "with_other_csrf"])
def test_csrf_protection_that_refuses_the_gateway(name: str) -> None:
    assert statuses("--app", f"doctor_web:{name}()")["csrf"] == "failed"


@pytest.mark.usefixtures("credentials", "shop")
def test_flask_application_without_a_gateway() -> None:
    assert statuses("--app", "doctor_web:without_gateway")["gateway"] == "failed"


@pytest.mark.usefixtures("credentials", "shop")
@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("doctor_web", "module:app"),
        ("doctor_web:nothing", "nothing"),
        ("nowhere:app", "nowhere"),
        ("doctor_web:WEB", "WEB"),
        ("os:path", "name a Flask, Celery, FastAPI or Starlette application, or Django's"),
    ],
)
def test_wrong_name_of_an_application(name: str, word: str) -> None:
    result = CliRunner().invoke(main, ["doctor", "--app", name])

    assert result.exit_code == 1
    assert word in result.output
    assert "Traceback" not in result.output


FASTAPI = """
from fastapi import FastAPI, Header
from starlette.applications import Starlette
from starlette.routing import Mount
from jobpush import JobPush
from jobpush.fastapi import AsyncJobPush

def user(x_user: str | None = Header(None)):
    if x_user == "broken":
        raise KeyError("user")
    return x_user

app = FastAPI()
app.include_router(AsyncJobPush(JobPush(key="0123456789abcdef", secret="fedcba9876543210")).router(user))
mounted = Starlette(routes=[Mount("/api", app)])
without = Starlette()
"""
DJANGO = """
import django
from django.conf import settings
from django.http import HttpResponse
from django.urls import include, path

settings.configure(
    SECRET_KEY="x" * 50, ROOT_URLCONF=__name__, ALLOWED_HOSTS=[".shop.example"], SECURE_SSL_REDIRECT=True,
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "jobpush.django"],
    MIDDLEWARE=["django.middleware.security.SecurityMiddleware", "django.middleware.common.CommonMiddleware",
                __name__ + ".sign_in"],
    JOBPUSH={"KEY": "0123456789abcdef", "SECRET": "fedcba9876543210"},
)
class User:
    pk = 7
    is_authenticated = True

def sign_in(get_response):
    def respond(request):
        if request.headers.get("X-User"):
            request.user = User()
        return get_response(request)
    return respond

urlpatterns = [path("jobpush/", include("jobpush.django.urls"))]
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
application, asgi = get_wsgi_application(), get_asgi_application()
"""


@pytest.mark.usefixtures("credentials")
@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["app", "--header", "X-User: ada"], "ok", "/jobpush/token gives a token for user 'ada'"),
        (["app"], "ok", "401"),
        (["mounted", "--header", "X-User: ada"], "ok", "/api/jobpush/token gives a token for user 'ada'"),
        (["app", "--header", "X-User: broken"], "failed", "KeyError"),
        (["without"], "failed", "no user"),
    ],
)
def test_token_endpoint_of_an_asgi_application(
    arguments: list[str], status: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "doctor_asgi.py").write_text(FASTAPI)
    monkeypatch.chdir(tmp_path)

    finding = findings("--app", f"doctor_asgi:{arguments[0]}", *arguments[1:])["token endpoint"]

    assert (finding["status"], words in finding["message"]) == (status, True), finding


@pytest.mark.usefixtures("credentials")
@pytest.mark.parametrize("name", members(["application", "asgi"]))
def test_token_endpoint_of_django(name: str, tmp_path: Path) -> None:
    (tmp_path / "doctor_django.py").write_text(DJANGO)
    command = [sys.executable, "-m", "jobpush", "doctor", "--json", "--app", f"doctor_django:{name}"]

    done = subprocess.run([*command, "--header", "X-User: x"], cwd=tmp_path, capture_output=True, text=True)

    found = {line["check"]: line for line in map(json.loads, done.stdout.splitlines())}
    assert found["token endpoint"]["message"] == "/jobpush/token gives a token for user '7'", done
    assert found["django"]["status"] == "ok"


# -- origins -----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("credentials")
@pytest.mark.parametrize(
    ("allowed", "origin", "status"),
    [
        ("https://app.example", "https://app.example/page?x", "ok"),
        ("https://*.example.com", "https://app.example.com", "ok"),
        ("https://*.example.com", "https://a.b.example.com", "failed"),
        ("https://app.example", "http://app.example", "failed"),
        ("*", "https://anything.example", "ok"),
        ("", "https://app.example", "failed"),
    ],
)
def test_origin_of_the_pages(allowed: str, origin: str, status: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBPUSH_ALLOWED_ORIGINS", allowed)

    assert statuses("--origin", origin)["origins"] == status


@pytest.mark.usefixtures("credentials")
@pytest.mark.parametrize("entry", ["app.example.com", "//app.example.com", "wss://app.example.com", "https://"])
def test_origin_that_can_never_match(entry: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBPUSH_ALLOWED_ORIGINS", entry)

    assert findings()["origins"]["message"] == f"{entry!r} in JOBPUSH_ALLOWED_ORIGINS never matches"


# -- the way through a proxy -------------------------------------------------------------------------

NGINX = """
daemon off; master_process off; pid nginx.pid; error_log stderr;
events {{}}
http {{
  access_log off;
  client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi;
  scgi_temp_path scgi;
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://127.0.0.1:{gateway};
      proxy_set_header Host $http_host;
      proxy_http_version 1.1;
      {lines}
    }}
  }}
}}
"""
UPGRADE = 'proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection "upgrade";'


def wait_until_answering(url: str, process: ChildProcess) -> None:
    while process.is_running:
        try:
            with urllib.request.urlopen(url, timeout=PATIENCE):
                return
        except OSError:
            continue
    raise AssertionError("it has ended")


@pytest.fixture(scope="module")
def gateway_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A stand-alone gateway."""
    port = free_port()
    log = tmp_path_factory.mktemp("gateway") / "log"
    with EmbeddedRedis() as server:
        settings = {"REDIS_URL": server.url, "KEY": KEY, "SECRET": SECRET, "PUBLISH_TIMEOUT": str(PATIENCE)}
        environment = {**os.environ, **{f"JOBPUSH_{name}": value for name, value in settings.items()}}
        command = [sys.executable, "-m", "jobpush", "gateway", "--bind", f"127.0.0.1:{port}"]
        process = ChildProcess(command, log=log, environment=environment)
        try:
            wait_until_answering(f"http://127.0.0.1:{port}/jobpush/health/ready", process)
            yield port
        finally:
            process.kill()


@contextmanager
def proxied(folder: Path, gateway: int, lines: str) -> Iterator[str]:
    """The URL of the gateway behind nginx."""
    port = free_port()
    (folder / "nginx.conf").write_text(NGINX.format(port=port, gateway=gateway, lines=lines))
    process = ChildProcess(["/usr/sbin/nginx", "-p", str(folder), "-c", "nginx.conf"], log=folder / "nginx.log")
    try:
        wait_until_answering(f"http://127.0.0.1:{port}/jobpush/health/live", process)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()


@pytest.mark.usefixtures("credentials")
def test_gateway_without_a_proxy(gateway_port: int) -> None:
    found = statuses("--url", f"http://127.0.0.1:{gateway_port}", "--idle", "0.1")

    assert [found[check] for check in ("url", "websocket", "idle limit", "buffering", "origins")] == ["ok"] * 5


@pytest.mark.usefixtures("credentials")
@pytest.mark.parametrize(
    ("lines", "check"),
    [
        ("", "websocket"),
        (f"{UPGRADE} proxy_read_timeout 1s;", "idle limit"),
        (f"{UPGRADE} proxy_ignore_headers X-Accel-Buffering; proxy_buffers 8 64k; proxy_buffering on;", "buffering"),
    ],
)
def test_fault_of_a_proxy(
    lines: str, check: str, gateway_port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobpush.cli.diagnosis.proxy.TIMEOUT", 2.0 if check == "buffering" else PATIENCE)
    with proxied(tmp_path, gateway_port, lines) as url:
        found = statuses("--url", url, "--idle", "5")

    assert found[check] == "failed"
    assert found["url"] == "ok"


@pytest.mark.usefixtures("credentials")
def test_proxy_with_correct_settings(gateway_port: int, tmp_path: Path) -> None:
    with proxied(tmp_path, gateway_port, UPGRADE) as url:
        found = statuses("--url", url, "--idle", "0.1")

    assert "failed" not in found.values()


@pytest.mark.usefixtures("credentials")
@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "127.0.0.1:8000", "ftp://127.0.0.1"])
def test_unreachable_gateway(url: str) -> None:
    assert statuses("--url", url)["url"] == "failed"


@pytest.mark.usefixtures("credentials")
def test_refusals_of_the_gateway_are_shown(gateway_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBPUSH_KEY", "another")
    url = f"http://127.0.0.1:{gateway_port}"

    assert "4001" in findings("--url", url)["websocket"]["message"]
