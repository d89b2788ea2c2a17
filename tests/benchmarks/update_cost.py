"""What a call of ``progress.update`` costs a task that calls it all the time."""

from __future__ import annotations

import time

from celery import Celery

from jobpush import JobPush, progress
from jobpush.embedded import EmbeddedRedis
from jobpush.events import TaskEvent

CALLS = 1_000_000
ROUNDS = 3


def measure() -> list[tuple[str, str]]:
    """Rows of (what, figure): microseconds above the bare loop, and events sent, each the median of three rounds."""
    with EmbeddedRedis() as server:
        app = Celery("update_cost", broker="memory://")
        app.conf.task_always_eager = True
        jobpush = JobPush(app, redis_url=server.url)
        bare: list[float] = []
        updates: list[float] = []

        @app.task
        @jobpush.track(user="user_id")
        def run(user_id: str) -> None:
            bare.append(_seconds_of_bare_loop())
            updates.append(_seconds_of_updates())

        sent = []
        for number in range(ROUNDS):
            result = run.delay(f"user-{number}")
            event = _wait_for_end(jobpush, f"user-{number}")
            assert event.task_id == result.id and event.current == CALLS
            sent.append(event.seq)
        cost = sorted(u - b for u, b in zip(updates, bare, strict=True))[ROUNDS // 2] / CALLS
        return [
            ("progress.update above the bare loop", f"{cost * 1e6:.2f} µs"),
            (f"events sent for {CALLS:,} updates", str(sorted(sent)[ROUNDS // 2])),
        ]


def _seconds_of_bare_loop() -> float:
    begun = time.perf_counter()
    for _ in range(CALLS):
        pass
    return time.perf_counter() - begun


def _seconds_of_updates() -> float:
    begun = time.perf_counter()
    for number in range(1, CALLS + 1):
        progress.update(number, total=CALLS)
    return time.perf_counter() - begun


def _wait_for_end(jobpush: JobPush, user_id: str) -> TaskEvent:
    while True:
        events = jobpush.tasks(user_id)
        if events and events[0].state.is_final:
            return events[0]
        time.sleep(0.01)
