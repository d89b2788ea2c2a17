"""Costs of progress for the task and its worker. Functions that end in ``_alone`` run in a fresh interpreter."""

from __future__ import annotations

import os
import statistics
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

from celery import Celery

from jobpush import JobPush, progress
from jobpush.store.redis.compat import open_socket

from ..processes import Cores, alone, running_redis
from .base import Metric, Pace, Sample, Scenario, Subject

_HERE = __name__

# -- a call that sends nothing -----------------------------------------------------------------------

#: Calls per round, and rounds, of which the median counts.
CALLS = 200_000
ROUNDS = 5


def update_alone(which: str, redis_url: str) -> Sample:
    """Return the nanoseconds of a call, without the cost of the loop."""
    loops: dict[str, Callable[[], None]] = {
        "ours": _update_ours,
        "ours-log": _log_ours,
        "tqdm": _update_tqdm,
        "ours-tqdm": _update_our_tqdm,
    }
    samples: list[float] = []

    def run() -> None:
        for _ in range(ROUNDS):
            bare, loop = _seconds(_bare), _seconds(loops[which])
            samples.append((loop - bare) / CALLS * 1e9)

    with tracked(redis_url) as track:
        track(run)
    return {"call": statistics.median(samples)}


def _bare() -> None:
    for _ in range(1, CALLS + 1):
        pass


def _update_ours() -> None:
    update = progress.update
    for number in range(1, CALLS + 1):
        update(number, total=CALLS)


def _log_ours() -> None:
    log = progress.log
    for _ in range(1, CALLS + 1):
        log("frame= 120 fps=24 q=28.0 size= 512kB time=00:00:05.00 bitrate= 838.9kbits/s")


def _update_tqdm() -> None:
    from tqdm import tqdm

    with open(os.devnull, "w") as devnull, tqdm(total=CALLS, file=devnull) as bar:
        update = bar.update
        for _ in range(1, CALLS + 1):
            update(1)


def _update_our_tqdm() -> None:
    from jobpush import tqdm

    with open(os.devnull, "w") as devnull, tqdm(total=CALLS, file=devnull) as bar:
        update = bar.update
        for _ in range(1, CALLS + 1):
            update(1)


# -- an event that is published ----------------------------------------------------------------------

#: Events of the single task, and the seconds between them.
EVENTS = 400
PAUSE = 0.004
#: Concurrent tasks.
TASKS = 50
#: Steps of each concurrent task.
STEPS = 20
#: PENDING, RECEIVED, STARTED and SUCCESS.
EVENTS_OF_AN_EMPTY_TASK = 4
#: Approximate bytes of the command that publishes an event.
COMMAND = 1_000


def publish_alone(which: str, redis_url: str) -> Sample:
    """Return the CPU of the process per published event in microseconds, without the cost of the loop."""
    measurements = {
        "ours": _publish_ours,
        "ours-many": _publish_many,
        "update-state": _update_state,
        "update-state-many": _update_state_many,
        "publish": _publish_bare,
        "wall": _request_bare,
    }
    events, cpu = measurements[which](redis_url)
    return {"event_cpu": cpu / events * 1e6, "events": float(events)}


def _publish_ours(redis_url: str) -> tuple[int, float]:
    costs: list[float] = []

    def run() -> None:
        bare = _cpu(partial(_paced, lambda number: None))
        costs.append(_cpu(partial(_paced, lambda number: progress.update(number, total=EVENTS))) - bare)

    with tracked(redis_url, min_interval=PAUSE / 2) as track:
        seq = track(run)
    return seq - EVENTS_OF_AN_EMPTY_TASK, costs[0]


def _publish_many(redis_url: str) -> tuple[int, float]:
    """Concurrent tasks share round trips. Their starts and ends are not counted; the scenario "job" covers these."""
    with tracked(redis_url) as track:
        track(lambda: None)  # initializes Celery before fifty threads use it
        bare, _ = _run_many(lambda task, number: None, track)
        cpu, seqs = _run_many(lambda task, number: progress.update(number, total=EVENTS), track)
    return seqs - TASKS * EVENTS_OF_AN_EMPTY_TASK, cpu - bare


def _update_state_many(redis_url: str) -> tuple[int, float]:
    task = _task_with_results(redis_url)

    def step(task_number: int, number: int) -> None:
        meta = {"current": number, "total": EVENTS}
        task.update_state(task_id=f"task-{task_number}", state="PROGRESS", meta=meta)

    def run(work: Callable[[], None]) -> int:
        work()
        return STEPS

    bare, _ = _run_many(lambda task, number: None, run)
    cpu, events = _run_many(step, run, lambda task_number: step(task_number, 0))  # each thread has its own backend
    return events, cpu - bare


