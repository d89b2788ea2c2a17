"""The encoding task in a real worker: its events, and the files that it leaves."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.waiting import wait_until

from .conftest import Demo


def files_below(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*")}


def test_upload_becomes_a_film_with_one_rising_bar(demo_with_worker: Demo, clips: Path) -> None:
    video = demo_with_worker.upload(clips / "wide.mp4", "Wanda")

    events = list(demo_with_worker.events("Wanda"))

    last = events[-1]
    assert (last.state, last.percent, last.message) == ("SUCCESS", 100.0, "ready to play")
    assert last.title == "wide.mp4"
    percents = [event.percent for event in events if event.percent is not None]
    assert percents == sorted(percents)
    stages = list(dict.fromkeys(event.message for event in events if event.state == "PROGRESS"))
    assert "encoding" in stages
    assert stages == [
        name for name in ("uploaded", "probing", "encoding", "thumbnail", "ready to play") if name in stages
    ]
    assert files_below(video.folder) == {"film.mp4", "poster.jpg", "details.json"}
    details = video.details()
    assert details is not None
    assert (details["name"], details["width"], details["height"]) == ("wide.mp4", 1280, 720)


@pytest.mark.parametrize(
    ("name", "sentence"), [("noise.mp4", "not a video that can be read"), ("sound.mkv", "no picture in this file")]
)
def test_file_without_video_fails_with_a_sentence_and_is_removed(
    demo_with_worker: Demo, clips: Path, name: str, sentence: str
) -> None:
    video = demo_with_worker.upload(clips / name, name)

    *_, last = demo_with_worker.events(name)

    assert last.state == "FAILURE"
    assert sentence in (last.error or "")
    assert str(demo_with_worker.folder) not in (last.error or "")
    assert not video.folder.exists()


def test_cancel_stops_ffmpeg_and_removes_its_output(demo_with_worker: Demo, clips: Path) -> None:
    video = demo_with_worker.upload(clips / "long.mp4", "Carl")
    events = demo_with_worker.events("Carl")
    while next(events).message != "encoding":
        pass
    wait_for_ffmpegs_on(video.folder)

    demo_with_worker.tasks.jobpush.cancel(video.video_id)
    *_, last = events

    assert last.state == "REVOKED"
    assert not ffmpegs_on(video.folder)
    assert not video.folder.exists()


def ffmpegs_on(folder: Path) -> list[int]:
    """Return the ids of running processes whose command line contains the folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if str(folder).encode() in (process / "cmdline").read_bytes():
                found.append(int(process.name))
        except OSError:
            continue  # the process has ended
    return found


def wait_for_ffmpegs_on(folder: Path) -> list[int]:
    """Wait for these processes: the encoding stage is published before ffmpeg has started."""
    wait_until(lambda: ffmpegs_on(folder), "the start of ffmpeg")
    return ffmpegs_on(folder)


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@contextmanager
def end_of(pid: int) -> Iterator[Callable[..., bool]]:
    """Yield a function that waits for the end of any process, child or not; kill the process after the block."""
    descriptor = os.pidfd_open(pid)
    try:
        yield lambda timeout: bool(select.select([descriptor], [], [], timeout)[0])
    finally:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        os.close(descriptor)


def test_killed_process_fails_with_a_sentence_and_ends_ffmpeg(demo_with_worker: Demo, clips: Path) -> None:
    video = demo_with_worker.upload(clips / "long.mp4", "Kim")
    events = demo_with_worker.events("Kim")
    while (event := next(events)).message != "encoding" or not event.current:
        pass  # when the first frame is reported, the guard of ffmpeg is running
    (ffmpeg,) = wait_for_ffmpegs_on(video.folder)

    with end_of(ffmpeg) as has_ended:
        os.kill(ffmpeg, signal.SIGSTOP)  # it cannot end on its own
        os.kill(parent_of(ffmpeg), signal.SIGKILL)
        assert has_ended(timeout=30)

    *_, last = events
    assert last.state == "FAILURE"
    assert last.error == "The server stopped in the middle of this video. Upload the file again."


def test_missing_upload_fails_with_a_sentence(demo_with_worker: Demo, clips: Path) -> None:
    demo_with_worker.tasks.encode.apply_async(("Gus", "7b0ad5a3-5f6c-4f0b-8f5d-6f3d8a3b2c11", "gone.mp4"))

    *_, last = demo_with_worker.events("Gus")

    assert (last.state, last.error) == ("FAILURE", "This upload is gone. Upload the file again.")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://example:6379/1", "redis://example:6379/1"),
        ("rediss://example/1", "rediss://example/1"),
        ("unix:///tmp/redis.sock?db=3", "redis+socket:///tmp/redis.sock?virtual_host=3"),
        ("unix:///tmp/redis.sock", "redis+socket:///tmp/redis.sock"),
    ],
)
def test_broker_is_the_redis_of_jobpush(demo: Demo, url: str, expected: str) -> None:
    assert demo.tasks.broker_url(url) == expected


def test_worker_without_a_folder_names_the_setting() -> None:
    result = subprocess.run([sys.executable, "-c", "import demo_app.tasks"], capture_output=True, text=True)

    assert result.returncode != 0
    assert "JOBPUSH_DEMO_DIR is not set" in result.stderr
