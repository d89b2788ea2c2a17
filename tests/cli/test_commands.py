"""The commands: help with examples, one sentence per error, and safe output."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from click.testing import CliRunner, Result

from jobpush.cli import main
from jobpush.events import TaskEvent, TaskState
from jobpush.store import Membership, Store, TaskWrite, WorkflowPlan
from jobpush.store.directory import RedisDirectory
from jobpush.store.task_logs import LogEntry
from jobpush.testing import PATIENCE


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def assert_fails_with(result: Result, sentence: str) -> None:
    assert result.exit_code != 0
    assert sentence in result.output
    assert "Traceback" not in result.output


def publish(store: Store, user_id: str, *, state: TaskState = TaskState.PROGRESS, seq: int = 0) -> None:
    event = TaskEvent(
        "t1", state, title="Encode [bold]cat[/].mov", current=120, total=4000, percent=3.0, rate=58.2, eta=66.7, at=1.0
    )
    store.publish([TaskWrite(user_id, event)])


@contextmanager
def tailing(*arguments: str, redis_url: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "jobpush", "tail", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "JOBPUSH_REDIS_URL": redis_url},
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def read_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


@pytest.mark.parametrize("command", sorted(main.commands))
def test_help_of_each_command_has_an_example(command: str) -> None:
    result = run(command, "--help")

    assert result.exit_code == 0
    assert f"\n    jobpush {command}" in result.output


def test_help_and_version_import_nothing_heavy() -> None:
    script = (
        "import sys; from jobpush.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: print([name for name in ('celery', 'flask', 'redis', 'rich') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert done.stdout.rstrip().endswith("[]")


# -- gateway -----------------------------------------------------------------------------------------


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBPUSH_KEY", "key")
    monkeypatch.setenv("JOBPUSH_SECRET", "secret of the tests")
    monkeypatch.setenv("JOBPUSH_REDIS_URL", "redis://localhost:6379/0")
    monkeypatch.setattr(os, "execv", lambda *_: pytest.fail("gunicorn was started"))


def test_gateway_without_a_secret_shows_how_to_make_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBPUSH_REDIS_URL", "redis://localhost:6379/0")

    assert_fails_with(run("gateway"), "JOBPUSH_KEY is not set; make one with")


@pytest.mark.parametrize(
    "arguments", [("gateway",), ("tail", "ada"), ("notify", "ada", "greeting", "{}"), ("webhooks",)]
)
def test_command_without_a_redis_url_names_the_setting(arguments: tuple[str, ...]) -> None:
    assert_fails_with(run(*arguments), "JOBPUSH_REDIS_URL is not set; set it, or add --redis-url")


@pytest.mark.usefixtures("credentials")
@pytest.mark.parametrize("bind", ["8000", "127.0.0.1:http", "127.0.0.1:99999"])
def test_gateway_refuses_a_wrong_address(bind: str) -> None:
    assert_fails_with(run("gateway", "--bind", bind), bind.rpartition(":")[2])


@pytest.mark.usefixtures("credentials")
def test_gateway_refuses_a_port_in_use() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]

        assert_fails_with(run("gateway", "--bind", f"127.0.0.1:{port}"), f"port {port} is in use")


@pytest.mark.usefixtures("credentials")
def test_gateway_refuses_a_wrong_user_loader() -> None:
    assert_fails_with(run("gateway", "--bind", "127.0.0.1:0", "--user-loader", "nowhere:load"), "nowhere")


# -- notify and tail ---------------------------------------------------------------------------------


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the commands with Redis, however busy the machine is."""
    monkeypatch.setenv("JOBPUSH_PUBLISH_TIMEOUT", str(PATIENCE))


@pytest.mark.usefixtures("patience")
@pytest.mark.parametrize(("options", "status"), [((), 0), (("--require-receiver",), 1)])
def test_notification_without_a_receiver(options: tuple[str, ...], status: int, redis_url: str) -> None:
    result = run("notify", "ada", "greeting", '{"text": "hello"}', "--redis-url", redis_url, *options)

    assert (result.exit_code, result.output) == (status, "sent, but no connection received it\n")


