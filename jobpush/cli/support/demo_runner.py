"""
The demo as one process tree: a private Redis, a Celery worker, and the site with the gateway in it.

The parts start in order, are watched, and stop in reverse order, on a signal as well as on a failure. Each run has its
own secrets, folder and Redis prefix, and removes them when it ends.
"""

from __future__ import annotations

import importlib.util
import os
import queue
import secrets
import shutil
import signal
import socket
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import redis

from ...config import Config
from ...errors import ConfigurationError, JobPushError, StoreError
from ...processes.child import ChildProcess
from ...processes.embedded import EmbeddedRedis
from ...processes.ports import listen
from ...store import Store

#: Processes of the worker's pool: enough for one upload to overtake another.
WORKER_CHILDREN = 2
#: Threads of the site. Each upload and download occupies one; live connections need none.
SITE_THREADS = 16
#: Seconds until every part must be ready; it takes two.
START_TIMEOUT = 60.0
#: Seconds that a child has to stop by itself. A worker takes two.
STOP_GRACE = 4.0
#: Seconds between two checks of a part that starts.
_POLL_INTERVAL = 0.05
#: Seconds that one such check waits for an answer.
_PING_TIMEOUT = 0.5
#: Seconds that a Redis server given by the user has to answer during the clean-up.
_TIDY_TIMEOUT = 5.0
#: Keys per step of that clean-up.
_SCAN_COUNT = 1_000
#: Lines of a child's log that are shown when it fails.
_LOG_LINES_SHOWN = 15

#: The demo is beside the package, and not part of it.
_CHECKOUT = Path(__file__).resolve().parents[3]
_HOST = "127.0.0.1"
_ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class DemoFailed(JobPushError):
    """A part of the demo did not start, or ended by itself."""

    code = "demo_failed"

    def __init__(self, part: str, problem: str, log: str = "") -> None:
        super().__init__(f"{part} {problem}" + (f"; the end of its log:\n{log}" if log else ""))


class _Stopped(Exception):
    """A signal asked the demo to stop."""


@dataclass
class _Part:
    """A child of the demo, with its name in messages."""

    name: str
    process: ChildProcess
    log: Path | None

    def ensure_running(self) -> None:
        status = self.process.returncode
        if status is not None:
            problem = f"ended with status {status}" if status >= 0 else f"was killed by signal {-status}"
            lines = self.log.read_text(errors="replace").splitlines() if self.log else []  # or the terminal shows them
            raise DemoFailed(self.name, problem, "\n".join(lines[-_LOG_LINES_SHOWN:]))


class _Signals:
    """
    Signals to wait for, so that none interrupts a clean-up.

    SIGCHLD is one of them: the end of a child ends the wait at once.
    """

    def __init__(self) -> None:
        self._is_stopping = False
        self._received: queue.SimpleQueue[int] = queue.SimpleQueue()

    def __enter__(self) -> _Signals:
        numbers = (*_ENDING_SIGNALS, signal.SIGCHLD)
        self._old_handlers = {number: signal.signal(number, self._record) for number in numbers}
        return self

    def __exit__(self, *exc_info: object) -> None:
        for number, handler in self._old_handlers.items():
            signal.signal(number, handler)

    def wait(self, timeout: float | None) -> None:
        """
        Wait for a signal, at most ``timeout`` seconds.

        Raises:
            _Stopped: If one of them asked the demo to stop, now or before.
        """
        if not self._is_stopping:
            with suppress(queue.Empty):
                self._received.get(timeout=timeout)
        if self._is_stopping:
            raise _Stopped

    def _record(self, number: int, frame: FrameType | None) -> None:
        self._is_stopping = self._is_stopping or number != signal.SIGCHLD
        self._received.put(number)


@contextmanager
def _errors_as_sentences() -> Iterator[None]:
    """Show a sentence, not a traceback, for a broken install or a full disk."""
    try:
        yield
    except JobPushError:
        raise
    except Exception as exc:
        raise DemoFailed("the demo", f"can't continue: {_described(exc)}") from exc


