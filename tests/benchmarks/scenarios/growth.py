"""Costs of a gateway with many connections, and the gain from a second process."""

from __future__ import annotations

from functools import partial

from ..peers import OURS, OURS_PER_USER, WALL
from ..processes import connections_of
from ..runs import Crowd, running
from .base import Metric, Pace, Sample, Scenario, Subject

#: Connections of the smallest run, and active users of the others.
FEW = 100
#: Events a second to the active users.
RATE = 5_000


def measure_growth(count_of: str, pace: Pace) -> Sample:
    """Measure fan-out to all connections, then events to the first hundred while the others are idle."""
    count = _count(count_of, pace)
    everyone, active = Crowd(count, groups=1), Crowd(FEW)
    with running(OURS, count) as run:
        run.join(everyone, window=1)
        fanout = run.saturate(everyone, pace.seconds, 1)
    with running(OURS_PER_USER, count) as run:
        run.join(Crowd(count), count=FEW)
        few = run.memory()
        seconds = run.join(Crowd(count), first=FEW, count=count - FEW) if count > FEW else 0.0
        memory = run.memory() - few
        events = run.measure(active, pace.seconds, "--rate", str(RATE))
    sample = {
        "connections": float(count),
        "deliveries": fanout["per_second"],
        "cpu": fanout["server_cpu"] / fanout["deliveries"] * 1e6,
        "event_cpu": events["server_cpu"] / events["deliveries"] * 1e6,
        "p99": events["latency_us"]["p99"] / 1e3,
    }
    if count > FEW:
        sample["memory"] = memory / (count - FEW) / 1024
        sample["connects"] = (count - FEW) / seconds
    return sample


def measure_machine(count_of: str, pace: Pace) -> Sample:
    """Measure the same fan-out with the send loop in C."""
    count = _count(count_of, pace)
    with running(WALL, count) as run:
        run.join(Crowd(count, groups=1))
        figures = run.watch(pace.seconds)
    cpu = figures["server_cpu"] / figures["deliveries"] * 1e6
    return {"connections": float(count), "deliveries": figures["per_second"], "cpu": cpu}


def _count(count_of: str, pace: Pace) -> int:
    return {"few": FEW, "some": pace.connections, "many": pace.many}[count_of]


def measure_workers(workers: int, pace: Pace) -> Sample:
    """Measure the per-user scenario with some server processes. The load shares their cores if there are no others."""
    crowd = Crowd(pace.connections)
    window = 2 * crowd.connections
    with running(OURS_PER_USER, crowd.connections, workers=workers) as run:
        run.join(crowd, window=window)
        # The parent process has sockets too, but no connections.
        shares = sorted(map(connections_of, run.server.pids))[-workers:]
        figures = run.saturate(crowd, pace.seconds, window)
    return {
        "deliveries": figures["per_second"],
        "cpu": figures["server_cpu"] / figures["deliveries"] * 1e6,
        "least": shares[0] / crowd.connections * 100,
        "busy": (figures["server_cpu"] + figures["load_cpu"]) / figures["seconds"] * 100,
    }


GROWTH = Scenario(
    "growth",
    "From 100 connections to 18,000 on one process",
    "Fan-out to all connections, one event at a time, so that no writes can be joined. Then, with all of them "
    "connected and signed in, 5,000 events a second go to 100 users; this must not cost more when 17,900 other "
    "connections are idle. The kernel needs more time for a frame when there are more sockets than the caches of "
    "the processor hold; the loop in C, which only sends, shows how much.",
    {
        "connections": Metric("connections"),
        "deliveries": Metric("fan-out, deliveries/s", "/s"),
        "cpu": Metric("server CPU each", "µs", 2),
        "event_cpu": Metric("CPU of an event to one user", "µs", 1),
        "p99": Metric("its p99", "ms", 2),
        "memory": Metric("memory of an idle connection", "KB", 1),
        "connects": Metric("connects/s", "/s"),
    },
    [
        Subject("ours-few", "jobpush, 100 connections", partial(measure_growth, "few")),
        Subject("ours-some", "jobpush, 1,000 connections", partial(measure_growth, "some")),
        Subject("ours-many", "jobpush, as many as the descriptors allow", partial(measure_growth, "many")),
        Subject("wall-some", "the machine, 1,000 connections", partial(measure_machine, "some")),
        Subject("wall-many", "the machine, as many", partial(measure_machine, "many")),
    ],
    is_once=True,
)

WORKERS = Scenario(
    "workers",
    "`--workers` 1 and 2",
    'The work of "1,000 users, a channel each", on one process and on two. On a machine with two cores the load '
    "uses a part of them, so the gain is smaller than with a load from another machine.",
    {
        "deliveries": Metric("deliveries/s", "/s"),
        "cpu": Metric("server CPU each", "µs", 2),
        "least": Metric("connections of the process with fewest", "%", 1),
        "busy": Metric("cores busy, load included", "%"),
    },
    [
        Subject("ours-1", "jobpush, 1 process", partial(measure_workers, 1)),
        Subject("ours-2", "jobpush, 2 processes", partial(measure_workers, 2)),
    ],
)
