"""Age of the displayed data under ten times more events than the server can send."""

from __future__ import annotations

from ..peers import OURS_SNAPSHOTS, PEERS, Peer
from ..runs import Crowd, running
from .base import Metric, Pace, Sample, Scenario, of_peer
from .fanout import BACKLOG

#: Tasks whose snapshots are published.
TASKS = 10
#: Published rate as a multiple of the server's maximum.
OVERLOAD = 10


def measure(peer: Peer, pace: Pace) -> Sample:
    """Measure the maximum rate, then publish at ten times that rate and record how old each client's data is."""
    crowd = Crowd(pace.connections, groups=1, streams=TASKS)
    with running(peer, crowd.connections, users=1) as run:
        run.join(crowd, window=BACKLOG, options=["--may-skip"])
        most = run.saturate(crowd, pace.seconds, BACKLOG)["per_second"] / crowd.connections
        run.send_command("ages 1")
        figures = run.measure(
            crowd, 3 * pace.seconds, "--rate", str(OVERLOAD * most), is_complete=peer is OURS_SNAPSHOTS
        )
        ages = figures["age_us"]
    return {
        "published": OVERLOAD * most,
        "age_p50": ages["p50"] / 1e3,
        "age_p99": ages["p99"] / 1e3,
        "age_max": ages["max"] / 1e3,
    }


OVERLOADED = Scenario(
    "overload",
    "Ten times more than can be sent",
    "Snapshots of ten tasks go to 1,000 sockets for some seconds, at ten times the rate that the server can send. "
    "The figure is the age of the oldest of the ten snapshots that a client shows. A server that falls behind "
    "shows older and older data.",
    {
        "published": Metric("events/s", "/s"),
        "age_p50": Metric("age, p50", "ms"),
        "age_p99": Metric("age, p99", "ms"),
        "age_max": Metric("age, worst", "ms"),
    },
    [of_peer(peer, measure) for peer in (OURS_SNAPSHOTS, *PEERS)],
    is_once=True,
)
