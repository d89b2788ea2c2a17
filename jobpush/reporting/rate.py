"""Speed and time left of a task: exponentially weighted, and unknown until there are enough samples."""

from __future__ import annotations

import math

#: Seconds over which older samples lose most of their weight, at least; and as a part of the observed time. A long task
#: is averaged over minutes, so that one slow item changes little.
_MIN_MEMORY = 5.0
_MEMORY_PART = 0.25
#: Seconds and samples before which a rate is a guess.
_MIN_TIME = 1.0
_MIN_SAMPLES = 3
#: Seconds within which the published rate may double, and its largest change from one sample to the next.
_DOUBLING_TIME = 2.0
_MAX_FACTOR = 2.0
#: Longest forecast as a multiple of the observed time: an hour after a minute.
_MAX_OUTLOOK = 60.0


class RateEstimator:
    """
    Units per second, from amounts at points in time.

    Each stretch between two samples is weighted by its length and its age. The published rate follows in bounded steps,
    so that forecasts do not jump.
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
            amount: Units done; fewer than before start over.
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
        Return how long ``amount`` more units take; ``None`` while that is a guess.

        A forecast is limited by the observed time: a task of an hour has one after a minute.
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
