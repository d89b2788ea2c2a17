"""The README's quick start as a newcomer types it: its three files in an empty folder, its commands, a browser."""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, expect

from jobpush.processes.child import ChildProcess
from jobpush.processes.embedded import EmbeddedRedis

README = (Path(__file__).parents[2] / "README.md").read_text()
#: Lines of code that mention jobpush: what a developer adds to an application that has Flask and Celery.
MAX_ADDED_LINES = 12


def files() -> dict[str, str]:
    """Return the files of the quick start by name, as they are printed."""
    return dict(
        re.findall(r"^(?:[^`\n]*)`([\w/]+\.(?:py|html))`, for the [^\n]*:\n\n```\w+\n(.*?)```", README, re.M | re.S)
    )


def commands() -> tuple[dict[str, str], list[list[str]]]:
    """Return the exported variables and the commands of the quick start."""
    (block,) = re.findall(r"```sh\n(export .*?)```", README, re.DOTALL)
    export, *lines = block.splitlines()
    variables = dict(word.split("=", 1) for word in shlex.split(export)[1:])
    return variables, [shlex.split(line) for line in lines]


@contextmanager
def running(command: list[str], folder: Path, environment: dict[str, str], listener: socket.socket) -> Iterator[None]:
    program = str(Path(sys.executable).with_name(command[0]))
    log = folder / f"{command[0]}.log"
    process = ChildProcess([program, *command[1:]], log=log, environment=environment, descriptors=[listener.fileno()])
    try:
        yield
    finally:
        process.stop(signal.SIGTERM, grace=10)


def test_quick_start_moves_a_bar(browser: Browser, tmp_path: Path) -> None:
    variables, (worker, gunicorn) = commands()
    with EmbeddedRedis(port=0) as server, socket.create_server(("127.0.0.1", 0)) as listener:
        for name, text in files().items():
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
            expect(card).to_have_attribute("data-state", "SUCCESS", timeout=60_000)
            page.close()


def test_start_page_of_the_docs_has_the_same_blocks() -> None:
    page = (Path(__file__).parents[2] / "docs" / "start" / "flask.md").read_text()
    start = README[README.index("## Ten minutes") : README.index("More: [`docs/`]")]

    assert re.findall(r"```.*?```", page, re.DOTALL) == re.findall(r"```.*?```", start, re.DOTALL)


def test_quick_start_has_three_files_and_few_lines() -> None:
    added = [
        line for text in files().values() for line in text.splitlines() if re.search("jobpush|progress|gateway", line)
    ]

    assert list(files()) == ["tasks.py", "app.py", "templates/index.html"]
    assert 0 < len(added) <= MAX_ADDED_LINES
