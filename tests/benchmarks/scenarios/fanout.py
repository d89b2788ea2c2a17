"""One channel, a thousand sockets."""

from __future__ import annotations

from typing import Any

from ..peers import OURS, OURS_TWO_CHANNELS, PEERS, WALL, WALL_JOINED, WALL_PYTHON, Peer
from ..runs import Crowd, running
from .base import Metric, Pace, Sample, Scenario, of_peer

#: Events that wait while the server is busy: what comes out shows whether it makes something of that.
BACKLOG = 64
#: Of the connections, those that stop reading.
SLOW_SHARE = 0.1
#: Bytes that a kernel takes for a reader, so that it is soon felt that he does not read.
RECEIVE_BUFFER = 65_536
#: Bytes of the events that fill what the kernels hold for those who do not read, before anything is measured.
FILLING = 4_000


def measure(peer: Peer, pace: Pace) -> Sample:
    """With a backlog, then event by event."""
    crowd = Crowd(pace.connections, groups=1)
    with running(peer, crowd.connections) as run:
        run.join(crowd, window=1)
        one = run.saturate(crowd, pace.seconds, 1)
        many = run.saturate(crowd, pace.seconds, BACKLOG)
    return {
        "deliveries": many["per_second"],
        "cpu": many["server_cpu"] / many["deliveries"] * 1e6,
        "deliveries_one": one["per_second"],
        "cpu_one": one["server_cpu"] / one["deliveries"] * 1e6,
        "load_busy": max(many["load_cpu"] / many["seconds"], one["load_cpu"] / one["seconds"]) * 100,
    }


def measure_wall(peer: Peer, pace: Pace) -> Sample:
    """What the machine can do, which publishes by itself."""
    crowd = Crowd(pace.connections, groups=1)
    with running(peer, crowd.connections) as run:
        run.join(crowd)
        figures = run.watch(pace.seconds)
    cpu = figures["server_cpu"] / figures["deliveries"] * 1e6
    is_joined = peer is WALL_JOINED
    names = ("deliveries", "cpu") if is_joined else ("deliveries_one", "cpu_one")
    busy = figures["load_cpu"] / figures["seconds"] * 100
    return {names[0]: figures["per_second"], names[1]: cpu, "load_busy": busy}


def measure_slow(peer: Peer, pace: Pace) -> Sample:
    """How late the others hear of an event while one in ten does not read, at half of what the server can do."""
    crowd = Crowd(pace.connections, groups=1)
    slow = int(pace.connections * SLOW_SHARE)
    with running(peer, crowd.connections) as run:
        run.join(crowd, options=["--receive-buffer", str(RECEIVE_BUFFER)])
        most = run.saturate(crowd, pace.seconds, 1)["per_second"] / crowd.connections
        rate = ("--rate", str(max(1.0, most / 2)))
        before = run.measure(crowd, pace.seconds, *rate)
        run.say(f"stall {slow}")
        filling = Crowd(pace.connections, groups=1, size=FILLING)
        run.measure(filling, pace.seconds, *rate, is_complete=False, may_be_silent=True)
        after = run.measure(crowd, 2 * pace.seconds, *rate, is_complete=False, may_be_silent=True)
    if after["deliveries"] < after["seconds"] * most / 4 * (crowd.connections - slow):
        return dict.fromkeys(("ratio_p50", "ratio_p99", "ratio_cpu"), float("inf"))  # the others get nothing any more
    was, latency = before["latency_us"], after["latency_us"]
    return {
        "ratio_p50": latency["p50"] / was["p50"],
        "ratio_p99": latency["p99"] / was["p99"],
        "ratio_cpu": _cpu_of_an_event(after, crowd.connections - slow) / _cpu_of_an_event(before, crowd.connections),
    }


def _cpu_of_an_event(figures: dict[str, Any], listeners: int) -> float:
    return float(figures["server_cpu"] / figures["deliveries"] * listeners)


FANOUT = Scenario(
    "fanout",
    "One channel, 1,000 sockets",
    "Every event goes to every socket. With a backlog 64 events are on their way at a time, so that a server which is "
    "busy has something to join; event by event the next is published when the last one has arrived everywhere.",
    {
        "deliveries": Metric("backlog, deliveries/s", "/s"),
        "cpu": Metric("server CPU each", "µs", 2),
        "deliveries_one": Metric("one event at a time, deliveries/s", "/s"),
        "cpu_one": Metric("server CPU each", "µs", 2),
        "load_busy": Metric("load's core busy", "%"),
    },
    [
        of_peer(OURS, measure),
        of_peer(OURS_TWO_CHANNELS, measure),
        *(of_peer(peer, measure) for peer in PEERS),
        *(of_peer(peer, measure_wall) for peer in (WALL, WALL_PYTHON, WALL_JOINED)),
    ],
    is_quick=True,
)

SLOW_READERS = Scenario(
    "slow",
    "100 of 1,000 sockets stop reading",
    "What that does to the others, at half of the events that the server can send one at a time: how many times later "
    "they hear of an event than before. It is measured once the kernels take nothing more for those who do not read.",
    {
        "ratio_p50": Metric("p50, times", "×", 2),
        "ratio_p99": Metric("p99, times", "×", 2),
        "ratio_cpu": Metric("server CPU of an event, times", "×", 2),
    },
    [of_peer(peer, measure_slow) for peer in (OURS, *PEERS)],
    is_once=True,
)