def run(
    *,
    port: int,
    redis_url: str | None,
    is_verbose: bool,
    on_step: Callable[[str], None],
    on_ready: Callable[[str], None],
) -> None:
    """
    Run the demo until a signal ends it.

    Args:
        port: Port of the site on the loopback interface; 0 takes any free port.
        redis_url: Redis server to use. ``None``: a private one.
        is_verbose: Whether the children write to the terminal instead of their logs.
        on_step: Called with a description of each step.
        on_ready: Called once with the URL of the site, when everything works.

    Raises:
        ConfigurationError: If the port is in use or a program is missing; nothing was started then.
        DemoFailed: If a part did not start, or ended by itself; everything was stopped then.
    """
    sys.path.append(str(_CHECKOUT))
    with _errors_as_sentences(), _Signals() as signals, ExitStack() as stack:
        _ensure_tools()
        listener = stack.enter_context(listen(_HOST, port))
        url = f"http://{_HOST}:{listener.getsockname()[1]}/"
        try:
            demo = _Demo(stack, signals, is_verbose=is_verbose)
            on_step("starting Redis, the worker and the site")
            demo.start(listener, redis_url)
            listener.close()  # only the site holds it now: if it ends, connections are refused
            demo.wait_until(lambda: _is_site_ready(url), "the site")
            on_step("waiting for the worker")
            demo.wait_until(demo.is_worker_ready, "the worker")
            on_ready(url)
            demo.watch()
        except _Stopped:
            on_step("stopping")


class _Demo:
    """The running parts. The given stack stops them in reverse order."""

    def __init__(self, stack: ExitStack, signals: _Signals, *, is_verbose: bool) -> None:
        self._stack = stack
        self._signals = signals
        self._is_verbose = is_verbose
        self._parts: list[_Part] = []
        self._redis: EmbeddedRedis | None = None
        self._name = f"jobpush-demo-{secrets.token_hex(4)}"
        self._worker_name = f"{self._name}@localhost"
        # A prefix chosen by the user may hold other data: it is not cleared.
        self._prefix = os.environ.get("JOBPUSH_PREFIX") or self._name
        self._folder = Path(tempfile.mkdtemp(prefix="jobpush-demo-"))
        self._stack.callback(shutil.rmtree, self._folder)

    def start(self, listener: socket.socket, redis_url: str | None) -> None:
        """Start everything. It waits only for Redis, because the other parts need it at once."""
        if redis_url is None:
            self._redis = self._stack.enter_context(EmbeddedRedis())
            redis_url = self._redis.url
        else:
            _ensure_answering(redis_url)
            if self._prefix == self._name:
                self._stack.callback(_remove_keys, redis_url, self._prefix)
        # In this process too, so that it sees the demo's Celery app as the worker does.
        os.environ.update(self._settings(redis_url))
        self._start_worker()
        self._start_site(listener)

    def wait_until(self, is_ready: Callable[[], bool], part: str) -> None:
        """
        Wait for a part while all of them run.

        Args:
            is_ready: Checks the part. If it raises, the part is not ready.
            part: Its name in messages.

        Raises:
            DemoFailed: If a part ends, or this one takes too long.
        """
        deadline = time.monotonic() + START_TIMEOUT
        problem = ""
        while True:
            try:
                if is_ready():
                    return
            except Exception as exc:  # a broken install can raise anything
                problem = f" ({_described(exc)})"
            self._ensure_running()
            if time.monotonic() > deadline:
                raise DemoFailed(part, f"was not ready within {START_TIMEOUT:.0f} seconds{problem}")
            self._signals.wait(_POLL_INTERVAL)

    def watch(self) -> None:
        """Wait for a signal, or for the end of a part."""
        while True:
            self._ensure_running()
            self._signals.wait(None)

    def is_worker_ready(self) -> bool:
        """Whether the worker answers, which it does once its pool has started."""
        from demo_app.tasks import celery_app

        return bool(celery_app.control.ping(destination=[self._worker_name], timeout=_PING_TIMEOUT))

    def _ensure_running(self) -> None:
        if self._redis is not None and not self._redis.is_running:
            raise DemoFailed("Redis", "ended by itself")
        for part in self._parts:
            part.ensure_running()

    def _settings(self, redis_url: str) -> dict[str, str]:
        temporary = self._folder / "tmp"
        temporary.mkdir()
        return {
            "JOBPUSH_REDIS_URL": redis_url,
            "JOBPUSH_PREFIX": self._prefix,
            "JOBPUSH_KEY": secrets.token_hex(8),
            "JOBPUSH_SECRET": secrets.token_hex(16),
            "JOBPUSH_DEMO_DIR": str(self._folder / "videos"),
            "JOBPUSH_DEMO_SECRET": secrets.token_hex(16),
            "TMPDIR": str(temporary),  # leftovers of a killed ffmpeg or gunicorn go with the folder
            "PYTHONPATH": os.pathsep.join(filter(None, [str(_CHECKOUT), os.environ.get("PYTHONPATH")])),
        }

    def _start_worker(self) -> None:
        celery = [sys.executable, "-m", "celery", "-A", "demo_app.tasks", "worker"]
        options = ["--hostname", self._worker_name, "--concurrency", str(WORKER_CHILDREN), "--loglevel", "INFO"]
        # Mingling waits a second for other workers; there are none.
        command = [*celery, *options, "--without-mingle", "--without-gossip"]
        # Celery's cold shutdown: a warm one lets tasks continue, but their files go with the demo.
        self._add("the worker", command, signal.SIGQUIT)

    def _start_site(self, listener: socket.socket) -> None:
        gunicorn = [sys.executable, "-m", "gunicorn", "--config", "python:jobpush.gunicorn_conf"]
        options = ["--bind", f"fd://{listener.fileno()}", "--threads", str(SITE_THREADS), "--graceful-timeout", "1"]
        command = [*gunicorn, *options, "demo_app.app:create_app()"]
        self._add("the site", command, signal.SIGTERM, descriptors=[listener.fileno()])

    def _add(self, name: str, command: Sequence[str], stop: signal.Signals, *, descriptors: Sequence[int] = ()) -> None:
        log = None if self._is_verbose else self._folder / f"{name.removeprefix('the ')}.log"
        process = ChildProcess(command, log=log, descriptors=descriptors, leftovers=[self._folder])
        self._stack.callback(process.stop, stop, grace=STOP_GRACE)
        self._parts.append(_Part(name, process, log))


