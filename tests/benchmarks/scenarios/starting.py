"""Startup times of a worker and of the gateway."""

from __future__ import annotations

import http.client
import statistics
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from jobpush.processes.ports import free_port

from ..errors import BenchmarkError
from ..processes import START_TIMEOUT, Cores, Server, alone, running_redis
from .base import Metric, Pace, Sample, Scenario, Subject

#: Starts in one measurement, of which the median counts.
STARTS = 5


def measure(pace: Pace) -> Sample:
    """Measure the import in fresh interpreters, and the command in fresh processes."""
    imports = [alone("tests.benchmarks.importing:measure")["import"] for _ in range(STARTS)]
    with running_redis(Cores.split().load) as redis, tempfile.TemporaryDirectory() as folder:
        accepts = [_seconds_to_accept(redis.url, Path(folder) / "gateway.log") for _ in range(STARTS)]
    return {"import": statistics.median(imports), "accept": statistics.median(accepts) * 1e3}


def _seconds_to_accept(redis_url: str, log: Path) -> float:
    port = free_port()
    command = [str(Path(sys.executable).with_name("jobpush")), "gateway", "--bind", f"127.0.0.1:{port}"]
    environment = {"JOBPUSH_REDIS_URL": redis_url, "JOBPUSH_KEY": "bench", "JOBPUSH_SECRET": "secret of the benchmark"}
    started = time.monotonic()
    with Server(command, port=port, cores=Cores.split().server, log=log, environment=environment) as server:
        while time.monotonic() - started < START_TIMEOUT:
            server.ensure_running()
            # A connection alone proves nothing: the parent tests the port, and listens before a worker accepts.
            with suppress(OSError, http.client.HTTPException):
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=START_TIMEOUT)
                connection.request("GET", "/jobpush/health/live")
                connection.getresponse().read()
                return time.monotonic() - started
            time.sleep(0.002)
    raise BenchmarkError(f"the gateway did not answer within {START_TIMEOUT:.0f} s")


STARTING = Scenario(
    "start",
    "Starting",
    "`import jobpush`, `JobPush(app)` and one `track()` in an interpreter that has imported Celery and its Redis "
    "transport. `jobpush gateway` from its start until it has accepted a connection and answered on it.",
    {"import": Metric("import in a worker", "ms", 1), "accept": Metric("gateway to first accept", "ms")},
    [Subject("ours", "jobpush", measure)],
    is_quick=True,
)
