"""The quick start of the README and of the Flask start page, run with its files and commands in a real browser."""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, expect

from jobpush.processes.child import ChildProcess
from jobpush.processes.embedded import EmbeddedRedis

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
PAGE = (ROOT / "docs" / "start" / "flask.md").read_text()
#: Lines of code that mention jobpush: those that a developer adds to an application that has Flask and Celery.
MAX_ADDED_LINES = 12


def files(page: str) -> dict[str, str]:
    """Return the files that a page shows, by name."""
    return dict(re.findall(r"`([\w/]+\.(?:py|html))`, for the [^\n]*:\n\n```\w+\n(.*?)```", page, re.DOTALL))


def commands(page: str) -> tuple[dict[str, str], list[list[str]]]:
    """Return the variables that each terminal of a page exports, and the command of each."""
    terminals = re.findall(r"```sh\n\. \.venv/bin/activate\n((?:export .*\n)+)(.*)\n```", page)
    (exports,) = {exports for exports, _ in terminals}
    variables = dict(word.split("=", 1) for word in shlex.split(exports) if word != "export")
    return variables, [shlex.split(command) for _, command in terminals]


def program(command: list[str]) -> list[str]:
    """Return a command with the path of its program in this environment."""
    return [str(Path(sys.executable).with_name(command[0])), *command[1:]]


@contextmanager
def running(command: list[str], folder: Path, environment: dict[str, str], listener: socket.socket) -> Iterator[None]:
    log = folder / f"{command[0]}.log"
    process = ChildProcess(program(command), log=log, environment=environment, descriptors=[listener.fileno()])
    try:
        yield
    finally:
        process.stop(signal.SIGTERM, grace=10)


def test_quick_start_moves_a_bar(browser: Browser, tmp_path: Path) -> None:
    variables, (worker, gunicorn, doctor) = commands(PAGE)
    assert commands(README) == (variables, [worker, gunicorn])
    with EmbeddedRedis(port=0) as server, socket.create_server(("127.0.0.1", 0)) as listener:
        for name, text in files(README).items():
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(text.replace(variables["JOBPUSH_REDIS_URL"], server.url))
        environment = {**os.environ, **variables, "JOBPUSH_REDIS_URL": server.url, "PYTHONPATH": str(tmp_path)}
        celery = [worker[0], "--workdir", str(tmp_path), *worker[1:], "--concurrency", "1"]
        site = [*gunicorn, "--bind", f"fd://{listener.fileno()}", "--chdir", str(tmp_path)]
        with (
            running(celery, tmp_path, environment, listener),
            running(site, tmp_path, environment, listener),
        ):
            page = browser.new_page()
            page.goto(f"http://127.0.0.1:{listener.getsockname()[1]}/")
            page.get_by_placeholder("Your name").fill("Ada")
            page.get_by_role("button", name="Sign in").click()
            page.get_by_role("button", name="Encode cat.mov").click()

            card = page.get_by_role("group", name="Encode cat.mov")
            expect(card).to_have_attribute("data-state", "PROGRESS", timeout=60_000)
            page.reload()
            report = subprocess.run(program(doctor), cwd=tmp_path, env=environment, capture_output=True, text=True)
            expect(card).to_have_attribute("data-state", "SUCCESS", timeout=60_000)
            page.close()

    assert report.returncode == 0, report.stdout


def test_start_page_of_the_docs_has_the_same_files() -> None:
    assert files(PAGE) == files(README)


def test_quick_start_has_three_files_and_few_lines() -> None:
    added = [
        line
        for text in files(README).values()
        for line in text.splitlines()
        if re.search("jobpush|progress|gateway", line)
    ]

    assert list(files(README)) == ["tasks.py", "app.py", "templates/index.html"]
    assert 0 < len(added) <= MAX_ADDED_LINES
