"""A thousand users with a channel each: the main use of jobpush."""

from __future__ import annotations

import statistics

from jobpush.config import Config
from jobpush.events import TaskEvent, TaskState
from jobpush.store import Store, TaskWrite

from ..peers import OURS_PER_USER, OURS_WITH_TASKS, OURS_WITH_TOKEN, PEERS, RELAY, Peer
from ..runs import Crowd, running
from .base import Metric, Pace, Sample, Scenario, of_peer

#: Events in flight for each user when the maximum rate is measured.
BACKLOG = 2
#: Events per second over all users: a rate that every server here sustains, then five times as many, twice.
RATES = (2_000, 10_000, 50_000)
#: Share of the maximum rate above which latency is not measured, because it would be the length of a queue.
BUSY = 0.9
#: Connections opened before the measurement, so that lazy imports and caches do not count.
FIRST = 100


def measure(peer: Peer, pace: Pace) -> Sample:
    """Measure throughput, then latency at half of that rate and at fixed rates."""
    crowd = Crowd(pace.connections)
    with running(peer, crowd.connections) as run:
        window = BACKLOG * crowd.connections
        run.join(crowd, window=window)
        most = run.saturate(crowd, pace.seconds, window)
        sample = {
            "deliveries": most["per_second"],
            "cpu": most["server_cpu"] / most["deliveries"] * 1e6,
            "load_busy": most["load_cpu"] / most["seconds"] * 100,
        }
        loads = {"half": most["per_second"] / 2, **{f"at_{rate}": float(rate) for rate in RATES}}
        for name, rate in loads.items():
            if rate < BUSY * most["per_second"] and (windows := run.latency(crowd, pace.seconds, rate)):
                sample[f"{name}_p50"] = statistics.median(window["p50"] for window in windows) / 1e3
                sample[f"{name}_p99"] = statistics.median(window["p99"] for window in windows) / 1e3
                if name == "half":
                    sample["half_worst"] = max(window["p99"] for window in windows) / 1e3
    return sample


def measure_connecting(peer: Peer, pace: Pace) -> Sample:
    """Measure the rate and CPU of new connections, and the memory of an idle one."""
    count = pace.connections
    crowd = Crowd(count + FIRST)
    with running(peer, crowd.connections) as run:
        if peer in (OURS_WITH_TASKS, OURS_WITH_TOKEN):
            start_tasks(run.stage.redis.url, crowd.connections)
        run.join(crowd, count=FIRST)
        few = run.memory()
        cpu = run.server.cpu_seconds()
        seconds = run.join(crowd, first=FIRST, count=count)
        cpu = run.server.cpu_seconds() - cpu
        return {
            "connects": count / seconds,
            "cpu": cpu / count * 1e3,
            "memory": (run.memory() - few) / count / 1024,
        }


def start_tasks(redis_url: str, users: int) -> None:
    """Store a running task for each user, so that each connection gets a snapshot."""
    store = Store(Config(redis_url=redis_url, publish_timeout=10))
    for first in range(0, users, 100):
        store.publish(
            [
                TaskWrite(
                    str(user),
                    TaskEvent(f"task-{user}", TaskState.PROGRESS, title="Encode cat.mov", current=120, total=4000),
                )
                for user in range(first, min(first + 100, users))
            ]
        )
    store.close()


PER_USER = Scenario(
    "per-user",
    "1,000 users, a channel each",
    "Every event goes to one socket. The first column is the most that the server can send, with 2,000 events on "
    "their way. Then the time from the publisher to the socket is measured at half of that rate, and at fixed "
    "rates that are the same for all servers that can keep up with them in every round. p50 and p99 are taken "
    "over 0.2 s; the tables show the median of these figures, and at half load also the worst p99. The reason: a "
    "virtual machine stops all its programs for some milliseconds now and then, and over a whole second p99 shows "
    "nothing else. nchan works without Redis. A loop in C that only passes events on shows the cost of the way "
    "through Redis.",
    {
        "deliveries": Metric("deliveries/s", "/s"),
        "cpu": Metric("server CPU each", "µs", 2),
        "half_p50": Metric("p50 at half load", "ms", 3),
        "half_p99": Metric("p99 at half load", "ms", 3),
        "half_worst": Metric("worst p99 at half load", "ms", 3),
        **{f"at_{rate}_{name}": Metric(f"{name} at {rate:,}/s", "ms", 3) for rate in RATES for name in ("p50", "p99")},
        "load_busy": Metric("load's core busy", "%"),
    },
    [of_peer(peer, measure) for peer in (OURS_PER_USER, *PEERS, RELAY)],
    is_quick=True,
)

CONNECTING = Scenario(
    "connecting",
    "1,000 connections more",
    "64 at a time. A connection of jobpush is signed in by the session of the page, is subscribed to its user's "
    "channel, and is ready when the snapshot of its user's task has arrived. A connection of the others is ready "
    "when it is subscribed; they have no sign-in and no snapshot. Memory is the proportional set size of the "
    "process, from 100 connections to 1,100 idle ones.",
    {
        "connects": Metric("connects/s", "/s"),
        "cpu": Metric("server CPU each", "ms", 2),
        "memory": Metric("memory each", "KB", 1),
    },
    [of_peer(peer, measure_connecting) for peer in (OURS_WITH_TASKS, *PEERS)],
    is_quick=True,
)

TOKENS = Scenario(
    "tokens",
    "1,000 connections more, by session and by token",
    "As above, jobpush alone. First the session of the page, a signed cookie, names the user; then a connection token "
    "in the first message, of which the gateway checks signature, claims and revocation. The two take turns.",
    {
        "connects": Metric("connects/s", "/s"),
        "cpu": Metric("server CPU each", "ms", 2),
    },
    [of_peer(peer, measure_connecting) for peer in (OURS_WITH_TASKS, OURS_WITH_TOKEN)],
    is_quick=True,
)
