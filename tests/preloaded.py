"""
Python programs that start in milliseconds: they are forked from a process that has imported their packages.

Hundreds of tests start a web server or a worker, and each new interpreter would use up to a second of CPU for imports.
A test process starts one fork server, with its first program. The tests of the demo, the command line and the
documentation start their programs as users do.
"""

from __future__ import annotations

import atexit
import fcntl
import functools
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from jobpush.processes.child import ChildProcess

#: What the programs import. Not ``jobpush.gunicorn_conf``, which reads the environment.
_PACKAGES = (
    "celery.apps.worker", "celery.backends.redis", "celery.bin.celery", "celery.concurrency.prefork",
    "celery.concurrency.solo", "celery.concurrency.thread", "celery.fixups.django", "celery.worker.autoscale",
    "celery.worker.consumer", "celery.worker.strategy", "gunicorn.app.wsgiapp", "gunicorn.workers.gthread",
    "jobpush.queues.celery.publishing", "jobpush.web.gunicorn.worker", "jobpush.webhooks.celery_delivery",
    "kombu.transport.redis", "kombu.transport.memory", "tests.gateway.site",
)  # fmt: skip
#: Programs that replace modules of Python before they import anything else. prometheus-client reads its environment
#: variable when it is imported.
_PATCHING = {"eventlet", "gevent"}
_ROOT = Path(__file__).parents[1]

_lock = threading.Lock()


class PreloadedProcess(ChildProcess):
    """A child process that runs ``[sys.executable, "-m", MODULE, …]`` or ``[sys.executable, SCRIPT, …]``."""

    def _start(self, command: Sequence[str], **options: Any) -> Any:
        is_special = _PATCHING & set(command) or "PROMETHEUS_MULTIPROC_DIR" in options["env"]
        if command[0] != sys.executable or is_special:
            return super()._start(command, **options)
        return _Fork(command[1:], **options)


class _Fork:
    """A program of the fork server, with the methods of :class:`subprocess.Popen` that a child process needs."""

    stdout = None

    def __init__(
        self,
        arguments: Sequence[str],
        *,
        stdout: IO[bytes] | int,
        stderr: IO[bytes] | None,
        env: Mapping[str, str],
        pass_fds: Sequence[int],
        **_: Any,
    ) -> None:
        self.returncode: int | None = None
        ours, its = socket.socketpair()
        output = stdout if isinstance(stdout, int) else stdout.fileno()
        program = {"arguments": list(arguments), "environment": dict(env), "numbers": [1, 2, *pass_fds]}
        sources = [output, stderr.fileno() if stderr else 2, *pass_fds]
        with its, _lock:
            _send(_fork_server()[0], program, [its.fileno(), *sources])
        self._reports = ours.makefile("r")
        ours.close()
        self.pid = int(self._reports.readline())

    def poll(self) -> int | None:
        """Return the exit status, or ``None`` while the program runs."""
        if self.returncode is None and self._has_reported(0):
            self.wait()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end of the program, and return its exit status."""
        if self.returncode is None:
            if not self._has_reported(timeout):
                raise subprocess.TimeoutExpired(f"program {self.pid}", timeout or 0)
            with self._reports:
                self.returncode = int(self._reports.readline())
        return self.returncode

    def _has_reported(self, timeout: float | None) -> bool:
        # Unlike select(), poll() takes descriptors above 1,024: a test may hold as many connections.
        poll = select.poll()
        poll.register(self._reports, select.POLLIN)
        return bool(poll.poll(None if timeout is None else timeout * 1000))

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal if the program still runs."""
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)


@functools.cache
def _fork_server() -> tuple[socket.socket, ChildProcess]:
    """Start the fork server of this test process, which ends with it, and return the connection to it too."""
    ours, its = socket.socketpair()
    with its:
        command = [sys.executable, "-m", __name__, str(its.fileno())]
        environment = {**os.environ, "PYTHONPATH": str(_ROOT)}
        return ours, ChildProcess(command, environment=environment, descriptors=[its.fileno()])


def _send(server: socket.socket, program: Mapping[str, Any], descriptors: Sequence[int]) -> None:
    text = json.dumps(program).encode()
    socket.send_fds(server, [len(text).to_bytes(4, "big")], descriptors)
    server.sendall(text)


def _receive(client: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    """Return the next program and its descriptors, or ``None`` once the test process has ended."""
    size, descriptors, _, _ = socket.recv_fds(client, 4, 64)
    if not size:
        return None
    with client.makefile("rb", buffering=0) as stream:
        text = b""
        while len(text) < int.from_bytes(size, "big"):
            text += stream.read(int.from_bytes(size, "big") - len(text))
    return json.loads(text), descriptors


def _serve(client: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    """Fork a process for each program, in which this returns it. In the fork server it returns ``None``, at the end."""
    reports: dict[int, socket.socket] = {}
    signal.signal(signal.SIGCHLD, lambda *_: None)
    woken, wakes = socket.socketpair()
    wakes.setblocking(False)
    signal.set_wakeup_fd(wakes.fileno())
    while True:
        ready, _, _ = select.select([client, woken], [], [])
        if woken in ready:
            woken.recv(4096)
            _report_ends(reports)
        if client not in ready:
            continue
        program = _receive(client)
        if program is None:
            return None
        report = socket.socket(fileno=program[1].pop(0))
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.setsid()
            report.sendall(b"%d\n" % os.getpid())
            for one in (client, woken, wakes, report, *reports.values()):
                one.close()
            return program
        reports[pid] = report
        for descriptor in program[1]:
            os.close(descriptor)


def _report_ends(reports: dict[int, socket.socket]) -> None:
    """Send the exit status of each program that has ended."""
    with suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            with reports.pop(ended[0]) as report, suppress(BrokenPipeError):
                report.sendall(b"%d\n" % os.waitstatus_to_exitcode(ended[1]))


def _run(program: dict[str, Any], descriptors: Sequence[int]) -> None:
    """Run the program as a new interpreter would."""
    numbers = program["numbers"]
    free = max(*numbers, *descriptors) + 1  # so that no descriptor replaces one that has not moved yet
    aside = [fcntl.fcntl(descriptor, fcntl.F_DUPFD, free) for descriptor in descriptors]
    os.closerange(3, free)
    for descriptor, number in zip(aside, numbers, strict=True):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(program["environment"])
    time.tzset()
    first, *rest = program["arguments"]
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:0] = [path for path in paths if path not in sys.path]
    if first == "-m":
        module, *rest = rest
        sys.path.insert(0, os.getcwd())
        sys.argv = [module, *rest]
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    else:
        sys.path.insert(0, str(Path(first).parent))
        sys.argv = [first, *rest]
        runpy.run_path(first, run_name="__main__")


def _end(statuses: Sequence[int]) -> None:
    """
    End a program at once if its exit status is known, when all other functions of :mod:`atexit` have run.

    A new interpreter would now clear its modules. Here that copies the memory of the fork server, for 80 ms of CPU.
    """
    if statuses:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(statuses[-1])


def _main(client: socket.socket) -> None:
    statuses: list[int] = []
    atexit.register(_end, statuses)  # what is registered first is called last
    for package in _PACKAGES:
        importlib.import_module(package)
    gc.freeze()  # the programs share these objects
    assert threading.active_count() == 1, threading.enumerate()
    if program := _serve(client):
        try:
            _run(*program)
        except SystemExit as end:
            if end.code is None or isinstance(end.code, int):
                statuses.append(end.code or 0)
            raise
        statuses.append(0)


if __name__ == "__main__":
    _main(socket.socket(fileno=int(sys.argv[1])))
