"""A whole job with and without jobpush, in pairs of runs."""

from __future__ import annotations

import gc
import resource
import statistics
import subprocess
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

from jobpush import progress

from ..processes import Cores, alone, running_redis
from .base import Metric, Pace, Sample, Scenario, Subject
from .worker_costs import tracked

#: Pairs of runs, and of the short runs of a task that does nothing. The order alternates from pair to pair.
PAIRS, PAIRS_OF_NOTHING = 7, 70
#: Frames of the loop, and bytes of a frame. zlib takes 0.1 to 0.2 ms per frame, so the job takes about a second.
FRAMES = 8_000
FRAME_SIZE = 50_000
#: Seconds of the film; ffmpeg encodes it in one or two seconds.
DURATION = 20


def pairs_alone(which: str, pairs: int, redis_url: str) -> Sample:
    """Return how much longer the job takes with jobpush: the median of the pairs, and the quartiles in percent."""
    with tempfile.TemporaryDirectory() as folder:
        job = {"film": _film, "loop": lambda _: _loop, "nothing": lambda _: _nothing}[which](Path(folder))
        seconds, extra, walls, cpus = zip(*_differences(job, tracked(redis_url), pairs), strict=True)
    times = {"seconds": statistics.median(seconds), "more": statistics.median(extra) * 1e3}
    if which == "nothing":
        return times
    quartiles = statistics.quantiles(walls, n=4)
    return {
        **times,
        "wall": statistics.median(walls),
        "wall_low": quartiles[0],
        "wall_high": quartiles[2],
        "cpu": statistics.median(cpus),
    }


def _differences(job: Callable[[bool], None], tasks: tracked, pairs: int) -> Iterator[tuple[float, ...]]:
    """Yield for each pair: seconds of the bare run, extra seconds of the tracked run, extra time and CPU in percent."""
    for number in range(pairs + 1):
        costs: dict[bool, tuple[float, float]] = {}
        for is_tracked in (True, False) if number % 2 else (False, True):
            gc.collect()  # garbage of earlier runs is not part of the measurement
            started, cpu = time.perf_counter(), _cpu()
            user = (tasks.run_tracked if is_tracked else tasks.run_bare)(partial(job, is_tracked))
            seconds = time.perf_counter() - started
            if user is not None:
                tasks.events_of(user)  # the last events cost CPU, though no task waits for them
            costs[is_tracked] = (seconds, _cpu() - cpu)
        if number:  # the first pair warms up
            yield (
                costs[False][0],
                costs[True][0] - costs[False][0],
                (costs[True][0] / costs[False][0] - 1) * 100,
                (costs[True][1] / costs[False][1] - 1) * 100,
            )


def _nothing(is_tracked: bool) -> None:
    """Do nothing, so that only the start and the end of the task remain."""


def _loop(is_tracked: bool) -> None:
    """Compress 8,000 frames."""
    data = bytes(range(250)) * (FRAME_SIZE // 250)
    frames = range(FRAMES)
    for _ in progress.iter(frames, total=FRAMES, message="encoding") if is_tracked else frames:
        zlib.compress(data, 9)


def _film(folder: Path) -> Callable[[bool], None]:
    """Return the encode job of the demo, for a film that ffmpeg generates."""
    from demo_app import video

    source, target = folder / "source.mp4", folder / "film.mp4"
    picture = f"testsrc2=duration={DURATION}:size=640x360:rate=30"
    command = [video.find_ffmpeg(), "-loglevel", "error", "-y", "-f", "lavfi", "-i", picture]
    subprocess.run([*command, "-c:v", "libx264", "-preset", "ultrafast", str(source)], check=True)

    def encode(is_tracked: bool) -> None:
        with closing(video.encode(source, target)) as frames:
            for frame in frames:
                if is_tracked:
                    progress.update(frame, total=DURATION * 30, message="encoding")

    return encode


def _cpu() -> float:
    """Return the CPU seconds of this process and its finished children."""
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def _measure(which: str, pace: Pace) -> Sample:
    pairs = 3 if pace.is_quick else PAIRS_OF_NOTHING if which == "nothing" else PAIRS
    with running_redis(Cores.split().load) as redis:
        return alone(f"{__name__}:pairs_alone", which, pairs, redis.url)


ENCODING = Scenario(
    "job",
    "A whole job, with and without jobpush",
    "The same eager Celery task in pairs of runs, one tracked and one bare, with ffmpeg on the core of the "
    "worker. The time until the result exists: the median of the pairs and their middle half. The CPU of worker "
    "and ffmpeg, until the end of the task is stored in Redis. A task that does nothing shows the cost of start "
    "and end, which does not grow with the job.",
    {
        "seconds": Metric("bare", "s", 3),
        "more": Metric("longer by", "ms", 1),
        "wall": Metric("that is", "%", 2),
        "wall_low": Metric("from", "%", 2),
        "wall_high": Metric("to", "%", 2),
        "cpu": Metric("more CPU", "%", 2),
    },
    [
        Subject("ours-film", "the demo's film, encoded by ffmpeg", partial(_measure, "film")),
        Subject("ours-loop", "a loop over 8,000 frames", partial(_measure, "loop")),
        Subject("ours-nothing", "a task that does nothing", partial(_measure, "nothing")),
    ],
    is_once=True,
)
