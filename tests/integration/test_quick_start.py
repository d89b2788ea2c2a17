"""The README's quick start as a newcomer types it: its two examples as files, its tags in a page, its command."""

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

from jobpush.cli.embedded import EmbeddedRedis
from jobpush.cli.processes import ChildProcess

README = (Path(__file__).parents[2] / "README.md").read_text()
#: What an application has already: a page, and a session that names its user.
PAGE = '''
from flask import render_template_string

app.secret_key = "an existing application's"

@app.get("/")
def page():
    session["user_id"] = "42"
    return render_template_string("""<!doctype html><title>Videos</title>{tags}""")
'''


@contextmanager
def running(command: list[str], log: Path, environment: dict[str, str], listener: socket.socket) -> Iterator[None]:
    program = str(Path(sys.executable).with_name(command[0]))
    process = ChildProcess([program, *command[1:]], log=log, environment=environment, descriptors=[listener.fileno()])
    try:
        yield
    finally:
        process.stop(signal.SIGTERM, grace=10)


def test_the_quick_start_shows_a_task_to_its_user(browser: Browser, tmp_path: Path) -> None:
    tasks, site = re.findall(r"```python\n(.*?)```", README, re.DOTALL)[:2]
    (tags,) = re.findall(r"```html\n(.*?)```", README, re.DOTALL)
    (command,) = re.findall(r"`(gunicorn .*? app:app)`", README)
    (tmp_path / "app.py").write_text(site + PAGE.format(tags=tags))

    with EmbeddedRedis(port=0) as server, socket.create_server(("127.0.0.1", 0)) as listener:
        (tmp_path / "tasks.py").write_text(tasks.replace("redis://localhost:6379/0", server.url))
        settings = {"JOBPUSH_KEY": "my-app", "JOBPUSH_SECRET": "0123456789abcdef", "JOBPUSH_REDIS_URL": server.url}
        environment = {**os.environ, "PYTHONPATH": str(tmp_path), **settings}
        gunicorn = [*shlex.split(command), "--bind", f"fd://{listener.fileno()}"]
        worker = ["celery", "-A", "tasks", "worker", "--concurrency", "1"]
        with (
            running(gunicorn, tmp_path / "site.log", environment, listener),
            running(worker, tmp_path / "worker.log", environment, listener),
        ):
            page = browser.new_page()
            page.goto(f"http://127.0.0.1:{listener.getsockname()[1]}/")  # waits until gunicorn takes it
            expect(page.get_by_text("No tasks yet")).to_be_visible()

            delay = "from tasks import encode; encode.delay('42', 'cat.mov')"
            subprocess.run([sys.executable, "-c", delay], env=environment, check=True)

            card = page.get_by_role("group", name="Encode cat.mov")
            expect(card).to_have_attribute("data-state", "SUCCESS")
            expect(card).to_contain_text("4,000 / 4,000")
            page.close()
