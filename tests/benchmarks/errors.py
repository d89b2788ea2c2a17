"""Benchmark errors."""

from __future__ import annotations


class BenchmarkError(Exception):
    """A run gave no figure: a program is missing, or a server did not do the measured work."""