def _ensure_tools() -> None:
    """
    Check that the demo and its programs are installed.

    Raises:
        ConfigurationError: If something is missing.
    """
    if importlib.util.find_spec("demo_app") is None:
        raise ConfigurationError(
            "the demo is not part of the installed package; run 'make demo' in a checkout of the source repository"
        )
    from demo_app.video import find_ffmpeg

    try:
        find_ffmpeg()
    except RuntimeError as exc:
        raise ConfigurationError(str(exc)) from exc


def _ensure_answering(redis_url: str) -> None:
    """
    Check that the given Redis server answers; a worker would retry for ever.

    Raises:
        ConfigurationError: If it does not.
    """
    try:
        with closing(Store(Config(redis_url=redis_url))) as store:
            store.probe()
    except (StoreError, ValueError) as exc:  # ValueError: not a Redis URL
        raise ConfigurationError(f"JOBPUSH_REDIS_URL is set, but cannot be used: {exc}") from exc


def _remove_keys(redis_url: str, prefix: str) -> None:
    """Remove the demo's keys from a Redis server given by the user; only the demo uses this prefix."""
    timeouts = {"socket_timeout": _TIDY_TIMEOUT, "socket_connect_timeout": _TIDY_TIMEOUT}
    with redis.Redis.from_url(redis_url, **timeouts) as client, suppress(redis.RedisError):  # it may be down
        for key in client.scan_iter(f"{prefix}:*", count=_SCAN_COUNT):
            client.unlink(key)


def _described(exc: Exception) -> str:
    return f"{type(exc).__name__}: {exc}"


def _is_site_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}jobpush/health/ready", timeout=_PING_TIMEOUT):  # noqa: S310 - our own http
            return True
    except OSError:  # includes URLError, and HTTPError (503: not ready yet)
        return False
