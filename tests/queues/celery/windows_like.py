"""
A publisher and a solo worker in a Python without the APIs that Windows lacks: ``windows_like.py REDIS_URL``.

Celery and its dependencies are imported first, because they depend on ``sys.platform`` instead.
"""

from __future__ import annotations

import os
import select
import selectors
import signal
import subprocess
import sys

selectors.DefaultSelector = selectors.SelectSelector  # type: ignore[assignment,misc]
for name in ("epoll", "kqueue", "poll", "EPOLLIN", "EPOLLOUT", "POLLIN"):
    vars(select).pop(name, None)

import celery.bin.celery  # noqa: E402
import celery.concurrency.prefork  # noqa: E402
import celery.concurrency.solo  # noqa: E402
import celery.worker  # noqa: E402
import kombu.transport.redis  # noqa: E402, F401

for module in ("fcntl", "grp", "pwd", "resource", "termios"):
    sys.modules[module] = None  # type: ignore[assignment]
for owner, names in (
    (os, "fork forkpty getpgid killpg register_at_fork setsid wait3 wait4"),
    (
        signal,
        "SIGALRM SIGCHLD SIGCONT SIGHUP SIGKILL SIGPIPE SIGQUIT SIGSTOP SIGUSR1 SIGUSR2 pthread_sigmask setitimer",
    ),
):
    for name in names.split():
        vars(owner).pop(name, None)

subprocess.Popen.kill = subprocess.Popen.terminate  # type: ignore[method-assign]  # identical on Windows

from jobpush import JobPush, progress  # noqa: E402
from jobpush.events import TaskState  # noqa: E402

url = sys.argv[1]
broker = url.replace("unix://", "redis+socket://").replace("?db=", "?virtual_host=")
app = celery.Celery("windows", broker=broker)
app.conf.worker_hijack_root_logger = False
push = JobPush(app, redis_url=url)


@app.task(name="counts")
@push.track(user="user_id")
def counts(user_id: str) -> None:
    for _ in progress.iter(range(3)):
        pass


@app.task(name="ends_the_worker")
def ends_the_worker() -> None:
    app.control.shutdown()


task_id = counts.delay("42").id
assert push.tasks("42")[0].state is TaskState.PENDING
ends_the_worker.delay()
app.worker_main(["worker", "-P", "solo", "--without-gossip", "--without-mingle", "--loglevel=WARNING"])
(event,) = push.tasks("42")
print(event.state.value, event.current, file=sys.__stdout__)  # Celery has replaced sys.stdout
