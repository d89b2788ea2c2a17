"""How fast a task goes and how long it will take: exponentially weighted, and silent until it knows."""

from __future__ import annotations

import math

#: Seconds over which the past loses most of its weight, at least; and their part of the time that was seen. A long
#: task is judged by minutes, so that an item of its that takes a while does not frighten anybody.
_MIN_MEMORY = 5.0
_MEMORY_PART = 0.25
#: Seconds and samples before which a rate is a guess.
_MIN_TIME = 1.0
_MIN_SAMPLES = 3
#: Seconds within which the rate that is told may double, and what it may change by from one sample to the next.
_DOUBLING_TIME = 2.0
_MAX_FACTOR = 2.0
#: How many times longer than what was seen one may look ahead: an hour after a minute.
_MAX_OUTLOOK = 60.0


class RateEstimator:
    """
    Units per second, from amounts at points in time.

    Each stretch between two samples counts by its length, and by how long ago it was. The rate that is told follows
    that in bounded steps, so that what is made of it does not jump.
    """

    __slots__ = ("rate", "amount", "at", "_samples", "_units", "_time", "_elapsed")

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        #: Units per second; ``None`` while it is not known, or nothing moves.
        self.rate: float | None = None
        #: The newest sample, and when it was.
        self.amount = 0.0
        self.at = 0.0
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
        if amount < self.amount:
            self._begin()
        seconds = now - self.at
        if self._samples:
            fading = math.exp(-seconds / max(_MIN_MEMORY, _MEMORY_PART * self._elapsed))
            self._units = self._units * fading + amount - self.amount
            self._time = self._time * fading + seconds
            self._elapsed += seconds
        self.amount, self.at = amount, now
        self._samples += 1
        self.rate = self._bounded(self._measured_rate(), seconds)

    def seconds_left(self, amount: float) -> float | None:
        """
        How long ``amount`` more units will take; ``None`` while that is a guess.

        A forecast reaches no further than what was seen allows: a task that takes an hour tells it after a minute.
        """
        seconds = amount / self.rate if self.rate else math.inf
        return seconds if seconds <= self._elapsed * _MAX_OUTLOOK else None

    def _measured_rate(self) -> float | None:
        if self._samples < _MIN_SAMPLES or self._elapsed < _MIN_TIME or self._units <= 0:
            return None
        rate = self._units / self._time
        return rate if math.isfinite(rate) else None

    def _bounded(self, rate: float | None, seconds: float) -> float | None:
        if rate is None or self.rate is None:
            return rate
        factor = min(_MAX_FACTOR, 1 + seconds / _DOUBLING_TIME)
        return min(max(rate, self.rate / factor), self.rate * factor)
