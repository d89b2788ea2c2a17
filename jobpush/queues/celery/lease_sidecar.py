"""
A process that renews the lease of a worker that runs tasks in its own process.

There a task can keep every other thread from running: a long call of C code that holds the GIL, or with gevent any code
that does not wait. Then the thread that renews the lease stops, and the worker would count as dead. This process
only renews the lease. It never begins one: the worker then publishes its claims again, which only the worker knows.

Run as ``python -m jobpush.queues.celery.lease_sidecar``, with its parameters as one line of JSON on standard input.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import replace
from typing import IO, cast

from ...config import Config, current_environment
from ...errors import StoreError
from ...store import Store
from ...store.worker_leases import WorkerLeases

#: The settings that the sidecar needs.
_SETTINGS = ("redis_url", "prefix", "lost_after", "task_ttl")
#: Seconds that the sidecar may take to end.
_END_TIMEOUT = 2.0


class LeaseSidecar:
    """The sidecar of this process: renews the lease until it is closed, or this process ends."""

    def __init__(self, config: Config, worker_id: str) -> None:
        parameters = {
            "worker_id": worker_id,
            "parent": os.getpid(),
            "config": {name: getattr(config, name) for name in _SETTINGS},
        }
        self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            # The module is found wherever jobpush is installed.
            env={**current_environment(), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            # Ctrl-C must reach only the worker, which still has tasks to end. The second option is for Windows.
            start_new_session=True,
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
        )
        # The URL of Redis may hold a password, and every user of the machine can read arguments.
        pipe = cast("IO[bytes]", self._process.stdin)
        pipe.write(json.dumps(parameters).encode() + b"\n")
        pipe.flush()

    def close(self) -> None:
        """End the process and wait for that; for a shorter time than an unresponsive Redis takes."""
        try:
            self._process.communicate(timeout=_END_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()


def main() -> None:
    """Renew the lease until the worker has closed its end of the pipe, or is gone."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # some service managers send it to every process
    parameters = json.loads(sys.stdin.readline())
    config = Config(**parameters["config"])
    leases = WorkerLeases(config)
    # Longer than a task may wait: a slow Redis does not make a dead worker.
    store = Store(replace(config, publish_timeout=max(config.publish_timeout, config.lost_after / 3)))
    is_closed = threading.Event()

    def wait_for_close() -> None:
        sys.stdin.read()
        is_closed.set()

    threading.Thread(target=wait_for_close, daemon=True).start()
    # A process forked by a task may keep the pipe open; the parent's id changes nevertheless.
    while os.getppid() == parameters["parent"] and not is_closed.wait(leases.pause):
        with suppress(StoreError):  # the worker logs it
            store.run(leases.hold(parameters["worker_id"], only_renew=True))


if __name__ == "__main__":
    main()
