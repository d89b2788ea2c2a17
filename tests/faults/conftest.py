"""Settings shared by the fault tests: the limit of open files, and the duration."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator

import pytest

pytest.register_assert_rewrite("tests.faults.crowd", "tests.faults.stand")

#: Whether to run all faults at full length, as ``make faults`` does.
IS_FULL = os.environ.get("FAULTS") == "full"


#: Tests for full length only: 2,000 tasks for each failover, and thousands of connections.
collect_ignore = [] if IS_FULL else ["test_failovers.py", "test_storms.py"]


@pytest.fixture(scope="session", autouse=True)
def many_descriptors() -> Iterator[None]:
    """Raise the limit of open files to its maximum, for this process and its children."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
