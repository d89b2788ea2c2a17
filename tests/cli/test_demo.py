"""``jobpush demo`` as a process: its output, its end, and that nothing is left behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import urlencode

import pytest
from redis import Redis

from jobpush.cli.support import demo_runner
from jobpush.processes.child import Guard
from jobpush.processes.embedded import EmbeddedRedis
from tests.effort import thorough
from tests.waiting import wait_until


@pytest.fixture
def temporary() -> Iterator[Path]:
    """
    The folder for temporary files of a demo and of all its processes, which it identifies.

    Its name is short: the path of a socket has at most about 100 characters.
    """
    with tempfile.TemporaryDirectory(prefix="a demo's ") as folder:
        yield Path(folder)


@contextmanager
def started(temporary: Path, *options: str, **settings: str) -> Iterator[subprocess.Popen[str]]:
    """A starting demo, killed after the block. Without a ``DISPLAY`` it opens no browser."""
    no_browser = () if "DISPLAY" in settings else ("--no-open",)
    guard = Guard()
    with subprocess.Popen(
        [sys.executable, "-m", "jobpush", "demo", *no_browser, *(options or ("--port", "0"))],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(temporary), **settings},
        start_new_session=True,
    ) as demo:
        guard.watch(demo.pid)
        try:
            yield demo
        finally:
            demo.kill()
            guard.release()


@contextmanager
def running(temporary: Path, *options: str, **settings: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A ready demo, and its URL."""
    with started(temporary, *options, **settings) as demo:
        assert demo.stdout is not None
        line = demo.stdout.readline()
        url = next((word for word in line.split() if word.startswith("http://")), None)
        assert url, demo.communicate()[1]
        yield demo, url


def processes_of(temporary: Path) -> dict[int, str]:
    """
    Command lines by process id, of all processes of the demo.

    They inherit its environment. Redis overwrites that with its title, but works in a folder of the demo.
    """
    mark = f"TMPDIR={temporary}".encode()
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (process / "environ").read_bytes() or (process / "cwd").readlink().is_relative_to(temporary):
                found[int(process.name)] = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue  # it has ended meanwhile
    return found


def pid_of(temporary: Path, word: str) -> int:
    """The oldest process with the word in its command line."""
    return min(pid for pid, command in processes_of(temporary).items() if word in command and "read -r" not in command)


def assert_nothing_is_left(temporary: Path) -> None:
    assert processes_of(temporary) == {}
    assert list(temporary.iterdir()) == []


def wait_until_nothing_is_left(temporary: Path) -> None:
    """Wait for the clean-up after a kill, by the guards, which are not our children."""
    wait_until(
        lambda: not processes_of(temporary) and not list(temporary.iterdir()),
        lambda: (processes_of(temporary), list(temporary.iterdir())),
    )


def test_demo_is_found_beside_the_package() -> None:
    assert (demo_runner._CHECKOUT / "demo_app" / "__init__.py").is_file()


@pytest.mark.parametrize(
    "number", [signal.SIGINT, *(pytest.param(number, marks=thorough) for number in (signal.SIGTERM, signal.SIGHUP))]
)
def test_demo_runs_all_parts_opens_a_browser_prints_one_line_and_leaves_nothing_after_a_signal(
    temporary: Path, tmp_path: Path, number: signal.Signals
) -> None:
    browser, opened = tmp_path / "browser", tmp_path / "opened"
    browser.write_text(f'#!/bin/sh\necho "$1" > {opened}\n')
    browser.chmod(0o700)

    with running(temporary, DISPLAY=":1", BROWSER=f"{browser} %s") as (demo, url):
        assert pid_of(temporary, "redis-server")
        assert len(children_of(pid_of(temporary, "celery"))) == 2
        assert len(children_of(pid_of(temporary, "gunicorn"))) == 1
        with urllib.request.urlopen(url) as page:
            assert b"Your name" in page.read()

        demo.send_signal(number)  # handled after the browser was opened
        output, errors = demo.communicate(timeout=60)

    assert opened.read_text() == f"{url}\n"
    assert (demo.returncode, output, errors) == (0, "", "")
    assert_nothing_is_left(temporary)


def children_of(pid: int) -> list[str]:
    return [child for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()]


def test_killed_demo_leaves_nothing(temporary: Path) -> None:
    with running(temporary) as (demo, _):
        demo.send_signal(signal.SIGKILL)
        demo.wait()

        wait_until_nothing_is_left(temporary)


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("celery", "the worker was killed by signal 9"),
        pytest.param("redis-server", "Redis ended by itself", marks=thorough),
        pytest.param("gunicorn", "the site", marks=thorough),
    ],
)
def test_demo_stops_when_a_part_dies_and_names_it(temporary: Path, word: str, sentence: str) -> None:
    with running(temporary) as (demo, _):
        os.kill(pid_of(temporary, word), signal.SIGKILL)
        _, errors = demo.communicate(timeout=60)

    assert demo.returncode == 1
    assert f"Error: {sentence}" in errors
    assert "Traceback" not in errors
    assert list(temporary.iterdir()) == []
    wait_until_nothing_is_left(temporary)


@thorough
def test_demo_stopped_while_it_starts_leaves_nothing(temporary: Path) -> None:
    with started(temporary, "--verbose", "--port", "0") as demo:
        assert demo.stderr is not None
        demo.stderr.readline()  # a part has started

        demo.send_signal(signal.SIGINT)
        output, _ = demo.communicate(timeout=60)

    assert (demo.returncode, output) == (0, "")
    assert_nothing_is_left(temporary)


