"""All scenarios, in the order of the tables."""

from __future__ import annotations

from collections.abc import Mapping

from .base import FULL, QUICK, Metric, Pace, Sample, Scenario, Subject
from .encoding import ENCODING
from .fanout import FANOUT, SLOW_READERS
from .growth import GROWTH, WORKERS
from .overload import OVERLOADED
from .page import OPENING, PIXEL
from .per_user import CONNECTING, PER_USER, TOKENS
from .polling import POLLING
from .redis_costs import REDIS_COSTS
from .starting import STARTING
from .worker_costs import PUBLISHING, UPDATING

SCENARIOS: Mapping[str, Scenario] = {
    scenario.key: scenario
    for scenario in (
        FANOUT,
        PER_USER,
        OVERLOADED,
        SLOW_READERS,
        CONNECTING,
        TOKENS,
        OPENING,
        GROWTH,
        WORKERS,
        POLLING,
        UPDATING,
        PUBLISHING,
        ENCODING,
        REDIS_COSTS,
        STARTING,
        PIXEL,
    )
}

__all__ = ["FULL", "QUICK", "SCENARIOS", "Metric", "Pace", "Sample", "Scenario", "Subject"]
