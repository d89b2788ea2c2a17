"""What ends a benchmark."""

from __future__ import annotations


class BenchmarkError(Exception):
    """A run that gives no figure: something is missing, or a server has not done what it was measured for."""
