"""The clock of everything shown to users. Waiting does not use it."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """The two functions of the module :mod:`time` that stamps, rates and forecasts need."""

    def time(self) -> float:
        """Return Unix seconds."""

    def monotonic(self) -> float:
        """Return seconds that never go back."""


SYSTEM_CLOCK: Clock = time
