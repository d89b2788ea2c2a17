"""A gateway that stops spreads its closes: clients reconnect in the same instant."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from jobpush.gateway.connections import Connections


class FakeConnection:
    """Records the codes and times of its closes."""

    def __init__(self, loop: Any) -> None:
        self.loop = loop
        self.closed: list[tuple[int, float]] = []

    @property
    def is_closing(self) -> bool:
        return bool(self.closed)

    def close(self, code: int, reason: str) -> None:
        self.closed.append((code, self.loop.now))


@pytest.mark.parametrize(("number", "seconds"), [(2_000, 5.0), (100, 0.5)])
def test_closes_are_spread_evenly_over_the_drain(number: int, seconds: float) -> None:
    loop: Any = SimpleNamespace(now=100.0)
    connections: Any = Connections(loop, lambda connection: None)
    fakes = [FakeConnection(loop) for _ in range(number)]
    connections._slices[0] = dict(enumerate(fakes))

    connections.drain(5.0, lambda: None)
    while not all(fake.is_closing for fake in fakes):
        loop.now += 0.125
        connections._drain(connections._drain_until)

    moments = [moment - 100.0 for fake in fakes for _, moment in fake.closed]
    assert len(moments) == number, "each is closed once"
    assert {code for fake in fakes for code, _ in fake.closed} == {4200}
    assert max(moments) <= seconds
    slices = [moments.count(moment) for moment in sorted(set(moments))]
    assert len(slices) == seconds * 8
    assert max(slices) - min(slices) <= 1
