"""Programs that use jobpush and fork or exit: ``python -m tests.faults.programs NAME REDIS_URL USER``."""

from __future__ import annotations

import itertools
import os
import sys
import threading
from contextlib import ExitStack

from celery.signals import worker_process_shutdown

from jobpush import progress
from jobpush.store.forks import _forkables

from .tasks import make_app

#: Number of forked children.
CHILDREN = 20


def ends(redis_url: str, user: str) -> None:
    """Run a task, and end the program normally."""
    app, jobpush = make_app(broker_url="memory://", redis_url=redis_url)

    @app.task(name="last")
    @jobpush.track(user=lambda **_: user)
    def last() -> None:
        for number in range(1_000):
            progress.update(number + 1, total=1_000)

    last.apply(task_id=f"{user}-last")
    print("published", flush=True)


def forks(redis_url: str, user: str) -> None:
    """
    Fork while several threads publish, and run a task in each child.

    The threads are inside their tasks meanwhile: at the start and end of a task Celery holds its own locks, and a child
    that is forked then would deadlock, with or without jobpush.
    """
    app, jobpush = make_app(broker_url="memory://", redis_url=redis_url)
    is_over, has_moved = threading.Event(), threading.Event()
    begun = threading.Semaphore(0)

    @app.task(name="short")
    @jobpush.track(user=lambda **_: user)
    def short() -> None:
        for number in range(100):
            progress.update(number + 1, total=100)

    @app.task(name="long")
    @jobpush.track(user=lambda **_: user)
    def long() -> None:
        begun.release()
        for number in itertools.count():
            if is_over.is_set():
                return
            has_moved.set()
            progress.update(number, message=f"number {number}")
            progress.log("a line")
            if number % 100 == 0:
                jobpush.notify(user, "noted", number)

    short.apply(task_id=f"{user}-first")  # Celery finishes a task at its first use, which is not thread-safe
    threads = [threading.Thread(target=long.apply, kwargs={"task_id": f"{user}-thread-{n}"}) for n in range(3)]
    for thread in threads:
        thread.start()
        begun.acquire()
    children = []
    for number in range(CHILDREN - 1):
        has_moved.clear()
        has_moved.wait()  # otherwise all forks could happen before any other thread runs
        children.append(_forked(short, f"{user}-child-{number}"))
    threads.append(threading.Thread(target=_hold_locks, args=(begun, is_over)))
    threads[-1].start()
    begun.acquire()
    children.append(_forked(short, f"{user}-child-{CHILDREN - 1}"))
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
    is_over.set()
    for thread in threads:
        thread.join()
    print(codes, flush=True)


def _hold_locks(begun: threading.Semaphore, is_over: threading.Event) -> None:
    """Hold all locks of jobpush that a child could wait for, which a thread rarely does by chance."""
    with ExitStack() as stack:
        for lock in [owner._lock for owner in _forkables if hasattr(owner, "_lock")]:
            stack.enter_context(lock)
        begun.release()
        is_over.wait()


def _forked(task: object, task_id: str) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        task.apply(task_id=task_id)  # type: ignore[attr-defined]
        worker_process_shutdown.send(sender=None)  # as when a child of a pool ends
    finally:
        os._exit(0)


if __name__ == "__main__":
    {"ends": ends, "forks": forks}[sys.argv[1]](*sys.argv[2:])
