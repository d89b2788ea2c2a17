"""Child processes: that they start whatever else their parent does."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import pytest

from jobpush.cli.processes import ChildProcess


@pytest.fixture
def restless_environment() -> Iterator[None]:
    """Another thread that sets a variable of ours and takes it away, all the time."""
    is_over = threading.Event()

    def change() -> None:
        while not is_over.is_set():
            os.environ["JOBPUSH_RESTLESS"] = "1"
            del os.environ["JOBPUSH_RESTLESS"]

    thread = threading.Thread(target=change)
    thread.start()
    yield
    is_over.set()
    thread.join()


def test_a_child_starts_while_another_thread_changes_the_environment(restless_environment: None) -> None:
    for _ in range(50):
        ChildProcess(["true"]).kill()
