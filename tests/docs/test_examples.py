"""Every Python example of the docs runs; those of one page share their names, as a reader would type them."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from flask import Flask

from jobpush import Gateway, JobPush
from jobpush.testing import PATIENCE, RecordedEvents

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


@pytest.mark.filterwarnings("ignore::celery.exceptions.AlwaysEagerIgnored")  # send_task() publishes
@pytest.mark.parametrize("page", PAGES)
def test_the_examples_of_a_page_run_and_their_tasks_succeed(page: str, recorded_events: RecordedEvents) -> None:
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


def test_there_are_pages_with_examples() -> None:
    assert len(PAGES) > 5
