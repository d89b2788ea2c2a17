"""The configurations in which a task can run, and the selection for a test run."""

from __future__ import annotations

import itertools
import os
import sys
from dataclasses import astuple, dataclass
from pathlib import Path

#: Python with the oldest supported Celery; created by tools/prepare.py.
_OLDEST_PYTHON = Path(__file__).parents[2] / ".venv-celery54" / "bin" / "python"


@dataclass(frozen=True)
class Configuration:
    """
    The environment of a worker.

    Args:
        celery: ``"5.4"``, or ``"newest"`` for the installed version.
        pool: Name of Celery's pool.
        broker: ``"redis"`` or ``"rabbitmq"``.
        backend: ``"results"`` or ``"no-results"``.
    """

    celery: str
    pool: str
    broker: str
    backend: str

    def __str__(self) -> str:
        return "-".join(astuple(self))

    @property
    def python(self) -> str:
        """The interpreter with this Celery."""
        return str(_OLDEST_PYTHON) if self.celery == "5.4" else sys.executable

    @property
    def is_oldest(self) -> bool:
        """Whether Celery is the oldest supported version."""
        return self.celery == "5.4"

    @property
    def is_one_process(self) -> bool:
        """Whether the tasks run in the process that reads the messages."""
        return self.pool != "prefork"

    @property
    def enforces_time_limits(self) -> bool:
        """Whether the pool stops a task at its hard time limit."""
        return self.pool in ("prefork", "gevent")

    @property
    def can_terminate(self) -> bool:
        """Whether the pool can terminate a running task. gevent in Celery 5.4 cannot."""
        return self.pool == "prefork" or (self.pool == "gevent" and not self.is_oldest)


_AXES = (("5.4", "newest"), ("prefork", "threads", "solo", "gevent"), ("redis", "rabbitmq"), ("results", "no-results"))
FULL = [Configuration(*values) for values in itertools.product(*_AXES)]

#: Every test run plays all rows here, except rare ones.
MEASURED = Configuration("newest", "prefork", "redis", "no-results")
#: A default run plays the base rows on the first of these, a thorough one on all. Together with MEASURED they cover
#: each value of each axis.
OTHERS = [
    Configuration("5.4", "solo", "redis", "no-results"),
    Configuration("newest", "threads", "redis", "results"),
    Configuration("5.4", "gevent", "rabbitmq", "results"),
]

#: Whether to play every row on every configuration, as ``make matrix`` does.
IS_FULL = os.environ.get("LIFECYCLE_MATRIX") == "full"