def test_notification_with_wrong_json_shows_how_to_quote_it() -> None:
    assert_fails_with(run("notify", "ada", "greeting", "{text: hello}"), """as in '{"text": "hello"}'""")


def test_notification_without_redis_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBPUSH_REDIS_URL", "unix:///nowhere/redis.sock")

    assert_fails_with(run("notify", "ada", "greeting", "{}"), "Error: Redis refused a command or is unreachable")


def test_tail_shows_snapshots_and_then_events(redis_url: str, store: Store) -> None:
    publish(store, "ada")

    with tailing("ada", redis_url=redis_url) as tail:
        snapshot = read_line(tail)
        publish(store, "ada", state=TaskState.SUCCESS)
        live = read_line(tail)

    assert "PROGRESS" in snapshot
    assert "Encode [bold]cat[/].mov" in snapshot  # text, and no markup
    assert "3%" in snapshot
    assert "(58.2/s, 67 s left)" in snapshot
    assert "SUCCESS" in live


@pytest.mark.usefixtures("patience")
def test_tail_as_json_prints_one_object_per_line_notifications_included(
    redis_url: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOBPUSH_REDIS_URL", redis_url)
    publish(store, "ada")

    with tailing("ada", "--json", redis_url=redis_url) as tail:
        task = json.loads(read_line(tail))
        assert run("notify", "ada", "greeting", '"héllo"').exit_code == 0
        notification = json.loads(read_line(tail))

    assert task["event"] == "jobpush:task"
    assert task["data"]["task_id"] == "t1"
    assert notification == {"event": "greeting", "data": "héllo"}


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_tail_escapes_control_characters(options: tuple[str, ...], redis_url: str, store: Store) -> None:
    for state in (TaskState.STARTED, TaskState.FAILURE):
        event = TaskEvent("t1", state, title="x\x1b]0;owned\x07\x9b2J.mov", error="\x1b[2J", at=1.0)
        store.publish([TaskWrite("ada", event)])

    with tailing("ada", *options, redis_url=redis_url) as tail:
        line = read_line(tail)

    assert "owned" in line
    assert not set(line) & {"\x1b", "\x07", "\x9b"}
    assert "\\u001b" in line
    if options:
        assert json.loads(line)["data"]["title"] == "x\x1b]0;owned\x07\x9b2J.mov"


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_tail_with_logs_shows_kept_lines_after_their_task_and_then_new_ones(
    options: tuple[str, ...], redis_url: str, store: Store
) -> None:
    publish(store, "ada")
    store.append_log("ada", "t1", [LogEntry(f"kept {number}", "info", 1.0) for number in range(3)])

    with tailing("ada", "--logs", *options, redis_url=redis_url) as tail:
        lines = [read_line(tail) for _ in range(4)]
        store.append_log("ada", "t1", [LogEntry("new \x1b[2J", "warning", 1e300)])
        lines.append(read_line(tail))

    if options:
        data = [json.loads(line)["data"] for line in lines]
        assert [one.get("message") for one in data[1:]] == ["kept 0", "kept 1", "kept 2", "new \x1b[2J"]
        assert {one["task_id"] for one in data} == {"t1"}
    else:
        assert [line.rstrip().rpartition("  ")[2] for line in lines[1:]] == [
            "kept 0",
            "kept 1",
            "kept 2",
            "new \\u001b[2J",
        ]
        assert "warning" in lines[-1]


def test_tail_without_logs_leaves_lines_out(redis_url: str, store: Store) -> None:
    publish(store, "ada")
    store.append_log("ada", "t1", [LogEntry("kept", "info", 1.0)])

    with tailing("ada", "--json", redis_url=redis_url) as tail:
        read_line(tail)
        store.append_log("ada", "t1", [LogEntry("new", "info", 1.0)])
        publish(store, "ada", state=TaskState.SUCCESS)

        assert json.loads(read_line(tail))["data"]["state"] == "SUCCESS"


def test_tail_shows_a_workflow_and_not_its_members(redis_url: str, store: Store) -> None:
    workflow = TaskEvent("w1", TaskState.PENDING, at=1.0, created_at=1.0)
    store.publish([TaskWrite("ada", workflow, plan=WorkflowPlan(2, 2.0))])

    with tailing("ada", "--json", redis_url=redis_url) as tail:
        read_line(tail)
        event = TaskEvent("m1", TaskState.STARTED, at=1.0, created_at=1.0, root_id="w1")
        store.publish([TaskWrite("ada", event, membership=Membership("0:2", is_planned=True))])

        assert json.loads(read_line(tail))["data"]["task_id"] == "w1"


@pytest.mark.usefixtures("patience")
def test_tail_continues_after_its_user_is_disconnected(
    redis_url: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOBPUSH_REDIS_URL", redis_url)
    publish(store, "ada")

    with tailing("ada", "--json", redis_url=redis_url) as tail:
        read_line(tail)
        RedisDirectory(store).disconnect("ada")
        assert run("notify", "ada", "greeting", "{}").exit_code == 0

        assert json.loads(read_line(tail))["event"] == "greeting"


def test_wrong_redis_url_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBPUSH_REDIS_URL", "bogus")

    for command in (["tail", "ada"], ["notify", "ada", "greeting", "{}"]):
        assert_fails_with(run(*command), "Error: JOBPUSH_REDIS_URL is not the URL of a Redis")


def test_tail_shows_no_events_of_other_users(redis_url: str, store: Store) -> None:
    publish(store, "bob")
    publish(store, "ada")

    with tailing("ada", "--json", redis_url=redis_url) as tail:
        read_line(tail)
        publish(store, "bob", state=TaskState.SUCCESS)
        publish(store, "ada", state=TaskState.FAILURE)

        assert json.loads(read_line(tail))["data"]["state"] == "FAILURE"


def test_tail_ends_without_a_message_on_ctrl_c(redis_url: str, store: Store) -> None:
    publish(store, "ada")

    with tailing("ada", redis_url=redis_url) as tail:
        read_line(tail)
        tail.send_signal(signal.SIGINT)
        output, errors = tail.communicate(timeout=30)

    assert (tail.returncode, output, errors) == (0, "", "")


def test_tail_without_redis_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBPUSH_REDIS_URL", "unix:///nowhere/redis.sock")

    assert_fails_with(run("tail", "ada"), "Error: Redis refused a command or is unreachable")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("lone \ud800 surrogate", "lone \\ud800 surrogate"),
        ("\u202egpj.exe", "\\u202egpj.exe"),
        ("\u2066isolate\u2069", "\\u2066isolate\\u2069"),
        ("line\u2028separator", "line\\u2028separator"),
        ("tag \U000e0041", "tag \\udb40\\udc41"),
        ("new\nline", "new\\nline"),
        ("bold [bold]x[/]", "bold [bold]x[/]"),
        ("é 日本 \U0001f469\u200d\U0001f680 نص", "é 日本 \U0001f469\u200d\U0001f680 نص"),
    ],
)
def test_tail_shows_unsafe_characters_as_escapes(text: str, shown: str, redis_url: str, store: Store) -> None:
    publish(store, "ada")

    with tailing("ada", redis_url=redis_url) as tail:
        read_line(tail)
        store.trigger(["#server-to-user-ada"], "greeting", {"text": text})
        line = read_line(tail)

    assert line.rstrip("\n").endswith(json.dumps({"text": "?"}).replace("?", shown))


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_tail_writes_to_a_terminal_without_utf_8(
    options: tuple[str, ...], redis_url: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    publish(store, "ada")

    with tailing("ada", *options, redis_url=redis_url) as tail:
        assert "Encode" in read_line(tail)


def test_missing_package_error_names_its_extra(redis_url: str, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(store, "ada")
    for package, command, extra in (
        ("rich", ["tail", "ada"], "cli"),
        ("gunicorn", ["gateway"], "gateway"),
        ("flask_sock", ["gateway"], "gateway"),
    ):
        with monkeypatch.context() as patch:
            # Its modules too: Python looks for an imported module before it looks for the module's package.
            for name in [package, *(name for name in sys.modules if name.startswith(f"{package}."))]:
                patch.setitem(sys.modules, name, None)
            result = run(*command, "--redis-url", redis_url)
        assert_fails_with(result, f"needs the package {package}; run: pip install 'jobpush[{extra}]'")
