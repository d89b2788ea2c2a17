"""The README's examples do what it says they do."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import pytest
from flask import render_template_string

from jobpush import JobPush
from jobpush.testing import PATIENCE, RecordedEvents

README = (Path(__file__).parent.parent / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def block_with(word: str) -> str:
    (block,) = [block for block in blocks("python") if word in block]
    return block


def run(source: str, module: str = "readme") -> dict[str, Any]:
    """The names that the source makes; tasks are named after the module, and Celery wants no name twice."""
    names: dict[str, Any] = {"__name__": module}
    exec(compile(source, "README.md", "exec"), names)  # noqa: S102
    return names


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch, redis_url: str) -> None:
    monkeypatch.setenv("JOBPUSH_REDIS_URL", redis_url)
    monkeypatch.setenv("JOBPUSH_KEY", "my-app")
    monkeypatch.setenv("JOBPUSH_SECRET", "0123456789abcdef")
    monkeypatch.setenv("JOBPUSH_PUBLISH_TIMEOUT", str(PATIENCE))  # the machine that runs the tests may be busy


def test_the_worker_example_moves_the_bar_of_its_user() -> None:
    names = run(blocks("python")[0])
    names["celery_app"].conf.task_always_eager = True

    names["encode"].delay("42", "cat.mov")

    (task,) = wait_for_the_end(names["jobpush"], "42")
    assert (task.title, task.state.value, task.current, task.total) == ("Encode cat.mov", "SUCCESS", 4000, 4000)


def test_the_workflow_example_is_one_bar() -> None:
    worker, workflow = blocks("python")[0], block_with("track_workflow")
    names = run(f"{worker}\ncelery_app.conf.task_always_eager = True\n{workflow}", "readme_workflow")

    (task,) = wait_for_the_end(names["jobpush"], "42")

    assert (task.title, task.state.value, task.current, task.total) == ("Album", "SUCCESS", 2, 2)


def test_the_testing_example_passes(recorded_events: RecordedEvents, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBPUSH_FLUSH_TIMEOUT", str(PATIENCE))  # not for the others, whose Redis is gone by now
    names = run(f"{blocks('python')[0]}\n{block_with('recorded_events')}", "readme_testing")

    names["test_the_user_sees_the_film_being_encoded"](recorded_events)


def wait_for_the_end(jobpush: JobPush, user_id: str) -> list[Any]:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        tasks = jobpush.tasks(user_id)
        if tasks and tasks[0].state.is_final:
            return tasks
    raise AssertionError("the task did not end")


def test_the_site_example_gives_a_page_all_that_it_needs() -> None:
    app = run(blocks("python")[1])["app"]
    (template,) = blocks("html")

    with app.test_request_context("/"):
        page = render_template_string(template)

    assert 'data-key="my-app"' in page
    script = re.search(r'src="(/jobpush/static/jobpush.js)"', page)
    assert script
    with app.test_client().get(script[1]) as response:
        assert response.status_code == 200


def test_the_authorisation_example_lets_members_of_the_chat_in() -> None:
    site = run(f"{blocks('python')[1]}\n{block_with('authorize_channel')}")
    site["gateway"].user_loader = lambda: "42"

    def auth(channel: str) -> Any:
        form = {"socket_id": "1.2", "channel_name": channel}
        return site["app"].test_client().post("/jobpush/auth", data=form)

    assert auth("presence-chat").get_json()["channel_data"] == '{"user_id":"42","user_info":{"name":"42"}}'
    assert auth("private-other").status_code == 403


def test_an_application_that_has_flask_and_celery_adds_less_than_15_lines() -> None:
    lines = [line for block in blocks("python")[:2] + blocks("html") for line in block.splitlines()]

    added = [line for line in lines if re.search("jobpush|progress|gateway", line)]
    assert 0 < len(added) < 15


def test_every_row_of_the_protocol_table_names_a_test_that_exists() -> None:
    (table,) = re.findall(r"## The Pusher protocol.*?\n## ", README, re.DOTALL)
    names = re.findall(r"`(test_\w+|[a-z]+(?:[A-Z]\w+)+)` \|$", table, re.MULTILINE)
    folder = Path(__file__).parent
    sources = "".join(path.read_text() for path in [*folder.rglob("test_*.py"), *folder.glob("stock_clients/*.mjs")])

    assert len(names) == len(re.findall(r"^\| ", table, re.MULTILINE)) - 2
    missing = [name for name in names if not re.search(rf"(def|function) {name}\(", sources)]
    assert missing == []
