"""A gateway that stops lets its clients go one after the other, for they all come back in the same instant."""

from __future__ import annotations

from typing import Any

import pytest

from jobpush.config import Config
from jobpush.gateway.hub import Hub
from jobpush.gateway.metrics import Refusals


class FakeConnection:
    """Records with what it was closed, and when."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self.closed: list[tuple[int, float]] = []

    @property
    def is_closing(self) -> bool:
        return bool(self.closed)

    def close(self, code: int, reason: str) -> None:
        self.closed.append((code, self.hub.loop.now))


@pytest.mark.parametrize(("connections", "seconds"), [(2_000, 5.0), (100, 0.5)])
def test_closes_are_spread_evenly_over_the_time_of_the_drain(connections: int, seconds: float) -> None:
    hub: Any = Hub(Config(drain_timeout=5.0), Refusals())
    fakes = [FakeConnection(hub) for _ in range(connections)]
    hub._connections[0] = dict(enumerate(fakes))
    began = hub.loop.now = 100.0

    hub._begin_to_drain()
    while not all(fake.is_closing for fake in fakes):
        hub.loop.now += 0.125
        hub._drain(hub._drain_until)

    moments = [moment - began for fake in fakes for _, moment in fake.closed]
    assert len(moments) == connections, "each is closed once"
    assert {code for fake in fakes for code, _ in fake.closed} == {4200}
    assert max(moments) <= seconds
    slices = [moments.count(moment) for moment in sorted(set(moments))]
    assert len(slices) == seconds * 8
    assert max(slices) - min(slices) <= 1
