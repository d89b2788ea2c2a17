"""
A process beside a worker whose tasks run in the worker's own process, where one of them may let nothing else run.

A long call of C code that keeps Python's lock, or with gevent any code that does not wait, also holds up the thread
that renews the worker's lease; the worker would be taken for dead. This process renews it as long as the worker lives.
It never begins a lease: who does that has to say anew what the worker has, which only the worker knows.

Run as ``python -m jobpush.queues.celery.lease_sidecar``, with its orders as one line of JSON on its standard input.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from dataclasses import replace
from typing import IO, cast

from ...config import Config
from ...errors import StoreError
from ...store import Store
from ...store.worker_leases import WorkerLeases

#: The settings that it needs.
_SETTINGS = ("redis_url", "prefix", "lost_after", "task_ttl")
#: Seconds that it may take to end.
_END_TIMEOUT = 2.0


class LeaseSidecar:
    """The worker's end of it: it is held as long as this object is not closed, and this process lives."""

    def __init__(self, config: Config, worker_id: str) -> None:
        orders = {
            "worker_id": worker_id,
            "parent": os.getpid(),
            "config": {name: getattr(config, name) for name in _SETTINGS},
        }
        self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},  # however we are installed
            start_new_session=True,  # a Ctrl-C is for the worker, which still has tasks to end
        )
        # By the pipe, for the address of Redis may hold a password, and arguments are for all to see.
        pipe = cast("IO[bytes]", self._process.stdin)
        pipe.write(json.dumps(orders).encode() + b"\n")
        pipe.flush()

    def close(self) -> None:
        """End it; wait until it has ended, but not for a Redis that it waits for."""
        try:
            self._process.communicate(timeout=_END_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()


def main() -> None:
    """Renew the lease until the worker has closed its end of the pipe, or is gone."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # who stops a service may send it to all of its processes
    orders = json.loads(sys.stdin.readline())
    config = Config(**orders["config"])
    leases = WorkerLeases(config)
    # It may wait longer than a task: a slow Redis is no dead worker.
    store = Store(replace(config, publish_timeout=max(config.publish_timeout, config.lost_after / 3)))
    # A process that a task has forked may have a copy of the pipe's other end; the parent's death shows all the same.
    while os.getppid() == orders["parent"] and not select.select([sys.stdin], [], [], leases.pause)[0]:
        try:
            store.run(leases.hold(orders["worker_id"], only_renew=True))
        except StoreError:
            pass  # the worker says so in its log


if __name__ == "__main__":
    main()
