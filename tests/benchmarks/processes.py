"""The processes of a run: pinned to cores, measured, and stopped together."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobpush.processes.child import ChildProcess
from jobpush.processes.embedded import EmbeddedRedis
from jobpush.processes.ports import free_port

from .errors import BenchmarkError

ROOT = Path(__file__).parents[2]
#: Seconds within which a server must accept its first connection.
START_TIMEOUT = 60.0
#: Seconds within which the load must reply.
REPLY_TIMEOUT = 120.0


@dataclass(frozen=True, slots=True)
class Cores:
    """CPU cores: the measured server does not share its cores if there are enough."""

    server: str
    load: str

    @classmethod
    def split(cls, count: int = 1) -> Cores:
        """Return the last ``count`` cores for the server and the others for the load; if too few, they share all."""
        cores = sorted(os.sched_getaffinity(0))
        if len(cores) <= count:
            everything = ",".join(map(str, cores))
            return cls(everything, everything)
        return cls(",".join(map(str, cores[-count:])), ",".join(map(str, cores[:-count])))


def pinned(command: Sequence[str], cores: str) -> list[str]:
    """Return a command that runs on these cores."""
    if shutil.which("taskset") is None:
        raise BenchmarkError("taskset is missing; install util-linux")
    return ["taskset", "--cpu-list", cores, *command]


class Server:
    """
    A server under load, with all processes it starts.

    Example::

        with Server(["node", "ws.mjs"], port=8001, cores="1", log=folder / "node.log") as server:
            server.wait_until_listening()
    """

    def __init__(
        self, command: Sequence[str], *, port: int, cores: str, log: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self.port = port
        self._log = log
        self._started = time.monotonic()
        self._child = ChildProcess(pinned(command, cores), log=log, environment={**os.environ, **(environment or {})})

    def wait_until_listening(self) -> float:
        """Wait until the server accepts a connection, and return the seconds since its start."""
        while time.monotonic() - self._started < START_TIMEOUT:
            self.ensure_running()
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=START_TIMEOUT).close()
                return time.monotonic() - self._started
            except ConnectionRefusedError:
                time.sleep(0.002)
        raise BenchmarkError(f"the server did not listen within {START_TIMEOUT:.0f} s: {self.final_writes()}")

    def ensure_running(self) -> None:
        """
        Raise an error if the server has ended.

        Raises:
            BenchmarkError: If it has.
        """
        if not self._child.is_running:
            raise BenchmarkError(f"the server has ended: {self.final_writes()}")

    def final_writes(self) -> str:
        """Return the end of the log."""
        return self._log.read_text(errors="replace").strip()[-1500:] or "it logged nothing"

    @property
    def pids(self) -> list[int]:
        """All processes of the server's session."""
        return [pid for pid in _all_pids() if _session_of(pid) == self._child.pid]

    def cpu_seconds(self) -> float:
        """Return the CPU seconds of all running processes of the server."""
        return sum(map(cpu_seconds, self.pids))

    def memory(self) -> int:
        """Return the proportional set size (PSS) of the processes in bytes; user space only."""
        return sum(map(_proportional_set, self.pids))

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *exc: object) -> None:
        self._child.kill()


class Load:
    """
    The program that holds the connections; see ``native/load.c``.

    Raises:
        BenchmarkError: From each method, after a lost or duplicated frame, a refused connection or an unexpected close.
    """

    def __init__(self, command: Sequence[str], *, cores: str, log: Path, descriptors: Sequence[int] = ()) -> None:
        self._log = log
        #: Number of its first connection.
        self.first = 0
        #: Its report when all connections were ready.
        self.opened: dict[str, Any] = {}
        with log.open("wb") as errors:
            self._process = subprocess.Popen(
                pinned(command, cores),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                pass_fds=descriptors,
                text=True,
            )

    def wait_until_ready(self) -> dict[str, Any]:
        """Wait for all connections, and return the report on their opening."""
        self.opened = self._read_reply()
        return self.opened

    def send_command(self, command: str) -> None:
        """Send a command without a reply."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(command + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            self._fail()

    def request(self, command: str) -> dict[str, Any]:
        """Send a command, and return the reply."""
        self.send_command(command)
        return self._read_reply()

    def cpu_seconds(self) -> float:
        """Return the CPU seconds used so far."""
        return cpu_seconds(self._process.pid)

    def stop(self) -> None:
        """Kill the program."""
        self._process.kill()
        self._process.communicate()

    def __enter__(self) -> Load:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def _read_reply(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        with _alarm(self._process, REPLY_TIMEOUT):
            line = self._process.stdout.readline()
        if not line:
            self._fail()
        reply: dict[str, Any] = json.loads(line)
        return reply

    def _fail(self) -> None:
        status = self._process.wait()
        errors = self._log.read_text(errors="replace").strip()
        raise BenchmarkError(errors or f"the load has ended with status {status}: it waited too long")


@contextmanager
def _alarm(process: subprocess.Popen[str], seconds: float) -> Iterator[None]:
    """Kill the process if the block takes longer."""
    timer = threading.Timer(seconds, process.kill)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@contextmanager
def running_redis(cores: str) -> Iterator[EmbeddedRedis]:
    """
    Run a Redis on these cores that never disconnects slow subscribers, so that the server has to handle the overload.
    """
    arguments = ["--client-output-buffer-limit", "pubsub", "0", "0", "0"]
    with EmbeddedRedis(port=free_port(), arguments=arguments) as server:
        os.sched_setaffinity(server.pid, {int(core) for core in cores.split(",")})
        yield server


def cpu_seconds(pid: int) -> float:
    """Return the CPU seconds of all threads of a process; 0 if it has ended."""
    total = 0
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            total += int((task / "schedstat").read_text().split()[0])
    except (FileNotFoundError, ProcessLookupError):
        pass
    return total / 1e9


def _all_pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _session_of(pid: int) -> int:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return 0


def _proportional_set(pid: int) -> int:
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except (FileNotFoundError, ProcessLookupError):
        pass
    return 0


def connections_of(pid: int) -> int:
    """Return the number of sockets that a process holds."""
    count = 0
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            count += os.readlink(entry).startswith("socket:")
    return count


def alone(target: str, *arguments: object, cores: Cores | None = None) -> dict[str, float]:
    """
    Call a function in a fresh interpreter on the server's core, and return its result.

    Args:
        target: ``"package.module:function"``.
        arguments: Numbers and texts.
        cores: Cores to use; ``None``: those of a server with one process.

    Raises:
        BenchmarkError: If it fails, with the end of its error output.
    """
    module, _, function = target.partition(":")
    code = f"import json, {module} as module; print(json.dumps(module.{function}(*{arguments!r})))"
    command = pinned([sys.executable, "-c", code], (cores or Cores.split()).server)
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if result.returncode:
        raise BenchmarkError(f"{target} has failed: {result.stderr.strip()[-1500:]}")
    figures: dict[str, float] = json.loads(result.stdout.splitlines()[-1])
    return figures
