"""Short runs against jobpush: the benchmark itself works."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

from jobpush.processes.embedded import EmbeddedRedis
from tests.effort import thorough

from . import runs
from .errors import BenchmarkError
from .peers import (
    CHANNELS,
    OURS,
    OURS_PER_USER,
    OURS_SNAPSHOTS,
    OURS_TWO_CHANNELS,
    OURS_WITH_TASKS,
    RELAY,
    WALL,
    Peer,
    Stage,
)
from .processes import Cores
from .runs import Crowd, running
from .scenarios import Pace
from .scenarios.per_user import measure, measure_connecting

Result = TypeVar("Result")

PACE = Pace(seconds=0.1, rounds=1, connections=20)
#: Maximum attempts of one measurement.
ATTEMPTS = 10


def test_every_event_of_a_channel_reaches_every_socket() -> None:
    crowd = Crowd(20, groups=1)

    with running(OURS, crowd.connections) as run:
        run.join(crowd, window=4)
        with run.publishing(crowd, "--events", "500", "--window", "4"):
            pass
        report = run.loads[0].request("report")

    assert (report["deliveries"], report["lowest"], report["highest"]) == (20 * 500, 500, 500)


def test_two_channels_on_a_socket_and_snapshots_of_several_tasks_are_checked_too() -> None:
    assert _count_deliveries(OURS_TWO_CHANNELS, Crowd(5, groups=1), "--window", "2") == 5 * 60
    assert 5 * 3 <= _count_deliveries(OURS_SNAPSHOTS, Crowd(5, groups=1, streams=3), "--rate", "5000") <= 5 * 60


@pytest.fixture
def any_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    """Accept any rate that the machine reaches."""
    monkeypatch.setattr(runs, "STEADY", 0.0)


@thorough
@pytest.mark.usefixtures("any_rate")
def test_users_are_measured_by_throughput_latency_and_memory_per_connection() -> None:
    figures = retried(lambda: measure(OURS_PER_USER, PACE)) | measure_connecting(OURS_WITH_TASKS, PACE)

    assert all(figures[name] > 0 for name in ("deliveries", "cpu", "half_p50", "half_p99", "connects"))
    assert figures["half_p50"] <= figures["half_p99"]


def test_machine_is_measured_by_a_send_loop() -> None:
    crowd = Crowd(10, groups=1)

    with running(WALL, crowd.connections) as run:
        run.join(crowd)
        figures = retried(lambda: run.watch(0.1))

    assert figures["deliveries"] > 0


def test_unreached_rate_has_no_latency(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "STEADY", 2.0)  # twice the requested rate
    crowd = Crowd(20)

    with running(OURS_PER_USER, crowd.connections) as run:
        run.join(crowd, window=1)

        assert retried(lambda: run.latency(crowd, 0.2, 1_000)) is None


@thorough
@pytest.mark.usefixtures("any_rate")
def test_path_through_redis_is_measured_by_a_relay_loop() -> None:
    figures = retried(lambda: measure(RELAY, PACE))

    assert 0 < figures["half_p50"] <= figures["half_p99"]


def retried(measurement: Callable[[], Result]) -> Result:
    """Return the result of a measurement; repeat it if nothing arrived because the machine stalled."""
    for _ in range(ATTEMPTS - 1):
        try:
            return measurement()
        except BenchmarkError as exc:
            if not str(exc).startswith("nothing arrived"):
                raise
    return measurement()


def _count_deliveries(peer: Peer, crowd: Crowd, *options: str) -> int:
    """Publish sixty events, wait for the last one, and return the number of deliveries."""
    with running(peer, crowd.connections, users=1) as run:
        run.join(crowd, options=["--may-skip"] if crowd.streams > 1 else [])
        with run.publishing(crowd, "--events", "60", *options):
            pass
        return int(run.loads[0].request("report")["deliveries"])


def test_event_of_any_size_is_readable_for_channels(redis_server: EmbeddedRedis, tmp_path: Path) -> None:
    stage = Stage(0, redis_server, tmp_path, Cores("0", "0"), users=1)

    for size, length in (200, b"\xd9\xc8"), (2_000, b"\xda\x07\xd0"):
        message = CHANNELS.publisher(stage, size)[-1]
        assert os.fsencode(message) == b"\x82\xa4type\xa5event\xa4text" + length + b"{m}"
