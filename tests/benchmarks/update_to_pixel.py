"""Latency from ``progress.update`` in a worker to the pixels of a page."""

from __future__ import annotations

import json
import os
import signal
import statistics
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from jobpush.processes.child import ChildProcess
from jobpush.processes.embedded import EmbeddedRedis
from jobpush.processes.ports import free_port
from tests.browsers import chromium

#: Records for each frame the visible message, if it changed, and the Unix time.
RECORD = """() => {
  window.seen = [];
  const record = () => {
    const message = document.querySelector('jobpush-tasks').shadowRoot.querySelector('[part=message]')?.textContent;
    if (message && window.seen.at(-1)?.[1] !== message) {
      window.seen.push([(performance.timeOrigin + performance.now()) / 1000, message]);
    }
    requestAnimationFrame(record);
  };
  requestAnimationFrame(record);
}"""
#: Opens a connection as the widget does; returns the milliseconds of the handshake, and from there to the snapshot.
OPEN = """async () => {
  const { key, root } = document.querySelector('meta[name=jobpush]').dataset;
  const address = `ws://${location.host}${root}/app/${key}?protocol=7&client=jobpush`;
  const started = performance.now();
  const socket = new WebSocket(address);
  const opened = new Promise((resolve) => socket.onopen = () => resolve(performance.now()));
  const received = new Promise((resolve) => socket.onmessage = ({ data }) =>
    JSON.parse(data).event === 'jobpush:task' && resolve(performance.now()));
  const times = [await opened - started, await received - await opened];
  socket.close();
  return times;
}"""
OPENINGS = 30


def measure(updates: int) -> dict[str, float]:
    """Return the milliseconds until an update or a newer one is visible, and until a new connection has a snapshot."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(EmbeddedRedis(port=free_port()))
        url = stack.enter_context(running_application(server.url))
        page = stack.enter_context(chromium()).new_page()
        page.goto(url)
        page.evaluate(RECORD)

        times = folder / "times.json"
        os.environ["BENCH_BROKER_URL"] = os.environ["JOBPUSH_REDIS_URL"] = server.url
        from .servers.pixel_app import USER, count

        count.delay(USER, updates, str(times))
        page.locator("[part~=task][data-state=SUCCESS]").wait_for(timeout=120_000)
        openings = [page.evaluate(OPEN) for _ in range(OPENINGS)]
        seen = [(at, int(number)) for at, number in page.evaluate("window.seen")]
        delays = [delay * 1000 for delay in delays_of(json.loads(times.read_text()), seen)]
    handshakes, snapshots = zip(*openings, strict=True)
    return {
        "handshake": statistics.median(handshakes),
        "snapshot": statistics.median(snapshots),
        "pixel_p50": statistics.median(delays),
        "pixel_p99": statistics.quantiles(delays, n=100)[98],
    }


def delays_of(updates: list[float], seen: list[tuple[float, int]]) -> Iterator[float]:
    """Yield the seconds from each update to the first frame that shows it or a newer one."""
    frames = iter(seen)
    at, shown = next(frames)
    for number, updated_at in enumerate(updates):
        while shown < number:
            frame = next(frames, None)
            if frame is None:
                return  # no frame followed this update
            at, shown = frame
        yield at - updated_at


@contextmanager
def running_application(redis_url: str) -> Iterator[str]:
    """Run a worker and a gateway, and yield the URL of the page."""
    port = free_port()
    url = f"http://127.0.0.1:{port}/"
    environment = {
        **os.environ,
        "BENCH_BROKER_URL": redis_url,
        "JOBPUSH_REDIS_URL": redis_url,
        "JOBPUSH_KEY": "bench",
        "JOBPUSH_SECRET": "secret of the benchmark",
    }
    celery = [
        "celery",
        "-A",
        "tests.benchmarks.servers.pixel_app",
        "worker",
        "--concurrency",
        "1",
        "--loglevel",
        "WARNING",
    ]
    gunicorn = ["gunicorn", "--worker-class", "gthread", "--threads", "4", "--bind", f"127.0.0.1:{port}"]
    commands = [celery, [*gunicorn, "--log-level", "warning", "tests.benchmarks.servers.pixel_app:create_app()"]]
    processes = [ChildProcess([sys.executable, "-m", *command], environment=environment) for command in commands]
    try:
        _wait_until_ready(f"{url}jobpush/health/ready")
        yield url
    finally:
        for process in processes:
            process.stop(signal.SIGTERM, grace=30)


def _wait_until_ready(url: str) -> None:
    for _ in range(600):
        try:
            urllib.request.urlopen(url)
            return
        except OSError:
            time.sleep(0.1)
    raise TimeoutError(url)
