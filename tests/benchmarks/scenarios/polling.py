"""Cost of polling twice a second and age of its data, compared with push."""

from __future__ import annotations

import http.client
import json
import statistics
import tempfile
import threading
import time
from pathlib import Path

from celery import Celery

from jobpush.processes.ports import free_port

from ..peers import OURS_PER_USER, Gunicorn, Stage
from ..processes import Cores, Server, running_redis
from ..runs import Crowd, running
from .base import Metric, Pace, Sample, Scenario, Subject

CELERY_PROGRESS = Gunicorn(
    "celery-progress",
    "celery-progress",
    "celery_progress_site.py",
    arguments=("--worker-class", "gthread", "--threads", "4"),
)
#: Seconds between two polls: the default of celery_progress.js.
INTERVAL = 0.5
#: Seconds between two steps of the task: jobpush publishes at most ten a second.
STEP = 0.1
#: Headers of a browser's request, with the cookies of a Django session.
HEADERS = {
    "Accept": "*/*",
    "Accept-Encoding": "gzip, deflate, br",
    "Accept-Language": "en-GB,en;q=0.9",
    "Cookie": "sessionid=0123456789abcdef0123456789abcdef; csrftoken=0123456789abcdef0123456789abcdef",
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0 Safari/537.36",
}
#: Polls in one CPU measurement.
POLLS = 400
#: Bytes of an event of jobpush; the header of its frame comes on top.
EVENT_SIZE = 400
#: Users in the measurement of jobpush; the cost is divided among them.
USERS = 1_000


def measure_polling(pace: Pace) -> Sample:
    """Measure one user's polls, one after the other, then the age of the displayed state while the task runs."""
    cores = Cores.split()
    with running_redis(cores.load) as redis, tempfile.TemporaryDirectory() as folder:
        stage = Stage(free_port(), redis, Path(folder), cores, 1)
        server = Server(
            CELERY_PROGRESS.command(stage),
            port=stage.port,
            cores=cores.server,
            log=stage.folder / "server.log",
            environment=CELERY_PROGRESS.environment(stage),
        )
        with server, _Task(redis.url) as task:
            server.wait_until_listening()
            connection = http.client.HTTPConnection("127.0.0.1", stage.port)
            _poll(connection, task.path)
            cpu_before = server.cpu_seconds()
            size = sum(_poll(connection, task.path)[0] for _ in range(POLLS))
            cpu = (server.cpu_seconds() - cpu_before) / POLLS
            ages = _ages(connection, task, 4 * pace.seconds)
    return {
        "requests": 1 / INTERVAL,
        "bytes": size / POLLS / INTERVAL,
        "cpu": cpu / INTERVAL * 1e3,
        "age_mean": statistics.mean(ages) * 1e3,
        "age_worst": max(ages) * 1e3,
    }


def measure_ours(pace: Pace) -> Sample:
    """Measure a thousand users, each with a task that moves ten times a second."""
    crowd = Crowd(USERS, size=EVENT_SIZE)
    with running(OURS_PER_USER, crowd.connections) as run:
        run.join(crowd, options=["--may-skip"])
        run.send_command("ages 1")
        figures = run.measure(crowd, 2 * pace.seconds, "--rate", str(USERS / STEP))
    user_seconds = USERS * figures["seconds"]
    return {
        "requests": 0.0,
        "bytes": figures["bytes"] / user_seconds,
        "cpu": figures["server_cpu"] / user_seconds * 1e3,
        "age_mean": figures["age_us"]["p50"] / 1e3,
        "age_worst": figures["age_us"]["max"] / 1e3,
    }


class _Task:
    """A task in Celery's result backend that moves ten times a second. Its progress is the time of the step."""

    def __init__(self, redis_url: str) -> None:
        self._backend = Celery("bench", broker="memory://", backend=redis_url).backend
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.path = "/celery-progress/one/"

    def __enter__(self) -> _Task:
        self._store_progress()
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._is_over.wait(STEP):
            self._store_progress()

    def _store_progress(self) -> None:
        meta = {"pending": False, "current": time.monotonic_ns(), "total": 1 << 62, "percent": 3.0, "description": ""}
        self._backend.store_result("one", meta, "PROGRESS")


def _poll(connection: http.client.HTTPConnection, path: str) -> tuple[int, int]:
    """Return the bytes of request and response, and the progress in the response."""
    connection.request("GET", path, headers=HEADERS)
    response = connection.getresponse()
    body = response.read()
    request_size = len(f"GET {path} HTTP/1.1\r\nHost: {connection.host}:{connection.port}\r\n\r\n")
    request_size += sum(len(name) + len(value) + 4 for name, value in HEADERS.items())
    response_size = 19 + sum(len(name) + len(value) + 4 for name, value in response.getheaders()) + len(body)
    return request_size + response_size, int(json.loads(body)["progress"]["current"])


def _ages(connection: http.client.HTTPConnection, task: _Task, seconds: float) -> list[float]:
    """Return the age of the displayed state in seconds, sampled a hundred times a second."""
    ages: list[float] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        next_poll = time.monotonic() + INTERVAL
        _, shown = _poll(connection, task.path)
        while time.monotonic() < next_poll:
            ages.append((time.monotonic_ns() - shown) / 1e9)
            time.sleep(0.01)
    return ages


POLLING = Scenario(
    "polling",
    "Push, and polling twice a second",
    "The cost of one user with one running task that moves ten times a second, and the age of the state that the "
    "page shows. The poller is celery-progress on Django at its default interval, over a connection that is kept "
    "open. Bytes of TCP are not counted for either.",
    {
        "requests": Metric("requests a second", "", 1),
        "bytes": Metric("bytes a second", "B"),
        "cpu": Metric("server CPU a second", "ms", 3),
        "age_mean": Metric("age of what is shown, mean", "ms"),
        "age_worst": Metric("worst", "ms"),
    },
    [Subject("ours", "jobpush", measure_ours), Subject("celery-progress", "celery-progress", measure_polling)],
)
