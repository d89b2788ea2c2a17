"""Redis costs: CPU of an event, and memory of a running task."""

from __future__ import annotations

import redis

from jobpush.config import Config
from jobpush.events import TaskEvent, TaskState
from jobpush.processes.embedded import EmbeddedRedis
from jobpush.store import Store, TaskWrite

from ..processes import Cores, cpu_seconds, running_redis
from .base import Metric, Pace, Sample, Scenario, Subject

#: Events in one CPU measurement.
EVENTS = 4_000
#: Users of a small site and of a large one.
FEW, MANY = 10, 2_000
#: Events of each task whose memory is measured.
EVENTS_OF_A_TASK = 20


def measure_ours(pace: Pace) -> Sample:
    """Measure one event per round trip, as a worker with one task sends them."""
    with running_redis(Cores.split().load) as server:
        few = _cpu_of_events(server, FEW)
        full = _cpu_of_events(server, FEW)  # the histories are full by now
    with running_redis(Cores.split().load) as server:
        many = _cpu_of_events(server, MANY)
    with running_redis(Cores.split().load) as server:
        bytes_few = _bytes_of_tasks(server, FEW)
    with running_redis(Cores.split().load) as server:
        bytes_many = _bytes_of_tasks(server, MANY)
    return {"cpu": few, "cpu_history": full, "cpu_many": many, "bytes": bytes_few, "bytes_many": bytes_many}


def measure_update_state(pace: Pace) -> Sample:
    """Measure Celery's own ``update_state``: a SET with an expiry, and a PUBLISH."""
    from celery import Celery

    with running_redis(Cores.split().load) as server:
        backend = Celery("bench", broker="memory://", backend=server.url).backend
        backend.store_result("0", {"current": 0, "total": EVENTS}, "PROGRESS")
        cpu_before = cpu_seconds(server.pid)
        for number in range(EVENTS):
            backend.store_result(str(number % FEW), {"current": number, "total": EVENTS}, "PROGRESS")
        return {"cpu": (cpu_seconds(server.pid) - cpu_before) / EVENTS * 1e6}


def _cpu_of_events(server: EmbeddedRedis, users: int) -> float:
    """Return the CPU of an event in microseconds."""
    store = Store(Config(redis_url=server.url, publish_timeout=10))
    for user in range(users):
        store.publish([_write(user, 0)])
    cpu_before = cpu_seconds(server.pid)
    for number in range(EVENTS):
        store.publish([_write(number % users, number)])
    cost = cpu_seconds(server.pid) - cpu_before
    store.close()
    return cost / EVENTS * 1e6


def _bytes_of_tasks(server: EmbeddedRedis, users: int) -> float:
    """Return the bytes of a task after twenty events, history included. Each task has its own user."""
    client = redis.Redis.from_url(server.url)
    store = Store(Config(redis_url=server.url, publish_timeout=10))
    store.publish([_write(users, 0)])  # loads the scripts
    memory_before = client.info("memory")["used_memory"]
    for number in range(EVENTS_OF_A_TASK):
        for first in range(0, users, 100):
            store.publish([_write(user, number) for user in range(first, min(first + 100, users))])
    used = client.info("memory")["used_memory"] - memory_before
    store.close()
    client.close()
    return float(used) / users


def _write(user: int, number: int) -> TaskWrite:
    event = TaskEvent(
        f"d1c2a3b4-0000-4000-8000-{user:012d}",
        TaskState.PROGRESS,
        name="video.encode",
        title="Encode cat.mov",
        message="encoding",
        current=number,
        total=EVENTS,
    )
    return TaskWrite(str(user), event)


REDIS_COSTS = Scenario(
    "redis",
    "What Redis does for it",
    "CPU of the Redis process for 4,000 events, one per round trip: of 10 users, of the same users with full "
    "histories, and of 2,000 users. Memory of a running task after 20 events, with its share of index and "
    "history.",
    {
        "cpu": Metric("CPU of an event", "µs", 1),
        "cpu_history": Metric("with full histories", "µs", 1),
        "cpu_many": Metric("of 2,000 users", "µs", 1),
        "bytes": Metric("bytes of a running task", "B"),
        "bytes_many": Metric("of 2,000 users", "B"),
    },
    [
        Subject("ours", "jobpush", measure_ours),
        Subject("update-state", "Celery's update_state", measure_update_state),
    ],
)
