"""How much of each matrix a run of the tests tries: one member in ``make test``, all in ``make test-all``."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TypeVar

import pytest

T = TypeVar("T")

#: Whether this is ``make test-all``.
IS_FULL = os.environ.get("TEST_ALL") == "1"

#: Marks a test, or a member of a matrix, that only a full run tries: it takes long, and a shorter one covers its code.
thorough = pytest.mark.thorough


def examples(count: int) -> int:
    """Return the number of random examples to try: ``count`` in a full run, a quarter otherwise."""
    return count if IS_FULL else count // 4


def members(matrix: Iterable[T]) -> list[T]:
    """Return all members of a matrix in a full run, the last one otherwise."""
    return list(matrix) if IS_FULL else list(matrix)[-1:]
