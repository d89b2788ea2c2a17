"""How much of each matrix a run of the tests tries: one member in ``make test``, all in ``make test-all``."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

import pytest

T = TypeVar("T")

_TESTS = Path(__file__).parent

#: Whether this is ``make test-all``.
IS_FULL = os.environ.get("TEST_ALL") == "1"

#: The modules that take longest. They start first, so that the run does not end with one of them alone.
LONGEST = (
    "integration/test_demo",
    "queues/celery/test_lost",
    "cli/test_demo",
    "simulation/test_guarantees",
    "integration/test_chat",
    "faults/test_redis",
    "faults/test_gateways",
    "faults/test_workers",
    "gateway/test_presence",
    "lifecycle/test_endings",
    "queues/celery/test_pools",
    "web/gunicorn/test_slow_senders",
    "gateway/test_connection",
    "queues/celery/test_workflows",
    "integration/test_feed",
    "examples/test_examples",
    "js/test_elements",
    "store/redis/test_sentinel",
    "store/redis/test_cluster",
    "js/test_node",
    "web/gunicorn/test_slow_clients",
    "queues/celery/test_endings",
)

#: Marks a test, or a member of a matrix, that only a full run tries: it takes long, and a shorter one covers its code.
thorough = pytest.mark.thorough


def order(item: pytest.Item) -> int:
    """Return the place of a test's module in the order of a run."""
    module = item.path.relative_to(_TESTS).with_suffix("").as_posix()
    return LONGEST.index(module) if module in LONGEST else len(LONGEST)


def examples(count: int) -> int:
    """Return the number of random examples to try: ``count`` in a full run, an eighth otherwise."""
    return count if IS_FULL else count // 8


def members(matrix: Iterable[T]) -> list[T]:
    """Return all members of a matrix in a full run; otherwise the last one, which stands for the others."""
    return list(matrix) if IS_FULL else list(matrix)[-1:]
