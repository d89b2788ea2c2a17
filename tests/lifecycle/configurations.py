"""The configurations in which a task can run, and those that a run of the tests tries."""

from __future__ import annotations

import itertools
import os
import sys
from dataclasses import astuple, dataclass
from pathlib import Path

#: Python with the oldest Celery that we support; made by tools/prepare.py.
_OLDEST_PYTHON = Path(__file__).parents[2] / ".venv-celery54" / "bin" / "python"


@dataclass(frozen=True)
class Configuration:
    """
    What a worker runs on.

    Args:
        celery: ``"5.4"``, or ``"newest"``: the one that is installed with the tests.
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
        """The interpreter that has this Celery."""
        return str(_OLDEST_PYTHON) if self.celery == "5.4" else sys.executable

    @property
    def is_oldest(self) -> bool:
        """Whether its Celery is the oldest one."""
        return self.celery == "5.4"

    @property
    def is_one_process(self) -> bool:
        """Whether the tasks run in the process that reads the messages."""
        return self.pool != "prefork"

    @property
    def enforces_time_limits(self) -> bool:
        """Whether the pool ends a task at its hard limit."""
        return self.pool in ("prefork", "gevent")

    @property
    def can_terminate(self) -> bool:
        """Whether the pool can end a task that does not want to. Celery 5.4's gevent could not yet."""
        return self.pool == "prefork" or (self.pool == "gevent" and not self.is_oldest)


_AXES = (("5.4", "newest"), ("prefork", "threads", "solo", "gevent"), ("redis", "rabbitmq"), ("results", "no-results"))
FULL = [Configuration(*values) for values in itertools.product(*_AXES)]

#: Every row of the table is tried here each time.
MEASURED = Configuration("newest", "prefork", "redis", "no-results")
#: The base rows are tried on the first of these, in a full run on all. With MEASURED, each value of each axis is in
#: one of these.
OTHERS = [
    Configuration("5.4", "solo", "redis", "no-results"),
    Configuration("newest", "threads", "redis", "results"),
    Configuration("5.4", "gevent", "rabbitmq", "results"),
]

#: ``make matrix`` asks for every row everywhere.
IS_FULL = os.environ.get("LIFECYCLE_MATRIX") == "full"