def _run_many(
    step: Callable[[int, int], object],
    run: Callable[[Callable[[], None]], int],
    prepare: Callable[[int], object] = lambda task: None,
) -> tuple[float, int]:
    """
    Run fifty tasks in threads of this process, evenly spread, with ten steps a second each.

    Args:
        step: Called with the numbers of task and step.
        run: Runs the function of a task.
        prepare: Called with the number of the task before the measurement starts.

    Returns:
        CPU seconds from the first step to the last, and the sum of the results of ``run``.
    """
    clock: list[float] = []
    counts: list[int] = []
    started, ended = (threading.Barrier(TASKS, lambda: clock.append(time.process_time()), 60) for _ in range(2))

    def work(task: int) -> None:
        prepare(task)
        started.wait()
        time.sleep(task / TASKS * 0.1)
        for number in range(1, STEPS + 1):
            step(task, number)
            time.sleep(0.1)
        ended.wait()

    threads = [
        threading.Thread(target=lambda task=task: counts.append(run(partial(work, task))))  # type: ignore[misc]
        for task in range(TASKS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return clock[1] - clock[0], sum(counts)


def _update_state(redis_url: str) -> tuple[int, float]:
    task = _task_with_results(redis_url)

    def step(number: int) -> None:
        task.update_state(task_id="one", state="PROGRESS", meta={"current": number, "total": EVENTS})

    step(0)
    bare = _cpu(partial(_paced, lambda number: None))
    return EVENTS, _cpu(partial(_paced, step)) - bare


def _task_with_results(redis_url: str) -> Any:
    app = Celery("bench", broker="memory://", backend=redis_url)

    @app.task(bind=True)
    def task(self: Any) -> None: ...

    return task


def _publish_bare(redis_url: str) -> tuple[int, float]:
    import redis

    client = redis.Redis.from_url(redis_url)
    client.ping()
    bare = _cpu(partial(_paced, lambda number: None))
    return EVENTS, _cpu(partial(_paced, lambda number: client.publish("one", "x" * 200))) - bare


def _request_bare(redis_url: str) -> tuple[int, float]:
    """Send a prepared command of the same size, and read the reply: one call of send and one of recv."""
    import hiredis
    import redis

    with open_socket(redis.ConnectionPool.from_url(redis_url)) as connection:
        command = hiredis.pack_command(("PUBLISH", "one", "x" * COMMAND))
        bare = _cpu(partial(_paced, lambda number: None))

        def request(number: int) -> None:
            connection.sendall(command)
            connection.recv(4096)

        return EVENTS, _cpu(partial(_paced, request)) - bare


def _paced(step: Callable[[int], object]) -> None:
    for number in range(1, EVENTS + 1):
        step(number)
        time.sleep(PAUSE)


# -- shared ------------------------------------------------------------------------------------------


class tracked(AbstractContextManager["Callable[[Callable[[], None]], int]"]):
    """
    Runs functions as tasks of an eager application in this process.

    The context manager gives a function that runs another one as a tracked task and returns the number of its events.
    """

    def __init__(self, redis_url: str, **settings: Any) -> None:
        app = Celery("bench", broker="memory://")
        app.conf.task_always_eager = True
        self._jobpush = JobPush(app, redis_url=redis_url, **settings)

        @app.task
        @self._jobpush.track(user="user_id", title="Encode cat.mov")
        def run(user_id: str) -> None:
            self._functions[user_id]()

        @app.task
        def run_bare(user_id: str) -> None:
            self._functions[user_id]()

        self._task, self._bare_task = run, run_bare
        self._functions: dict[str, Callable[[], None]] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> Callable[[Callable[[], None]], int]:
        return self._run

    def __exit__(self, *exc: object) -> None:
        pass

    def run_bare(self, work: Callable[[], None]) -> None:
        """Run a function as an untracked task of the same application."""
        self._start(self._bare_task, work)

    def run_tracked(self, work: Callable[[], None]) -> str:
        """Run a function as a tracked task, and return its user. The end of the task may not be stored yet."""
        return self._start(self._task, work)

    def events_of(self, user: str) -> int:
        """Wait until the end of a user's task is stored, and return the number of its events."""
        while True:
            events = self._jobpush.tasks(user)
            if events and events[0].state.is_final:
                return events[0].seq
            time.sleep(0.001)

    def _start(self, task: Any, work: Callable[[], None]) -> str:
        with self._lock:
            user = str(len(self._functions))
            self._functions[user] = work
        result = task.delay(user)  # get() raises while another thread runs a task
        if result.failed():
            raise result.result
        return user

    def _run(self, work: Callable[[], None]) -> int:
        return self.events_of(self.run_tracked(work))


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _cpu(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def _in_interpreter(function: str, which: str, pace: Pace) -> Sample:
    with running_redis(Cores.split().load) as redis:
        return alone(f"{_HERE}:{function}", which, redis.url)


UPDATING = Scenario(
    "update",
    "A call that sends nothing",
    "A loop of 200,000 calls of one method; the cost of the empty loop is subtracted. tqdm writes to /dev/null.",
    {"call": Metric("a call", "ns")},
    [
        Subject("ours", "progress.update(n, total=…)", partial(_in_interpreter, "update_alone", "ours")),
        Subject("ours-log", "progress.log(text)", partial(_in_interpreter, "update_alone", "ours-log")),
        Subject("ours-tqdm", "jobpush.tqdm, both bars", partial(_in_interpreter, "update_alone", "ours-tqdm")),
        Subject("tqdm", "tqdm.update(1)", partial(_in_interpreter, "update_alone", "tqdm")),
    ],
    is_quick=True,
)

PUBLISHING = Scenario(
    "publish",
    "An event that is published",
    "CPU of the worker's process, all threads, above the same loop without publishing: 400 events one by one, 4 "
    'ms apart; and fifty tasks side by side with ten events a second each, without their starts and ends. "The '
    'machine" sends a prepared command of the same size to Redis and reads the reply, and nothing else.',
    {"event_cpu": Metric("worker CPU of an event", "µs", 1), "events": Metric("events published")},
    [
        Subject("ours", "jobpush, one task", partial(_in_interpreter, "publish_alone", "ours")),
        Subject("ours-many", "jobpush, fifty tasks", partial(_in_interpreter, "publish_alone", "ours-many")),
        Subject("update-state", "Celery's update_state", partial(_in_interpreter, "publish_alone", "update-state")),
        Subject(
            "update-state-many",
            "Celery's update_state, fifty tasks",
            partial(_in_interpreter, "publish_alone", "update-state-many"),
        ),
        Subject("publish", "redis-py publish, nothing else", partial(_in_interpreter, "publish_alone", "publish")),
        Subject("wall", "the machine: one send, one recv", partial(_in_interpreter, "publish_alone", "wall")),
    ],
)
