"""Every Python example of the docs runs; those of one page share their names, as a reader would type them."""

from __future__ import annotations

import ast
import os
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import imageio_ffmpeg
import jwt
import pytest
from asgiref.sync import async_to_sync
from celery import Celery
from celery.events import EventReceiver
from celery_progress.backend import ProgressRecorder
from cryptography.hazmat.primitives.asymmetric import rsa
from flask import Flask, g, request
from jwt.algorithms import RSAAlgorithm

from jobpush import Gateway, JobPush
from jobpush.channels import escape_user_id
from jobpush.config import Config
from jobpush.queues.celery.registry import runtimes
from jobpush.testing import PATIENCE, RecordedEvents
from jobpush.tokens import read_token

DOCS = Path(__file__).parents[2] / "docs"
PAGES = sorted(
    page.relative_to(DOCS).as_posix()
    for folder in ("howto", "migrate")
    for page in (DOCS / folder).glob("*.md")
    if "```python" in page.read_text()
)


def blocks(page: str) -> list[str]:
    """Return the Python examples of a page."""
    return re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)


def names_of_start(page: str) -> dict[str, Any]:
    """Return the names that the pages take from the start page."""
    celery_app = Celery(page, broker="memory://")
    celery_app.conf.task_always_eager = True
    app = Flask(page)
    app.secret_key = "made up"
    jobpush = JobPush(celery_app)
    names = {"celery_app": celery_app, "jobpush": jobpush, "app": app, "gateway": Gateway(app)}
    return {"__name__": page.replace("/", "_").removesuffix(".md"), **names}


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch, redis_url: str) -> None:
    for name, value in (
        ("REDIS_URL", redis_url),
        ("KEY", "my-app"),
        ("SECRET", "0123456789abcdef0123456789abcdef"),
        ("PUBLISH_TIMEOUT", str(PATIENCE)),
        ("FLUSH_TIMEOUT", str(PATIENCE)),
    ):
        monkeypatch.setenv(f"JOBPUSH_{name}", value)


@pytest.fixture(autouse=True)
def closed_apps() -> Iterator[None]:
    """Close what the examples have started, so that no later test waits for it."""
    before = runtimes()
    yield
    for runtime in runtimes():
        if runtime not in before:
            runtime.close()