@thorough
def test_demo_with_a_part_that_fails_to_start_shows_its_log_and_leaves_nothing(temporary: Path) -> None:
    with started(temporary, JOBPUSH_DEMO_MAX_BYTES="many") as demo:
        _, errors = demo.communicate(timeout=60)

    assert demo.returncode == 1
    assert "ended with status" in errors
    assert "ValueError: invalid literal for int() with base 10: 'many'" in errors
    assert_nothing_is_left(temporary)


@thorough
def test_demo_of_a_broken_install_shows_the_log_of_the_failed_part(temporary: Path, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.modules['kombu.transport.redis'] = None")

    with started(temporary, PYTHONPATH=str(tmp_path)) as demo:
        _, errors = demo.communicate(timeout=60)

    assert demo.returncode == 1
    assert errors.startswith("Error: the worker ended with status 1; the end of its log:\n")
    assert "import of kombu.transport.redis halted" in errors
    assert_nothing_is_left(temporary)


def test_demo_that_cannot_continue_prints_one_sentence(temporary: Path, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import subprocess; subprocess.Popen = None")

    with started(temporary, PYTHONPATH=str(tmp_path)) as demo:
        _, errors = demo.communicate(timeout=60)

    assert demo.returncode == 1
    assert errors == "Error: the demo can't continue: TypeError: 'NoneType' object is not callable\n"
    assert_nothing_is_left(temporary)


def test_demo_refuses_a_port_in_use(temporary: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with started(temporary, "--port", str(port)) as demo:
            output, errors = demo.communicate(timeout=60)

    assert (demo.returncode, output, errors) == (1, "", f"Error: port {port} is in use; choose another\n")
    assert_nothing_is_left(temporary)


@thorough
def test_demo_uses_a_given_redis(temporary: Path, redis_server: EmbeddedRedis) -> None:
    with running(temporary, JOBPUSH_REDIS_URL=redis_server.url) as (demo, _):
        assert not any("redis-server" in command for command in processes_of(temporary).values())

        demo.send_signal(signal.SIGTERM)
        assert demo.wait(timeout=60) == 0

    assert redis_server.is_running
    assert_nothing_is_left(temporary)


def use_every_page(url: str) -> None:
    """Sign in, upload a file, and send a message."""
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
    browser.addheaders = [("X-Requested-With", "tests")]
    forms = {"sign-in": {"name": "Ada"}, "chat/messages": {"text": "Hello"}, "feed/headlines": {"text": "Hello"}}
    for path, form in forms.items():
        browser.open(f"{url}{path}", urlencode(form).encode()).close()
    upload = urllib.request.Request(f"{url}videos/{uuid.uuid4()}", b"no video", method="PUT")
    browser.open(upload).close()


def test_demo_leaves_nothing_in_a_given_redis(temporary: Path, redis_server: EmbeddedRedis) -> None:
    with closing(Redis.from_url(redis_server.url, decode_responses=True)) as client:
        others = {"jobpush:{live}:epoch", "celery", "_kombu.binding.celery", "jobpush-demo-"}
        client.mset(dict.fromkeys(others, "somebody else's"))

        with running(temporary, JOBPUSH_REDIS_URL=redis_server.url) as (demo, url):
            use_every_page(url)
            assert len(set(client.keys())) > len(others)
            demo.send_signal(signal.SIGTERM)
            assert demo.wait(timeout=60) == 0

        assert set(client.keys()) == others


@thorough
def test_demo_uses_a_given_prefix_and_clears_nothing_there(temporary: Path, redis_server: EmbeddedRedis) -> None:
    with closing(Redis.from_url(redis_server.url, decode_responses=True)) as client:
        client.set("ours:precious", "somebody else's")

        with running(temporary, JOBPUSH_REDIS_URL=redis_server.url, JOBPUSH_PREFIX="ours") as (demo, url):
            use_every_page(url)
            demo.send_signal(signal.SIGTERM)
            assert demo.wait(timeout=60) == 0

        keys = set(client.keys())
        assert {"ours:precious", "ours:demo:messages"} <= keys
        assert all(key.startswith("ours:") for key in keys)


def test_demo_refuses_an_unreachable_redis(temporary: Path) -> None:
    with started(temporary, JOBPUSH_REDIS_URL="unix:///nowhere/redis.sock") as demo:
        _, errors = demo.communicate(timeout=60)

    assert demo.returncode == 1
    assert "Error: JOBPUSH_REDIS_URL is set, but cannot be used: " in errors
    assert_nothing_is_left(temporary)


def test_demo_without_ffmpeg_names_what_to_install(temporary: Path, tmp_path: Path) -> None:
    hidden = tmp_path / "imageio_ffmpeg"
    hidden.mkdir()
    (hidden / "__init__.py").write_text("def get_ffmpeg_exe(): raise RuntimeError('No ffmpeg exe could be found.')")

    with started(temporary, PATH="", PYTHONPATH=str(tmp_path)) as demo:
        output, errors = demo.communicate(timeout=60)

    assert (demo.returncode, output) == (1, "")
    assert errors.startswith("Error: No ffmpeg")
    assert errors.count("\n") == 1
    assert_nothing_is_left(temporary)
