"""Gateways, workers and Redis as real processes, and a crowd of pages; each of them can be made to fail."""

from __future__ import annotations

import gc
import itertools
import json
import os
import re
import signal
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import redis

from jobpush.config import Config
from jobpush.errors import StoreError
from jobpush.processes.child import ChildProcess
from jobpush.processes.embedded import EmbeddedRedis
from jobpush.processes.ports import free_port
from jobpush.store import Store
from tests.celery_site.site import as_broker
from tests.gateway.site import METRICS_TOKEN
from tests.preloaded import PreloadedProcess
from tests.waiting import PATIENCE, wait_until

from .crowd import NEWS, ROOM, Crowd
from .processes import children, family
from .proxy import Proxy
from .tasks import SharedCounter, make_app

_ROOT = Path(__file__).parents[2]
#: Seconds after which a worker and a gateway count as dead; both shorter than the outages of Redis here.
LOST_AFTER = 6.0
LEASE = 6.0
#: Prefix of Celery's log lines: time, level, and process name.
_CELERY = re.compile(r"^\[[^\]]*: (WARNING|ERROR|CRITICAL)/(\S+)\] (.*)")
#: Log lines of Celery and gunicorn that are unrelated to jobpush.
_OTHERS = re.compile(r"^\[.*(INFO|DEBUG)|^\[.*\] \[\d+\] \[")


class Gateway:
    """A gunicorn with one worker process, on a port that it keeps across restarts."""

    def __init__(self, redis_url: str, log: Path, **settings: object) -> None:
        self.port = free_port()
        self.log = log
        self._environment = {**os.environ, "PYTHONPATH": str(_ROOT), "JOBPUSH_REDIS_URL": redis_url}
        self._environment.update((f"JOBPUSH_{name.upper()}", str(value)) for name, value in settings.items())
        self._child: ChildProcess | None = None

    def start(self) -> Gateway:
        """Start the gateway, without waiting until it is ready."""
        command = [sys.executable, "-m", "gunicorn", "--config", "python:jobpush.gunicorn_conf"]
        command += ["--bind", f"127.0.0.1:{self.port}", "tests.gateway.site:create_app()"]
        self._child = PreloadedProcess(command, log=self.log, environment=self._environment)
        return self

    @property
    def pid(self) -> int:
        """Process id of the gunicorn worker."""
        assert self._child is not None
        return children(self._child.pid)[0]

    def is_ready(self) -> bool:
        """Return whether the gateway reports that it is ready."""
        return self.ask("/jobpush/health/ready")[0] == 200

    def ask(self, path: str) -> tuple[int, str]:
        """Request a path; return the status and text of the response, or 0 if there is none."""
        headers = {"Authorization": f"Bearer {METRICS_TOKEN}"}
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=10) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as exc:
            with exc:
                return exc.code, exc.read().decode()
        except OSError:
            return 0, ""

    def figures(self) -> dict[str, float]:
        """Return the gateway's metrics that have no labels."""
        lines = self.ask("/jobpush/metrics")[1].splitlines()
        pairs = [line.split() for line in lines if not line.startswith("#") and "{" not in line]
        return {name: float(value) for name, value in pairs}

    def wait_until_ready(self, is_ready: bool = True) -> None:
        """Wait until the gateway reports that it is, or is not, ready."""
        wait_until(lambda: self.is_ready() is is_ready, f"gateway {self.port} is ready: {is_ready}")

    def stop(self) -> None:
        """Stop the gateway as a process manager does."""
        if self._child is not None:
            self._child.stop(signal.SIGTERM, grace=PATIENCE)

    def kill(self) -> None:
        """Kill the gateway with all its processes."""
        if self._child is not None:
            self._child.kill()


