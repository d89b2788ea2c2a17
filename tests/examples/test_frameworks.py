"""``jobpush.django`` and ``jobpush.fastapi`` without a browser."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import anyio
import httpx
import pytest
from fastapi import FastAPI, Header

from jobpush import JobPush
from jobpush.config import Config
from jobpush.events import TaskState
from jobpush.fastapi import AsyncJobPush
from jobpush.processes.embedded import EmbeddedRedis
from jobpush.store import Store
from jobpush.tokens import read_token
from tests.effort import members
from tests.gateway.publishing import start

T = TypeVar("T")
ROOT = Path(__file__).parents[2]
SECRET = "0123456789abcdef0123456789abcdef"


def manage(folder: Path, redis_url: str, *command: str, settings: str = "") -> subprocess.CompletedProcess[str]:
    """Run a command of the example's project, with more settings."""
    shutil.copytree(ROOT / "docs" / "examples" / "django", folder)
    with (folder / "shop" / "settings.py").open("a") as file:
        file.write(settings)
    environment = {**os.environ, "REDIS_URL": redis_url, "PYTHONPATH": str(ROOT)}
    command = (sys.executable, "manage.py", *command)
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)


def test_tests_of_the_django_example_pass(tmp_path: Path) -> None:
    with EmbeddedRedis(port=0) as redis:  # Celery's broker cannot be a unix socket by this URL
        done = manage(tmp_path / "shop", redis.url, "test")

    assert done.returncode == 0, done.stderr
    assert "Ran 2 tests" in done.stderr


WITHOUT_URLS = """
import sys, types
sys.modules["shop.empty"] = types.ModuleType("shop.empty")
sys.modules["shop.empty"].urlpatterns = []
ROOT_URLCONF = "shop.empty"
"""


@pytest.mark.parametrize(
    ("settings", "found"),
    members(
        [
            ("", ""),
            ('\nJOBPUSH["SECRET"] = "s"\n', "JOBPUSH_SECRET"),
            ('\nJOBPUSH["REDISURL"] = "redis://h"\n', "redisurl"),
            ('\nJOBPUSH["ALLOWED_ORIGINS"] = "app.example.com"\n', "app.example.com"),
            ('\nJOBPUSH = "key"\n', "dictionary"),
            (WITHOUT_URLS, "jobpush.django.urls"),
        ]
    ),
)
def test_check_finds_wrong_settings(redis_url: str, tmp_path: Path, settings: str, found: str) -> None:
    done = manage(tmp_path / "shop", redis_url, "check", "--fail-level", "WARNING", settings=settings)

    assert (done.returncode == 0) is (not found), done.stderr
    assert found in done.stderr


def user_of_header(x_user: str | None = Header(None)) -> str | None:
    """The application's own dependency."""
    return x_user


@pytest.fixture
def push(redis_url: str) -> AsyncJobPush:
    return AsyncJobPush(JobPush(key="shop", secret=SECRET, redis_url=redis_url), root="https://push.example")


def run(function: Callable[[], Awaitable[T]]) -> T:
    """Run a coroutine in a thread of its own: the browser of another test may have a loop in this one."""
    with ThreadPoolExecutor(1) as threads:
        return threads.submit(anyio.run, function).result()


def test_fastapi_token_endpoint_uses_the_dependency_of_the_application(push: AsyncJobPush) -> None:
    app = FastAPI()
    app.include_router(push.router(user_of_header))

    async def ask() -> list[httpx.Response]:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://shop.example") as client:
            return [await client.get("/jobpush/token", headers=headers) for headers in ({"X-User": "ada"}, {})]

    given, refused = run(ask)

    token = given.json()["token"]
    assert read_token(Config(key="shop", secret=SECRET), token, time.time()).user_id == "ada"
    assert given.headers["Cache-Control"] == "no-store"
    assert refused.status_code == 401


def test_tags_of_fastapi_name_the_gateway(push: AsyncJobPush) -> None:
    tags = push.tags()

    assert 'data-key="shop" data-root="https://push.example" data-token-url="/jobpush/token"' in tags
    assert 'src="https://push.example/jobpush/static/jobpush-' in tags


def test_async_functions_of_fastapi_match_the_sync_ones(push: AsyncJobPush, store: Store) -> None:
    start(store, "ada", "one")

    async def use() -> None:
        assert [event.task_id for event in await push.tasks("ada")] == ["one"]
        assert await push.tasks("ada", start=1) == []
        kept = {"keep": True, "title": "Hello", "url": "/hello"}
        assert (await push.notify("ada", "greeting", {"text": "hello"}, **kept)).connections == 0
        assert (await push.trigger("news", "headline", {})).connections == 0
        assert await push.cancel("one") is TaskState.STARTED
        assert store.task("one").cancelling
        assert [item.title for item in store.inbox("ada")] == ["Hello"]
        assert await push.sign_out("ada") == await push.disconnect("ada") == 0
        assert not await push.is_online("ada")
        assert await push.erase("ada") == 1

    run(use)
    assert store.inbox("ada") == []
