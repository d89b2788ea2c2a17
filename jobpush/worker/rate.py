"""How fast a task goes: an exponentially weighted rate that says nothing until it knows."""

from __future__ import annotations

import math

#: Seconds over which the past loses most of its weight: long enough not to jump, short enough to follow.
_MEMORY = 5.0
#: Seconds and samples before which a rate is a guess.
_MIN_TIME = 1.0
_MIN_SAMPLES = 3


class RateEstimator:
    """
    Units per second, from amounts at points in time.

    Each stretch between two samples counts by its length, and by how long ago it was.
    """

    __slots__ = ("_amount", "_at", "_samples", "_units", "_time", "_elapsed")

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget all: what comes next is counted in other units."""
        self._amount: float | None = None
        self._at = 0.0
        self._samples = 0
        self._units = 0.0
        self._time = 0.0
        self._elapsed = 0.0

    def add(self, amount: float, now: float) -> None:
        """
        Take a sample.

        Args:
            amount: How much is done; less than before begins anew.
            now: Monotonic seconds.
        """
        if self._amount is not None and amount < self._amount:
            self.reset()
        if self._amount is not None:
            seconds = now - self._at
            fading = math.exp(-seconds / _MEMORY)
            self._units = self._units * fading + amount - self._amount
            self._time = self._time * fading + seconds
            self._elapsed += seconds
        self._amount, self._at = amount, now
        self._samples += 1

    @property
    def rate(self) -> float | None:
        """Units per second; ``None`` while it is not known, or nothing moves."""
        if self._samples < _MIN_SAMPLES or self._elapsed < _MIN_TIME or self._units <= 0:
            return None
        rate = self._units / self._time
        return rate if math.isfinite(rate) else None
