"""The processes of a run: pinned to a core, watched for what they cost, and ended together."""

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
#: Seconds that a server has to accept its first connection.
START_TIMEOUT = 60.0
#: Seconds that the load may take to say something.
ANSWER_TIMEOUT = 120.0


@dataclass(frozen=True, slots=True)
class Cores:
    """Who runs where: the server that is measured has its cores for itself."""

    server: str
    load: str

    @classmethod
    def split(cls, count: int = 1) -> Cores:
        """The last ``count`` cores for the server, the others for the load; on one core they share it."""
        cores = sorted(os.sched_getaffinity(0))
        if len(cores) <= count:
            everything = ",".join(map(str, cores))
            return cls(everything, everything)
        return cls(",".join(map(str, cores[-count:])), ",".join(map(str, cores[:-count])))


def pinned(command: Sequence[str], cores: str) -> list[str]:
    """The command, on those cores."""
    if shutil.which("taskset") is None:
        raise BenchmarkError("taskset is missing; install util-linux")
    return ["taskset", "--cpu-list", cores, *command]


class Server:
    """
    A server under load, with all processes that it starts.

    Example::

        with Server(["node", "ws.mjs"], port=8001, cores="1", log=folder / "node.log") as server:
            server.wait_until_it_listens()
    """

    def __init__(
        self, command: Sequence[str], *, port: int, cores: str, log: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self.port = port
        self._log = log
        self._begun = time.monotonic()
        self._child = ChildProcess(pinned(command, cores), log=log, environment={**os.environ, **(environment or {})})

    def wait_until_it_listens(self) -> float:
        """Seconds from its start until it has accepted a connection."""
        while time.monotonic() - self._begun < START_TIMEOUT:
            self.ensure_running()
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=START_TIMEOUT).close()
                return time.monotonic() - self._begun
            except ConnectionRefusedError:
                time.sleep(0.002)
        raise BenchmarkError(f"the server did not listen within {START_TIMEOUT:.0f} s: {self.final_writes()}")

    def ensure_running(self) -> None:
        """
        Raises:
            BenchmarkError: If it has ended.
        """
        if not self._child.is_running:
            raise BenchmarkError(f"the server has ended: {self.final_writes()}")

    def final_writes(self) -> str:
        """The end of its log."""
        return self._log.read_text(errors="replace").strip()[-1500:] or "it logged nothing"

    @property
    def pids(self) -> list[int]:
        """Its processes: all of its session."""
        return [pid for pid in _all_pids() if _session_of(pid) == self._child.pid]

    def cpu_seconds(self) -> float:
        """What all of its processes that still run have used until now."""
        return sum(map(cpu_seconds, self.pids))

    def memory(self) -> int:
        """Bytes that its processes take, each shared page counted in parts (PSS): user space only."""
        return sum(map(_proportional_set, self.pids))

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *exc: object) -> None:
        self._child.kill()


class Load:
    """
    The program that holds the connections: see ``native/load.c``.

    Raises:
        BenchmarkError: From each method, once it has found a frame lost or doubled, or the server was rude.
    """

    def __init__(self, command: Sequence[str], *, cores: str, log: Path, descriptors: Sequence[int] = ()) -> None:
        self._log = log
        #: Number of its first connection.
        self.first = 0
        #: What it has said once all were connected.
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
        """Wait for all connections, and return how fast they came."""
        self.opened = self._answer()
        return self.opened

    def say(self, command: str) -> None:
        """One of its commands that has no answer."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(command + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            self._fail()

    def ask(self, command: str) -> dict[str, Any]:
        """One of its commands, and the answer."""
        self.say(command)
        return self._answer()

    def cpu_seconds(self) -> float:
        """What it has used until now."""
        return cpu_seconds(self._process.pid)

    def stop(self) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()

    def __enter__(self) -> Load:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        with _alarm(self._process, ANSWER_TIMEOUT):
            line = self._process.stdout.readline()
        if not line:
            self._fail()
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _fail(self) -> None:
        status = self._process.wait()
        words = self._log.read_text(errors="replace").strip()
        raise BenchmarkError(words or f"the load has ended with status {status}: it waited too long")


@contextmanager
def _alarm(process: subprocess.Popen[str], seconds: float) -> Iterator[None]:
    """Kill a process that takes longer."""
    timer = threading.Timer(seconds, process.kill)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@contextmanager
def running_redis(cores: str) -> Iterator[EmbeddedRedis]:
    """
    A Redis on those cores that drops no reader for being slow: what a server does with what is too much is measured.
    """
    arguments = ["--client-output-buffer-limit", "pubsub", "0", "0", "0"]
    with EmbeddedRedis(port=free_port(), arguments=arguments) as server:
        os.sched_setaffinity(server.pid, {int(core) for core in cores.split(",")})
        yield server


def cpu_seconds(pid: int) -> float:
    """What a process has used until now, all threads together; 0 if it is gone."""
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
    """Sockets that a process holds."""
    count = 0
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            count += os.readlink(entry).startswith("socket:")
    return count


def alone(target: str, *arguments: object, cores: Cores | None = None) -> dict[str, float]:
    """
    Call a function in a fresh interpreter on the server's core, and give what it returns.

    Args:
        target: ``"package.module:function"``.
        arguments: Numbers and texts.
        cores: Where; ``None``: as for a server of one process.

    Raises:
        BenchmarkError: If it fails, with what it says.
    """
    module, _, function = target.partition(":")
    code = f"import json, {module} as module; print(json.dumps(module.{function}(*{arguments!r})))"
    command = pinned([sys.executable, "-c", code], (cores or Cores.split()).server)
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if result.returncode:
        raise BenchmarkError(f"{target} has failed: {result.stderr.strip()[-1500:]}")
    figures: dict[str, float] = json.loads(result.stdout.splitlines()[-1])
    return figures
