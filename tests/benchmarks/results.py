"""Samples by scenario and subject, stored as JSON; all tables and plots are made from them."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .scenarios.base import Sample


@dataclass
class Results:
    """
    The samples of one run of the benchmark.

    Args:
        machine: See :func:`machine.describe`.
        samples: One for each round, by scenario and subject.
        failures: Error messages, by scenario and subject.
    """

    machine: Mapping[str, str]
    samples: dict[str, dict[str, list[Sample]]] = field(default_factory=dict)
    failures: dict[str, dict[str, str]] = field(default_factory=dict)

    def add(self, scenario: str, subject: str, sample: Sample) -> None:
        """Add the sample of a round."""
        self.samples.setdefault(scenario, {}).setdefault(subject, []).append(sample)

    def fail(self, scenario: str, subject: str, reason: str) -> None:
        """Record why a round has no sample."""
        self.failures.setdefault(scenario, {})[subject] = reason

    def values(self, scenario: str, subject: str, metric: str) -> list[float]:
        """Return the values of a metric over all rounds."""
        samples = self.samples.get(scenario, {}).get(subject, [])
        return [sample[metric] for sample in samples if metric in sample]

    def median(self, scenario: str, subject: str, metric: str) -> float | None:
        """Return the median of a metric; ``None`` if it was not measured."""
        values = self.values(scenario, subject, metric)
        return statistics.median(values) if values else None

    def steady(self, scenario: str, subject: str, metric: str) -> float | None:
        """Return the median of a metric; ``None`` unless every round has it."""
        rounds = len(self.samples.get(scenario, {}).get(subject, []))
        return self.median(scenario, subject, metric) if len(self.values(scenario, subject, metric)) == rounds else None

    def spread(self, scenario: str, subject: str, metric: str) -> float | None:
        """Return half of the range as a share of the median; ``None`` if fewer than two values or infinite."""
        values = self.values(scenario, subject, metric)
        median = self.median(scenario, subject, metric)
        if len(values) < 2 or not median or not all(map(math.isfinite, values)):
            return None
        return (max(values) - min(values)) / 2 / abs(median)

    def write(self, path: Path) -> None:
        """Write the results to a JSON file."""
        content = {"machine": self.machine, "samples": self.samples, "failures": self.failures}
        path.write_text(json.dumps(_rounded(content), indent=1) + "\n")

    @classmethod
    def read(cls, path: Path) -> Results:
        """Read the results from a JSON file."""
        content = json.loads(path.read_text())
        samples = {
            scenario: {subject: [_restore_infinity(one) for one in rounds] for subject, rounds in subjects.items()}
            for scenario, subjects in content["samples"].items()
        }
        return cls(content["machine"], samples, content["failures"])


def _restore_infinity(sample: dict[str, float | None]) -> Sample:
    return {name: math.inf if value is None else value for name, value in sample.items()}


def _rounded(value: Any) -> Any:
    """Round numbers to five significant digits, and replace infinity by ``None`` for JSON."""
    if value == math.inf:
        return None
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return float(f"{value:.5g}") if isinstance(value, float) and math.isfinite(value) else value