class Ticker:
    """
    A server that publishes ten numbers a second, and records those that Redis has confirmed.

    It has its own connection to Redis, so that it continues if a gateway is cut off.
    """

    def __init__(
        self,
        url: Callable[[], str],
        interval: float,
        numbers: Iterator[int],
        *,
        channel: str = NEWS,
        data_of: Callable[[int], object] = lambda number: {"n": number},
    ) -> None:
        self.confirmed: list[int] = []
        self._url = url
        self._interval = interval
        self._numbers = numbers
        self._channel, self._data_of = channel, data_of
        self._is_stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop publishing."""
        self._is_stopped.set()
        self._thread.join()

    def _run(self) -> None:
        store, url = None, ""
        for number in self._numbers:
            if self._is_stopped.wait(self._interval):
                break
            if self._url() != url:
                url = self._url()
                store = Store(Config(redis_url=url, publish_timeout=1.0))
            assert store is not None
            try:
                store.trigger([self._channel], "number", self._data_of(number))
            except StoreError:
                continue  # unknown whether Redis has accepted it
            self.confirmed.append(number)
        if store is not None:
            store.close()


class Feed:
    """A web process that publishes short tasks continuously, for each user in turn."""

    def __init__(self, delay: Callable[[str], object], users: Sequence[str], interval: float) -> None:
        self._is_stopped = threading.Event()
        self._delay = delay
        self._users = itertools.cycle(users)
        self._interval = interval
        self.longest = 0.0
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop publishing."""
        self._is_stopped.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._is_stopped.wait(self._interval):
            begun = time.monotonic()
            self._delay(next(self._users))
            self.longest = max(self.longest, time.monotonic() - begun)


