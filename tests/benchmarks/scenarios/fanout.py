"""Fan-out from one channel to a thousand sockets."""

from __future__ import annotations

from typing import Any

from ..peers import OURS, OURS_TWO_CHANNELS, PEERS, WALL, WALL_JOINED, WALL_PYTHON, Peer
from ..runs import Crowd, running
from .base import Metric, Pace, Sample, Scenario, of_peer

#: Events in flight, so that a busy server can join several in one write.
BACKLOG = 64
#: Share of the connections that stop reading.
SLOW_SHARE = 0.1
#: Bytes of the kernel's receive buffer: small, so that it fills soon when a client does not read.
RECEIVE_BUFFER = 65_536
#: Bytes of the events that fill the buffers of the slow clients before the measurement.
FILLING = 4_000


def measure(peer: Peer, pace: Pace) -> Sample:
    """Measure with a backlog, then one event at a time."""
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
    """Measure a send loop, which generates its own events."""
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
    """Measure the other clients while one in ten does not read, at half of the server's maximum rate."""
    crowd = Crowd(pace.connections, groups=1)
    slow = int(pace.connections * SLOW_SHARE)
    with running(peer, crowd.connections) as run:
        run.join(crowd, options=["--receive-buffer", str(RECEIVE_BUFFER)])
        most = run.saturate(crowd, pace.seconds, 1)["per_second"] / crowd.connections
        rate = ("--rate", str(max(1.0, most / 2)))
        before = run.measure(crowd, pace.seconds, *rate)
        run.send_command(f"stall {slow}")
        filling = Crowd(pace.connections, groups=1, size=FILLING)
        run.measure(filling, pace.seconds, *rate, is_complete=False, may_be_silent=True)
        after = run.measure(crowd, 2 * pace.seconds, *rate, is_complete=False, may_be_silent=True)
    if after["deliveries"] < after["seconds"] * most / 4 * (crowd.connections - slow):
        return dict.fromkeys(("ratio_p50", "ratio_p99", "ratio_cpu"), float("inf"))  # the others receive no more events
    latency_before, latency = before["latency_us"], after["latency_us"]
    return {
        "ratio_p50": latency["p50"] / latency_before["p50"],
        "ratio_p99": latency["p99"] / latency_before["p99"],
        "ratio_cpu": _cpu_per_event(after, crowd.connections - slow) / _cpu_per_event(before, crowd.connections),
    }


def _cpu_per_event(figures: dict[str, Any], listeners: int) -> float:
    return float(figures["server_cpu"] / figures["deliveries"] * listeners)


FANOUT = Scenario(
    "fanout",
    "One channel, 1,000 sockets",
    'Every event goes to every socket. "Backlog" keeps 64 events on their way, so that a busy server can join '
    'several in one write. "One event at a time" publishes the next event when the last one has arrived '
    "everywhere.",
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
    "The effect on the other sockets, at half of the rate that the server can send one event at a time: latency "
    "and CPU as a multiple of the values before. Measured once the kernel takes no more bytes for the sockets "
    "that do not read.",
    {
        "ratio_p50": Metric("p50, times", "×", 2),
        "ratio_p99": Metric("p99, times", "×", 2),
        "ratio_cpu": Metric("server CPU of an event, times", "×", 2),
    },
    [of_peer(peer, measure_slow) for peer in (OURS, *PEERS)],
    is_once=True,
)
