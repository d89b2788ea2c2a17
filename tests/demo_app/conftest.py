"""Clips for the tests of the demo, made by the real ffmpeg."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from demo_app.video import find_ffmpeg


def run_ffmpeg(*arguments: str | Path) -> None:
    subprocess.run([find_ffmpeg(), "-nostdin", "-loglevel", "error", "-y", *map(str, arguments)], check=True)


def picture(size: str, seconds: float) -> Sequence[str]:
    return "-f", "lavfi", "-i", f"testsrc2=size={size}:rate=25:duration={seconds}"


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of files to upload, videos and others."""
    folder = tmp_path_factory.mktemp("clips")
    sound = ("-f", "lavfi", "-i", "sine=duration=2")
    odd = ("-vf", "scale=321:241", "-pix_fmt", "yuv444p")
    run_ffmpeg(*picture("320x240", 2), *sound, "-shortest", *odd, folder / "odd.mkv")
    run_ffmpeg(*picture("1920x1080", 1), "-preset", "ultrafast", "-pix_fmt", "yuv420p", folder / "wide.mp4")
    run_ffmpeg(*picture("320x240", 2), "-pix_fmt", "yuv420p", folder / "silent.mp4")
    run_ffmpeg(*picture("1920x1080", 60), "-preset", "ultrafast", "-pix_fmt", "yuv420p", folder / "long.mp4")
    run_ffmpeg(*sound, "-f", "matroska", folder / "sound.mkv")
    run_ffmpeg(*picture("320x240", 1), "-frames:v", "1", folder / "picture.png")
    with (folder / "endless.webm").open("wb") as stream:  # to a pipe: nobody can go back and write the duration
        command = [find_ffmpeg(), "-loglevel", "error", *picture("320x240", 1), "-c:v", "libvpx", "-f", "webm", "-"]
        subprocess.run(command, stdout=stream, check=True)
    whole = (folder / "silent.mp4").read_bytes()
    (folder / "truncated.mp4").write_bytes(whole[: len(whole) // 2])
    (folder / "noise.mp4").write_bytes(bytes(range(256)) * 400)
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "playlist.mp4").write_text("#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nsilent.mp4\n")
    (folder / "concat.mp4").write_text("ffconcat version 1.0\nfile silent.mp4\n")
    return folder
