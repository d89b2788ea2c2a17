"""Programs that use jobpush and end in their own ways: ``python -m tests.faults.programs NAME REDIS_URL USER``."""

from __future__ import annotations

import itertools
import os
import sys
import threading

from celery.signals import worker_process_shutdown

from jobpush import progress

from .tasks import make_app

#: Children that are forked, at any moment of what the threads of their parent do.
CHILDREN = 20


def ends(redis_url: str, user: str) -> None:
    """Run a task, and fall off the end of the program."""
    app, jobpush = make_app(broker_url="memory://", redis_url=redis_url)

    @app.task(name="last")
    @jobpush.track(user=lambda **_: user)
    def last() -> None:
        for number in range(1_000):
            progress.update(number + 1, total=1_000)

    last.apply(task_id=f"{user}-last")
    print("told", flush=True)


def forks(redis_url: str, user: str) -> None:
    """
    Fork while several threads publish, and run a task in each child.

    The threads are within their tasks meanwhile: at the beginning and the end of one Celery holds locks of its own, and
    a child that is forked then waits for them for ever, with or without us.
    """
    app, jobpush = make_app(broker_url="memory://", redis_url=redis_url)
    is_over = threading.Event()
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
            progress.update(number, message=f"number {number}")
            progress.log("a line")
            if number % 100 == 0:
                jobpush.notify(user, "noted", number)

    short.apply(task_id=f"{user}-first")  # Celery makes a task whole at its first use, in one thread only
    threads = [threading.Thread(target=long.apply, kwargs={"task_id": f"{user}-thread-{n}"}) for n in range(3)]
    for thread in threads:
        thread.start()
        begun.acquire()
    children = [_forked(short, f"{user}-child-{number}") for number in range(CHILDREN)]
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
    is_over.set()
    for thread in threads:
        thread.join()
    print(codes, flush=True)


def _forked(task: object, task_id: str) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        task.apply(task_id=task_id)  # type: ignore[attr-defined]
        worker_process_shutdown.send(sender=None)  # as at the end of a pool's child
    finally:
        os._exit(0)


if __name__ == "__main__":
    {"ends": ends, "forks": forks}[sys.argv[1]](*sys.argv[2:])
