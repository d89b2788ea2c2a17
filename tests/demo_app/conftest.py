"""Fixtures: clips made by ffmpeg, and the demo's tasks with a real Redis and a real worker."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

from demo_app.files import Video
from demo_app.video import find_ffmpeg
from jobpush.config import Config
from jobpush.events import TaskEvent
from jobpush.processes.child import ChildProcess
from jobpush.processes.embedded import EmbeddedRedis
from jobpush.store.user_events import listen


def run_ffmpeg(*arguments: str | Path) -> None:
    subprocess.run([find_ffmpeg(), "-nostdin", "-loglevel", "error", "-y", *map(str, arguments)], check=True)


def picture(size: str, seconds: float) -> Sequence[str]:
    return "-f", "lavfi", "-i", f"testsrc2=size={size}:rate=25:duration={seconds}"


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of files to upload: videos and other files."""
    folder = tmp_path_factory.mktemp("clips")
    sound = ("-f", "lavfi", "-i", "sine=duration=2")
    odd = ("-vf", "scale=321:241", "-pix_fmt", "yuv444p")
    run_ffmpeg(*picture("320x240", 2), *sound, "-shortest", *odd, folder / "odd.mkv")
    run_ffmpeg(*picture("1920x1080", 1), "-preset", "ultrafast", "-pix_fmt", "yuv420p", folder / "wide.mp4")
    run_ffmpeg(*picture("320x240", 2), "-pix_fmt", "yuv420p", folder / "silent.mp4")
    run_ffmpeg("-stream_loop", "59", "-i", folder / "wide.mp4", "-c", "copy", folder / "long.mp4")
    run_ffmpeg(*sound, "-f", "matroska", folder / "sound.mkv")
    run_ffmpeg(*picture("320x240", 0.2), *sound, "-pix_fmt", "yuv420p", folder / "early.mp4")
    run_ffmpeg(*picture("320x240", 1), "-frames:v", "1", folder / "picture.png")
    with (folder / "endless.webm").open("wb") as stream:  # ffmpeg cannot seek in a pipe, so the file has no duration
        command = [find_ffmpeg(), "-loglevel", "error", *picture("320x240", 1), "-c:v", "libvpx", "-f", "webm", "-"]
        subprocess.run(command, stdout=stream, check=True)
    whole = (folder / "silent.mp4").read_bytes()
    (folder / "truncated.mp4").write_bytes(whole[: len(whole) // 2])
    (folder / "noise.mp4").write_bytes(bytes(range(256)) * 400)
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "playlist.mp4").write_text("#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nsilent.mp4\n")
    (folder / "concat.mp4").write_text("ffconcat version 1.0\nfile silent.mp4\n")
    return folder


@dataclass
class Demo:
    """The site and the tasks of the demo, and their environment."""

    environment: dict[str, str]
    site: ModuleType
    tasks: ModuleType
    folder: Path

    @property
    def config(self) -> Config:
        return Config(redis_url=self.environment["JOBPUSH_REDIS_URL"])

    def upload(self, source: Path, user_id: str, video_id: str | None = None) -> Video:
        """Store an upload and start its task, as the site does."""
        video: Video = self.tasks.videos.reserve(user_id, video_id or str(uuid.uuid4()), limit=99)
        video.upload.write_bytes(source.read_bytes())
        self.tasks.encode.apply_async((user_id, video.video_id, source.name), task_id=video.video_id)
        return video

    def events(self, user_id: str) -> Iterator[TaskEvent]:
        """Yield the task events of a user, from the snapshots to the first final one."""
        with closing(listen(self.config, user_id)) as received:
            for event in received:
                if event.task is not None:
                    yield event.task
                    if event.task.state.is_final:
                        return


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """The demo with a Redis and without a worker; each test uses its own user."""
    folder = tmp_path_factory.mktemp("demo")
    with EmbeddedRedis() as redis_server, pytest.MonkeyPatch.context() as patch:
        settings = {
            "JOBPUSH_REDIS_URL": redis_server.url,
            "JOBPUSH_KEY": "key",
            "JOBPUSH_SECRET": "secret of the tests",
            "JOBPUSH_DEMO_DIR": str(folder),
            "JOBPUSH_DEMO_SECRET": "session secret",
        }
        for name, value in settings.items():
            patch.setenv(name, value)
        from demo_app import app, tasks  # imported here because they read the environment

        yield Demo({**os.environ, **settings}, app, tasks, folder)
        tasks.celery_app.close()


@pytest.fixture(scope="session")
def demo_with_worker(demo: Demo, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """The demo with a Redis and a worker."""
    log = tmp_path_factory.mktemp("worker") / "worker.log"
    options = ["--concurrency", "1", "--hostname", "tests@localhost", "--without-mingle", "--without-gossip"]
    command = [sys.executable, "-m", "celery", "-A", "demo_app.tasks", "worker", *options]
    worker = ChildProcess(command, log=log, environment=demo.environment)
    try:
        yield demo
    finally:
        worker.stop(signal.SIGTERM, grace=10)
