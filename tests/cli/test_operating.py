"""The commands for operators: tasks, cancel, online, channels and config."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner, Result

from jobpush.cli import main
from jobpush.events import TaskEvent, TaskState
from jobpush.store import Store, TaskWrite
from jobpush.store.task_logs import LogEntry
from jobpush.testing import PATIENCE


@pytest.fixture(autouse=True)
def environment(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBPUSH_REDIS_URL", redis_url)
    monkeypatch.setenv("JOBPUSH_PUBLISH_TIMEOUT", str(PATIENCE))


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def publish(store: Store, task_id: str, state: TaskState, **fields: object) -> None:
    store.publish([TaskWrite("ada", TaskEvent(task_id, state, at=1.0, created_at=1.0, **fields))])  # type: ignore[arg-type]


def test_tasks_of_a_user(store: Store) -> None:
    publish(store, "t1", TaskState.PROGRESS, title="Encode \x1b[2J.mov", percent=30.0)

    output = run("tasks", "ada").output

    assert "t1" in output
    assert "PROGRESS" in output
    assert "30%" in output
    assert "\\u001b[2J" in output
    assert json.loads(run("tasks", "ada", "--json").stdout)["task_id"] == "t1"
    assert run("tasks", "bob").output == "no tasks\n"


def test_tasks_lists_more_than_a_page_running_ones_first(store: Store) -> None:
    page = store.config.tasks_per_page
    publish(store, "running", TaskState.STARTED)
    store.publish([TaskWrite("ada", TaskEvent(f"w{n}", TaskState.PENDING, created_at=n)) for n in range(page + 5)])

    ids = [json.loads(line)["task_id"] for line in run("tasks", "ada", "--json").stdout.splitlines()]

    assert ids == ["running", *[f"w{n}" for n in reversed(range(page + 5))]]


def test_each_task_is_listed_once_although_states_change_meanwhile(store: Store) -> None:
    store.publish([TaskWrite("ada", TaskEvent(f"w{n}", TaskState.PENDING, created_at=n)) for n in range(1_500)])
    tasks = store.all_tasks("ada")

    ids = [next(tasks).task_id]
    publish(store, "w3", TaskState.STARTED)
    publish(store, "w1200", TaskState.SUCCESS)

    assert sorted(ids + [task.task_id for task in tasks]) == sorted(f"w{n}" for n in range(1_500))


@pytest.mark.parametrize(
    ("state", "answer"),
    [
        (TaskState.PENDING, "cancelled"),
        (TaskState.STARTED, "cancel requested; the task is STARTED"),
        (TaskState.FAILURE, "too late: the task has ended with FAILURE"),
    ],
)
def test_cancel(state: TaskState, answer: str, store: Store) -> None:
    publish(store, "t1", state)

    assert run("cancel", "t1").output == f"{answer}\n"


def test_cancel_of_an_unknown_task_prints_one_sentence() -> None:
    result = run("cancel", "nothing")

    assert result.exit_code == 1
    assert result.output.startswith("Error: task 'nothing' is not known")


@pytest.mark.parametrize(
    ("options", "answer", "shown"),
    [
        ((), "y", "erased ada: 1 task, and everything else\n"),
        (("--yes",), "", "erased ada: 1 task, and everything else\n"),
        (("--yes", "--json"), "", '{"user": "ada", "tasks": 1}\n'),
    ],
)
def test_erase(options: tuple[str, ...], answer: str, shown: str, store: Store) -> None:
    publish(store, "t1", TaskState.SUCCESS)
    store.append_log("ada", "t1", [LogEntry("one", "info", 1.0)])
    store.keep_notification("ada", "greeting", {})

    result = CliRunner().invoke(main, ["erase", "ada", *options], input=answer)

    assert (result.exit_code, result.stdout) == (0, shown)
    assert store.tasks("ada") == []
    assert store.inbox("ada") == []


@pytest.mark.parametrize("answer", ["n", ""])
def test_erase_without_confirmation_erases_nothing(answer: str, store: Store) -> None:
    publish(store, "t1", TaskState.PROGRESS)

    result = CliRunner().invoke(main, ["erase", "ada"], input=answer)

    assert result.exit_code == 1
    assert "some tasks have not ended" in result.stderr
    assert "Remove all tasks, logs and notifications of ada" in result.stderr
    assert [task.task_id for task in store.tasks("ada")] == ["t1"]


def test_erase_of_an_invalid_user_is_one_sentence() -> None:
    result = run("erase", "", "--yes")

    assert result.exit_code == 1
    assert result.output.startswith("Error: ")


def test_presence_without_connections_lists_nothing() -> None:
    for command in ("online", "channels"):
        result = run(command)
        assert (result.exit_code, result.output) == (0, "")


def test_config_shows_environment_settings_and_masks_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBPUSH_REDIS_URL", "redis://ada:hunter2@host:6379/3")
    for name in ("SECRET", "PREVIOUS_SECRET", "METRICS_TOKEN"):
        monkeypatch.setenv(f"JOBPUSH_{name}", "hunter2")
    monkeypatch.setenv("JOBPUSH_WEBHOOK_URLS", "https://u:hunter2@hooks.example/x?token=hunter2")
    monkeypatch.setenv("JOBPUSH_MAX_TASKS", "7")
    monkeypatch.setenv("JOBPUSH_MAXTASKS", "8")

    shown = run("config")

    assert "hunter2" not in shown.output
    assert "JOBPUSH_REDIS_URL=redis://host:6379/3  (environment)\n" in shown.output
    assert "JOBPUSH_SECRET=set (7 characters)  (environment)\n" in shown.output
    assert "JOBPUSH_MAX_TASKS=7  (environment)\n" in shown.output
    assert "JOBPUSH_GRACE" not in shown.stdout
    assert "JOBPUSH_MAXTASKS is ignored: there is no such setting; did you mean JOBPUSH_MAX_TASKS?\n" in shown.stderr


def test_config_as_json_lists_every_setting() -> None:
    rows = {row["name"]: row for row in map(json.loads, run("config", "--json").stdout.splitlines())}

    assert rows["JOBPUSH_GRACE"] == {"name": "JOBPUSH_GRACE", "value": 5.0, "source": "default"}
    assert run("config", "--all").output.count("\n") == len(rows)


def test_config_of_an_application(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    (tmp_path / "config_app.py").write_text(  # type: ignore[operator]
        "from celery import Celery\nfrom jobpush import JobPush\n"
        "app = Celery(broker='memory://')\napp.conf.jobpush_max_tasks = 9\nJobPush(app, grace=1.5)\n"
    )
    monkeypatch.chdir(tmp_path)  # type: ignore[arg-type]

    output = run("config", "--app", "config_app:app").output

    assert "JOBPUSH_MAX_TASKS=9  (application)\n" in output
    assert "JOBPUSH_GRACE=1.5  (application)\n" in output
