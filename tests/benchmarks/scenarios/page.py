"""Time from opening a page to the first correct bar, and from an update to the pixel."""

from __future__ import annotations

import os

from ..peers import FLASK_SOCKETIO, OURS_WITH_TASKS, Peer
from ..processes import Cores, alone
from ..runs import Crowd, running
from .base import Metric, Pace, Sample, Scenario, Subject, of_peer
from .per_user import start_tasks

#: Pages to open, one after the other.
PAGES = 200


def measure_opening(peer: Peer, pace: Pace) -> Sample:
    """Measure from ``connect()`` until the snapshot has arrived (jobpush) or the client is subscribed (peers)."""
    crowd = Crowd(PAGES)
    with running(peer, crowd.connections) as run:
        if peer is OURS_WITH_TASKS:
            start_tasks(run.stage.redis.url, crowd.connections)
        run.join(crowd, count=50)  # warm up lazy imports and caches
        run.join(crowd, first=50, count=PAGES - 50, options=["--inflight", "1"])
        times = run.opening_times()
    return {
        "questions": float(sum(1 for _, reply in peer.steps if reply)),
        "open_p50": times["p50"] / 1e3,
        "open_p99": times["p99"] / 1e3,
    }


def measure_pixel(pace: Pace) -> Sample:
    """Measure with a real worker and a real browser."""
    all_cores = ",".join(map(str, sorted(os.sched_getaffinity(0))))
    updates = 300 if pace.is_quick else 1_500
    return alone("tests.benchmarks.update_to_pixel:measure", updates, cores=Cores(all_cores, all_cores))


OPENING = Scenario(
    "page",
    "Page open to first correct bar",
    "Pages one after the other. A page of jobpush is right when the snapshot of the running task has arrived. It "
    "sends no message for that, because its handshake identifies the user. Flask-SocketIO is ready when it has "
    "joined its room; it would have to fetch the snapshot from elsewhere.",
    {
        "questions": Metric("messages of the page after the handshake"),
        "open_p50": Metric("p50", "ms", 2),
        "open_p99": Metric("p99", "ms", 2),
    },
    [of_peer(OURS_WITH_TASKS, measure_opening), of_peer(FLASK_SOCKETIO, measure_opening)],
    is_once=True,
)

PIXEL = Scenario(
    "pixel",
    "progress.update to the pixel",
    "A Celery worker, a gateway and Chromium on this machine. A task reports progress every 5 to 15 ms, and one "
    "report in 0.1 s is published. The time until an update, or a newer one, is visible.",
    {
        "handshake": Metric("handshake in the browser", "ms", 1),
        "snapshot": Metric("from there to the snapshot", "ms", 1),
        "pixel_p50": Metric("update to pixel, median", "ms"),
        "pixel_p99": Metric("99th percentile", "ms"),
    },
    [Subject("ours", "jobpush", measure_pixel)],
    is_once=True,
)
