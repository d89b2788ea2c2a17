"""A scenario: the measured servers and the figures."""

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
    How long is measured, and with how many.

    Args:
        seconds: That are counted, each time.
        rounds: How often everything is measured; the subjects take turns.
        connections: Of most scenarios.
        many: Connections of the scenario about many.
        is_quick: Whether only the peers that bars are set by are measured.
    """

    seconds: float
    rounds: int
    connections: int = 1_000
    many: int = 18_000
    is_quick: bool = False


#: A first look, and what the tables are made from.
QUICK = Pace(0.5, 1, many=2_000, is_quick=True)
FULL = Pace(0.8, 3)


@dataclass(frozen=True, slots=True)
class Metric:
    """
    One figure of a scenario.

    Args:
        title: Head of its column.
        unit: Behind the number; empty for a mere number.
        digits: After the point.
    """

    title: str
    unit: str = ""
    digits: int = 0


@dataclass(frozen=True)
class Subject:
    """A subject of a measurement: jobpush, a peer, or another way to do the same."""

    key: str
    title: str
    measure: Callable[[Pace], Sample]


@dataclass(frozen=True)
class Scenario:
    """
    One question, put to several subjects in turn.

    Args:
        key: Its name on the command line.
        title: Its name in the tables.
        text: What is done, in a sentence or two; the reader is to be able to judge whether it is fair.
        metrics: What comes out, by name.
        subjects: Ours first.
        is_once: Whether one round is enough, however many the pace has: it takes its own median, or much time.
    """

    key: str
    title: str
    text: str
    metrics: Mapping[str, Metric]
    subjects: Sequence[Subject]
    is_once: bool = False
    #: Whether a first look looks at it.
    is_quick: bool = False
    #: What the quick pace measures beside ours.
    quick: Sequence[str] = field(default=("flask-socketio", "ws", "nchan", "wall"))

    def chosen(self, pace: Pace, only: Sequence[str]) -> list[Subject]:
        """The subjects that are measured; those of ``only``, if it names any."""
        subjects = [one for one in self.subjects if not only or one.key in only]
        if pace.is_quick and not only and len(subjects) > 4:
            subjects = [one for one in subjects if one.key.startswith("ours") or one.key in self.quick]
        return subjects


def of_peer(peer: Peer, measure: Callable[[Peer, Pace], Sample], *, key: str = "", title: str = "") -> Subject:
    """A peer as the subject of a measurement."""
    return Subject(key or peer.key, title or peer.title, lambda pace: measure(peer, pace))