class Stand:
    """
    A complete deployment: ``with Stand(folder) as stand: …``.

    Args:
        folder: Folder for logs and for the files that tasks wait for.
        gateways: Number of gateways.
        users: Number of users, each with two open pages.
        redis_url: Redis of the events, if the test starts a Sentinel or a cluster; empty: a server behind a proxy.
        settings: Settings of jobpush for all processes.
    """

    def __init__(
        self, folder: Path, *, gateways: int = 1, users: int = 10, redis_url: str = "", **settings: object
    ) -> None:
        self.folder = folder
        self.redis_url = redis_url
        self.users = [f"u{number}" for number in range(users)]
        self.settings: dict[str, object] = {"lost_after": LOST_AFTER, "lease": LEASE, "grace": 1.0, **settings}
        self._count_of_gateways = gateways
        self.tasks: dict[str, set[str]] = {user: set() for user in self.users}
        self._stack = ExitStack()
        self._files = (folder / f"file-{number}" for number in itertools.count())
        self._numbers = itertools.count(1)
        self._workers: list[ChildProcess] = []
        self._counts: list[Path] = []
        self._publishers: list[Ticker | Feed] = []

    def __enter__(self) -> Stand:
        try:
            self._begin()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def _begin(self) -> None:
        self.broker = self._stack.enter_context(EmbeddedRedis())
        self.broker_client = self._stack.enter_context(redis.Redis.from_url(self.broker.url))
        if not self.redis_url:
            self.events = self._stack.enter_context(EmbeddedRedis(port=0))
            self.primary_port = self.port_of(self.events)
            self.proxy = Proxy(self.primary_port)
            self._stack.callback(self.proxy.close)
            self.redis_url = self.proxy.url
        self.gateways = [
            Gateway(self.redis_url, self.folder / f"gateway-{number}.log", **self.settings)
            for number in range(self._count_of_gateways)
        ]
        for gateway in self.gateways:
            self._stack.callback(gateway.kill)
            gateway.start()
        broker_url = as_broker(self.broker.url)
        self._app_settings = {"broker_url": broker_url, "redis_url": self.redis_url, **self.settings}
        self.app, self.jobpush = make_app(**self._app_settings)
        self._stack.callback(self._close_app)
        self.store = Store(Config(redis_url=self.redis_url, publish_timeout=5.0))
        self._stack.callback(self.store.close)
        self._stack.callback(self.stop_publishing)

    def on_exit(self, close: Callable[[], object]) -> None:
        """Close something before the processes end."""
        self._stack.callback(close)

    def open_crowd(self, **options: Any) -> Crowd:
        """Open two pages for each user, or one for each of ``users``."""
        users, channels = options.pop("users", self.users * 2), options.pop("channels", (NEWS, ROOM))
        crowd = Crowd([gateway.port for gateway in self.gateways], users, channels=channels, **options)
        self._stack.callback(crowd.close)
        crowd.wait_until_all_are_open()
        return crowd

    def start_worker(
        self, *options: str, environment: dict[str, str] | None = None, **settings: object
    ) -> ChildProcess:
        """Start a worker; ``settings`` override those of the stand."""
        settings = {**self._app_settings, **settings}
        command = [sys.executable, "-m", "tests.faults.run_worker", json.dumps(settings)]
        command += options or ("-c", "4")
        worker = PreloadedProcess(
            [*command, "-n", f"worker-{len(self._workers)}@localhost"],
            log=self.folder / f"worker-{len(self._workers)}.log",
            environment={**os.environ, "PYTHONPATH": str(_ROOT), **(environment or {})},
        )
        self._workers.append(worker)
        self._stack.callback(worker.kill)
        return worker

    def start_ticker(self, interval: float = 0.1, **options: Any) -> Ticker:
        """Start publishing numbers."""
        ticker = Ticker(self._url_of_ticker, interval, self._numbers, **options)
        self._publishers.append(ticker)
        return ticker

    def start_feed(self, interval: float = 0.2, steps: int = 10, name: str = "works") -> Feed:
        """Start publishing short tasks."""
        feed = Feed(lambda user: self.delay(user, name, steps, 0.02), self.users, interval)
        self._publishers.append(feed)
        return feed

    def stop_publishing(self) -> None:
        """Stop all tickers and feeds that still run."""
        while self._publishers:
            self._publishers.pop().stop()

    def path(self) -> Path:
        """Return the path of a file that does not exist yet."""
        return next(self._files)

    def delay(self, user: str, name: str, *args: Any, **options: Any) -> str:
        """Publish a task for a user; return its id."""
        arguments = [str(argument) if isinstance(argument, Path) else argument for argument in args]
        task_id = str(self.app.send_task(name, arguments, headers={"jobpush_user": user}, **options).id)
        self.tasks.setdefault(user, set()).add(task_id)
        return task_id

    def run_until(self, user: str, stop: Path, ballast: str = "", **options: Any) -> str:
        """Publish a task that reports progress until the file ``stop`` exists; return its id."""
        self._counts.append(stop)
        return self.delay(user, "runs_until", stop, ballast, **options)

    def updates(self) -> int:
        """Return the number of progress reports by the tasks of :meth:`run_until`."""
        files = [path for stop in set(self._counts) for path in stop.parent.glob(f"{stop.name}.count-*")]
        return sum(SharedCounter(path).value for path in files)

    def pids(self) -> dict[str, int]:
        """Return the ids of all running gateways and workers, by name."""
        found = {}
        for number, gateway in enumerate(self.gateways):
            found[f"gateway {number}"] = gateway.pid
        for number, worker in enumerate(self._workers):
            if worker.is_running:
                for place, pid in enumerate(family(worker.pid)):
                    found[f"worker {number}.{place}"] = pid
        return found

    def start_replica(self) -> EmbeddedRedis:
        """Start a replica of the Redis of the events, and wait until it is in sync."""
        replica = self._stack.enter_context(EmbeddedRedis(port=0))
        with redis.Redis.from_url(replica.url) as client:
            client.replicaof("127.0.0.1", self.primary_port)
            wait_until(lambda: client.info("replication")["master_link_status"] == "up", "the replica is in sync")
        return replica

    def take_over(self, replica: EmbeddedRedis) -> None:
        """Route new connections to the Redis of the events to a replica."""
        self.primary_port = self.port_of(replica)
        self.proxy.point_to(self.primary_port)

    def port_of(self, server: EmbeddedRedis) -> int:
        """Return the port of a Redis."""
        return int(server.url.rpartition(":")[2].partition("/")[0])

    def lines(self) -> Counter[str]:
        """Count the log lines by process, without reasons and numbers."""
        found: Counter[str] = Counter()
        for path in sorted(self.folder.glob("*.log")):
            for line in path.read_text(errors="replace").splitlines():
                if (celery := _CELERY.match(line)) is not None:
                    found[f"{path.stem} {celery[2]}: {_without_reason(celery[3])}"] += 1
                elif path.stem.startswith("gateway") and not _OTHERS.match(line):
                    found[f"{path.stem}: {_without_reason(line)}"] += 1
        return found

    def _url_of_ticker(self) -> str:
        return f"redis://127.0.0.1:{self.primary_port}/0" if hasattr(self, "proxy") else self.redis_url

    def _close_app(self) -> None:
        gc.collect()
        self.app.close()


def _without_reason(line: str) -> str:
    return re.sub(r"\d+", "N", line.partition(":")[0])