@pytest.fixture(autouse=True)
def ffmpeg(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Put the ffmpeg of the demo on the path."""
    (tmp_path / "ffmpeg").symlink_to(imageio_ffmpeg.get_ffmpeg_exe())
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)


@pytest.mark.filterwarnings("ignore::celery.exceptions.AlwaysEagerIgnored")  # send_task() publishes
@pytest.mark.parametrize("page", PAGES)
def test_examples_of_a_page_run_and_their_tasks_succeed(page: str, recorded_events: RecordedEvents) -> None:
    names = names_of_start(page)

    for number, block in enumerate(blocks(page)):
        exec(compile(block, f"{page}, example {number + 1}", "exec"), names)  # noqa: S102
    for name, test in list(names.items()):
        if name.startswith("test_"):
            test(recorded_events)

    jobpush: JobPush = names["jobpush"]
    deadline = time.monotonic() + PATIENCE
    while any(not task.state.is_final for task in jobpush.tasks("42")) and time.monotonic() < deadline:
        recorded_events.until(lambda event: event.state.is_final)
    assert {task.state.value for task in jobpush.tasks("42")} <= {"SUCCESS"}


def test_pages_with_examples_exist() -> None:
    assert len(PAGES) > 5


class Recorder:
    """Stand-in of another product: a server of sockets, a consumer, a channel layer or a client."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self.sent: list[tuple[Any, ...]] = []

    def on(self, event: str) -> Any:
        return lambda function: function

    def emit(self, *message: Any, **options: Any) -> None:
        self.sent.append(message)

    async def group_send(self, *message: Any) -> None:
        self.sent.append(message)

    trigger = emit


def before_migration(page: str, **more: Any) -> dict[str, Any]:
    """Run the examples of other products on a page, and return their names."""
    names = {**names_of_start(f"before/{page}"), **more}
    names["celery_app"].conf.update(result_backend="cache+memory://", task_always_eager=False)
    for block in re.findall(r"```py\n(.*?)```", (DOCS / page).read_text(), re.DOTALL):
        exec(compile(block, page, "exec"), names)  # noqa: S102
    return names


def test_task_with_celery_progress_runs() -> None:
    app = Celery("before", broker="memory://")
    names = before_migration("migrate/celery-progress.md", ProgressRecorder=ProgressRecorder, shared_task=app.task)
    app.conf.result_backend = "cache+memory://"

    assert names["work"].apply((2,)).state == "SUCCESS"


def test_code_before_each_migration_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, sent = Recorder(), Recorder()
    monkeypatch.setattr(EventReceiver, "capture", lambda self: self.process("task-succeeded", {"uuid": "d1c2"}))
    names = before_migration(
        "migrate/others.md",
        SocketIO=Recorder,
        AsyncJsonWebsocketConsumer=object,
        shared_task=lambda function: function,
        async_to_sync=async_to_sync,
        get_channel_layer=lambda: layer,
        pusher=SimpleNamespace(Pusher=Recorder),
        send_to_page=sent.emit,
    )

    assert names["export"].apply((3,)).state == "SUCCESS"
    assert names["app"].test_client().get("/status/d1c2").json == {"state": "PENDING", "meta": None}
    names["follow"](names["celery_app"])
    assert sent.sent == [("d1c2", "done")]
    names["convert"]("42")
    with ThreadPoolExecutor(1) as threads:  # the main thread may run the event loop of Playwright
        threads.submit(names["report"], "42").result()
    assert len(names["socketio"].sent) == len(layer.sent) == 10
    assert names["client"].sent == [("news", "headline", {"text": "hello"})]


#: Names that the examples of the reference use without making them.
NAMES = """
from celery import group
from flask import Flask, session
from jobpush import Gateway, progress
names, path, frames = ["a.mov"], "a.mov", range(3)
SECRET = "0123456789abcdef0123456789abcdef"
probe = team = lambda name: []

@celery_app.task(name="video.encode")
def encode(name): ...

@celery_app.task(name="video.publish")
def publish(names): ...
"""


def test_examples_of_the_reference_run() -> None:
    text = (DOCS / "reference" / "python.md").read_text()
    examples = [one for one in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if is_example(one)]
    assert len(examples) > 5

    names = names_of_start("reference/python.md")
    names["celery_app"].conf.result_backend = "cache+memory://"
    exec(NAMES, names)  # noqa: S102
    for example in examples:
        example = example.replace('broker="redis://localhost"', 'broker="memory://"')
        exec(compile(example, "python.md", "exec"), dict(names))  # noqa: S102


def is_example(block: str) -> bool:
    """Whether a block is no signature."""
    try:
        return not isinstance(ast.parse(block).body[-1], ast.Expr) or "." in block
    except SyntaxError:
        return False


def test_provider_signs_in_with_the_converted_key(recorded_events: RecordedEvents) -> None:
    names = names_of_start("howto/users.md")
    for block in blocks("howto/users.md")[-2:]:
        exec(block, names)  # noqa: S102
    private = rsa.generate_private_key(65537, 2048)
    key = RSAAlgorithm.to_jwk(private.public_key(), as_dict=True)
    now = time.time()
    text = jwt.encode({"sub": "auth0|7", "aud": "my-app", "exp": now + 60}, private, algorithm="RS256")

    config = Config(key="my-app", jwt_public_key=names["public_key"](key), jwt_algorithms=("RS256",))
    assert read_token(config, text, now).user_id == escape_user_id("auth0|7")

    app = names["app"]
    app.before_request(lambda: setattr(g, "user", {"id": "42"} if "Authorization" in request.headers else None))
    assert app.test_client().get("/jobpush-token").status_code == 401
    token = app.test_client().get("/jobpush-token", headers={"Authorization": "Bearer x"}).json["token"]
    assert read_token(names["jobpush"].config, token, time.time()).user_id == "42"
