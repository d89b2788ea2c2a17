"""Scenarios: the measured subjects and their metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from ..peers import Peer

#: One measurement: figures by the names of the scenario's metrics.
Sample: TypeAlias = dict[str, float]


@dataclass(frozen=True, slots=True)
class Pace:
    """
    Duration and size of the measurements.

    Args:
        seconds: Duration of one measurement.
        rounds: Rounds of each scenario; the subjects take turns.
        connections: Connections in most scenarios.
        many: Connections in the scenario about many connections.
        is_quick: Whether to measure only the peers that the goals refer to.
    """

    seconds: float
    rounds: int
    connections: int = 1_000
    many: int = 18_000
    is_quick: bool = False


#: The pace of ``--quick``, and that of the published tables.
QUICK = Pace(0.5, 1, many=2_000, is_quick=True)
FULL = Pace(0.8, 3)


@dataclass(frozen=True, slots=True)
class Metric:
    """
    One figure of a scenario.

    Args:
        title: Heading of its column.
        unit: Unit after the number; empty for a plain number.
        digits: Digits after the decimal point.
    """

    title: str
    unit: str = ""
    digits: int = 0


@dataclass(frozen=True)
class Subject:
    """A subject of a measurement: jobpush, a peer, or an alternative without a server."""

    key: str
    title: str
    measure: Callable[[Pace], Sample]


@dataclass(frozen=True)
class Scenario:
    """
    One measurement of several subjects.

    Args:
        key: Name on the command line.
        title: Name in the tables.
        text: The method in a few sentences, so that readers can judge whether it is fair.
        metrics: Metrics by name.
        subjects: jobpush first.
        is_once: Whether to run one round regardless of the pace, because a round computes a median or takes long.
    """

    key: str
    title: str
    text: str
    metrics: Mapping[str, Metric]
    subjects: Sequence[Subject]
    is_once: bool = False
    #: Whether ``--quick`` includes it.
    is_quick: bool = False
    #: Subjects that ``--quick`` measures beside jobpush.
    quick: Sequence[str] = field(default=("flask-socketio", "ws", "nchan", "wall"))

    def chosen(self, pace: Pace, only: Sequence[str]) -> list[Subject]:
        """Return the subjects to measure: those of ``only`` if it is not empty."""
        subjects = [one for one in self.subjects if not only or one.key in only]
        if pace.is_quick and not only and len(subjects) > 4:
            subjects = [one for one in subjects if one.key.startswith("ours") or one.key in self.quick]
        return subjects


def of_peer(peer: Peer, measure: Callable[[Peer, Pace], Sample], *, key: str = "", title: str = "") -> Subject:
    """Return a peer as the subject of a measurement."""
    return Subject(key or peer.key, title or peer.title, lambda pace: measure(peer, pace))
