"""The start pages show the files of ``docs/examples``, and what their backends make is accepted."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from kombu import Connection

from jobpush.config import Config
from jobpush.processes.child import ChildProcess
from jobpush.processes.embedded import EmbeddedRedis
from jobpush.queues.celery.headers import read_headers
from jobpush.testing import PATIENCE
from jobpush.tokens import read_token
from tests.effort import IS_FULL
from tests.waiting import is_listening, wait_until

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "docs" / "examples"
SECRET = "0123456789abcdef0123456789abcdef"
#: The page, and the folders of the files that it shows.
PAGES = {
    "django": ["django"],
    "fastapi": ["fastapi"],
    "single-page-app": ["spa", "spa/react", "spa/vue"],
    "other-languages": ["node", "languages"],
}
#: Files that a reader does not need to move a bar.
EXTRA = {"django/shop/tests.py"}
TOKENS = {
    "node": ("jobpush.mjs", "{source}\nconsole.log(jobpushToken('42', '{secret}'));"),
    "php": ("token.php", "{source}\necho jobpush_token('42', '{secret}');"),
    "ruby": ("token.rb", "{source}\nputs jobpush_token('42', '{secret}')"),
    "go": ("token.go", '{source}\nfunc main() {{ print(jobpushToken("42", "{secret}", 900*time.Second)) }}'),
}


#: Go compiles its library for the first program, so only in ``make test-all``.
LANGUAGES = [name for name in TOKENS if name != "go" or IS_FULL]


def shown(page: str) -> set[tuple[str, str]]:
    """Return the names and contents of the files that a page shows."""
    text = (ROOT / "docs" / "start" / f"{page}.md").read_text()
    return set(re.findall(r'^```\w+ title="(.+?)"\n(.*?)^```$', text, re.DOTALL | re.MULTILINE))


@pytest.mark.parametrize("page", PAGES)
def test_start_page_shows_the_complete_example(page: str) -> None:
    files = {
        (file.relative_to(EXAMPLES / folder).as_posix(), file.read_text())
        for folder in PAGES[page]
        for file in (EXAMPLES / folder).rglob("*.*")
        if file.suffix != ".pyc" and file.relative_to(EXAMPLES).as_posix() not in EXTRA
        if not any(file.is_relative_to(EXAMPLES / other) for other in PAGES[page] if other.startswith(f"{folder}/"))
    }

    assert shown(page) == files


def test_every_start_page_has_the_same_sections() -> None:
    for page in PAGES:
        headings = re.findall(r"^## (.+)$", (ROOT / "docs" / "start" / f"{page}.md").read_text(), re.MULTILINE)
        assert {"Install", "Run it", "What you see", "If nothing moves", "Next"} <= set(headings)


@pytest.mark.parametrize("language", LANGUAGES)
def test_token_made_in_another_language_is_accepted(language: str, tmp_path: Path) -> None:
    name, program = TOKENS[language]
    (source,) = [text for title, text in shown("other-languages") if title == name]
    script = tmp_path / name
    script.write_text(program.format(source=source, secret=SECRET))
    command = ["go", "run", script] if language == "go" else [language, script]
    environment = {**os.environ, "GOCACHE": str(tmp_path / "cache")}

    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment, cwd=tmp_path)

    token = (done.stdout or done.stderr).strip()  # Go's print() writes to the latter
    assert read_token(Config(key="my-app", secret=SECRET), token, time.time()).user_id == "42"


def test_backend_in_node_signs_in_and_starts_the_task(tmp_path: Path) -> None:
    for name, text in shown("other-languages"):
        (tmp_path / name).write_text(text)
    with EmbeddedRedis(port=0) as redis, socket.create_server(("127.0.0.1", 0)) as one:
        port = one.getsockname()[1]
        one.close()
        server = tmp_path / "server.mjs"
        server.write_text(server.read_text().replace("6379", str(urlsplit(redis.url).port)))
        environment = {**os.environ, "JOBPUSH_KEY": "my-app", "JOBPUSH_SECRET": SECRET, "PORT": str(port)}
        process = ChildProcess(["node", str(server)], log=tmp_path / "log", environment=environment)
        try:
            opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
            site = f"http://127.0.0.1:{port}"
            wait_until(lambda: is_listening(port), (tmp_path / "log").read_text)
            page = opener.open(f"{site}/sign-in?name=Ada").read().decode()
            token = json.load(opener.open(f"{site}/jobpush-token"))["token"]
            opener.open(f"{site}/export", data=b"").close()
            with Connection(redis.url) as connection:
                message = connection.SimpleQueue("celery").get(timeout=PATIENCE)
                message.ack()
        finally:
            process.kill()

    assert 'data-key="my-app"' in page and "<jobpush-tasks>" in page
    assert read_token(Config(key="my-app", secret=SECRET), token, time.time()).user_id == "Ada"
    identity = read_headers(message.headers)
    assert identity and (identity.user_id, identity.title) == ("Ada", "Export orders.csv")
    assert message.payload[:2] == [["Ada", "orders.csv"], {}]
    assert message.headers["task"] == "tasks.export"


#: Both programs in one process: their tasks.py is the same file.
USE_BACKENDS = """
import api, start, tasks
tasks.celery_app.conf.broker_url = "memory://"
client = api.app.test_client()
assert client.get("/api/jobpush-token").status_code == client.post("/api/export").status_code == 401
client.post("/api/sign-in", json={"name": "Ada"})
assert client.post("/api/export").status_code == 202
other = start.app.test_client().post("/export", json={"user_id": "Bob", "name": "bills.csv"}).json["task_id"]
assert [task.title for task in tasks.jobpush.tasks("Ada")] == ["Export orders.csv"]
assert [task.task_id for task in tasks.jobpush.tasks("Bob")] == [other]
print(client.get("/api/jobpush-token").json["token"])
"""


def test_backends_in_python_start_tasks_of_the_user_and_make_a_token(redis_url: str) -> None:
    assert (EXAMPLES / "spa" / "tasks.py").read_text() == (EXAMPLES / "node" / "tasks.py").read_text()
    environment = {**os.environ, "JOBPUSH_KEY": "my-app", "JOBPUSH_SECRET": SECRET, "JOBPUSH_REDIS_URL": redis_url}
    environment["PYTHONPATH"] = os.pathsep.join(map(str, (EXAMPLES / "spa", EXAMPLES / "node", ROOT)))

    command = [sys.executable, "-c", USE_BACKENDS]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)

    assert done.returncode == 0, done.stderr
    assert read_token(Config(key="my-app", secret=SECRET), done.stdout.strip(), time.time()).user_id == "Ada"
