"""
What ffmpeg does for us: look at a file, encode it for the web, take a picture out of it.

The system's ffmpeg is used, else the one that the ``imageio-ffmpeg`` wheel carries. That wheel has no ffprobe, so
what a file is gets read from ffmpeg's own report.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
import shutil
import subprocess
import tempfile
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

#: Containers that we read. Playlists (HLS, concat) are not among them: they make ffmpeg open other files and hosts.
_CONTAINERS = "mov,matroska,webm,avi,flv,mpeg,mpegts,mpegvideo,asf,ogg,gif,mxf,dv,rm,ivf,nut"
#: Seconds between two reports of ffmpeg, as quick as a bar is updated.
_REPORT_INTERVAL = "0.1"
#: Pixels of the longer side of what we make.
_FILM_SIZE = 1280
_POSTER_SIZE = 640
#: Seconds that ffmpeg may take for what takes it milliseconds.
_SHORT_TIMEOUT = 60

#: Kills the process $0 when the pipe to it ends without a line: then we are gone (SIGKILL), and it would run on.
_GUARD = 'read -r line || kill -s KILL "$0"'

_INPUT = re.compile(r"^Input #0, ", re.MULTILINE)
_DURATION = re.compile(r"^  Duration: (\d+):(\d\d):(\d\d(?:\.\d+)?)", re.MULTILINE)
_FORMAT_REFUSED = "Format not on whitelist"
#: A picture track; not the cover of a song, which is one picture.
_VIDEO_STREAM = re.compile(r"^  Stream #0:\d+.*?: Video: (?!.*\(attached pic\)).*", re.MULTILINE)
_SIZE = re.compile(r"[ ,](\d{2,5})x(\d{2,5})[ ,\[]")
_FRAME_RATE = re.compile(r"([\d.]+)(k?) fps")


class VideoError(Exception):
    """ffmpeg can't do what is asked; ``user_message`` is for the person whose file it is, the rest for the log."""

    def __init__(self, user_message: str, report: str = "") -> None:
        self.user_message = user_message
        super().__init__(user_message, report)


@dataclass(frozen=True)
class Clip:
    """What a file holds. ``frames`` is an estimate; ``None`` if the file does not say (recordings of browsers)."""

    width: int
    height: int
    duration: float | None
    frames: int | None


def find_ffmpeg() -> str:
    """
    The ffmpeg to use.

    Raises:
        RuntimeError: If there is none.
    """
    program = shutil.which("ffmpeg")
    if program is None and importlib.util.find_spec("imageio_ffmpeg"):
        program = str(importlib.import_module("imageio_ffmpeg").get_ffmpeg_exe())
    if program is None:
        raise RuntimeError("no ffmpeg found; install it (apt install ffmpeg) or pip install 'jobpush[demo]'")
    return program


def probe(source: Path) -> Clip:
    """
    Find out whether a file is a video, and how long.

    Raises:
        VideoError: If it is none that we read.
    """
    report = _report_on(source)
    stream = _VIDEO_STREAM.search(report)
    if not _INPUT.search(report):
        raise VideoError(_why_unreadable(report), report)
    if stream is None:
        raise VideoError("There is no picture in this file, only sound or text.", report)
    size = _SIZE.search(stream[0])
    if size is None:
        raise VideoError("The picture in this file can't be read. The file may be damaged.", report)
    duration = _duration_in(report)
    rate = _frame_rate_in(stream[0])
    frames = round(duration * rate) if duration and rate else None
    return Clip(width=int(size[1]), height=int(size[2]), duration=duration, frames=frames)


def encode(source: Path, target: Path) -> Generator[int, None, None]:
    """
    Encode a video to H.264 and AAC in MP4, ready to be played while it loads.

    Yields:
        The number of frames written so far, about ten times a second. Who leaves early closes the generator
        (``contextlib.closing``), which stops ffmpeg, and removes the half-written target.

    Raises:
        VideoError: If ffmpeg gives up, or there was not one frame in it.
    """
    command = [
        *_ffmpeg(source),
        *("-map", "0:v:0", "-map", "0:a:0?", "-map_metadata", "-1"),  # no subtitles, no place where it was taken
        *("-vf", f"{_fit(_FILM_SIZE)},format=yuv420p"),
        *("-c:v", "libx264", "-preset", "veryfast", "-crf", "23"),
        *("-c:a", "aac", "-b:a", "128k", "-ac", "2"),
        *("-movflags", "+faststart", "-f", "mp4"),
        *("-progress", "pipe:1", "-stats_period", _REPORT_INTERVAL, "-nostats"),
        str(target),
    ]
    frame = 0
    with _running(command) as report:
        for line in report:
            key, _, value = line.partition("=")
            if key == "frame":
                frame = int(value)
                yield frame
    if frame == 0:
        raise VideoError("There is not one readable picture in this video. The file may be damaged.")


def take_poster(film: Path, target: Path, *, at: float) -> None:
    """
    Save the picture at ``at`` seconds as a JPEG; the first one where there is none, for the sound may be longer.

    Raises:
        VideoError: If ffmpeg gives up.
    """
    try:
        _take_picture(film, target, at)
    except VideoError:
        _take_picture(film, target, 0)


def _take_picture(film: Path, target: Path, at: float) -> None:
    command = [*_ffmpeg(film, "-ss", f"{at:.3f}"), "-frames:v", "1", "-vf", _fit(_POSTER_SIZE)]
    with _running([*command, "-q:v", "4", "-f", "mjpeg", str(target)]):
        pass  # nothing to read: it is done in a moment
    if not target.exists() or not target.stat().st_size:  # some versions say nothing
        raise VideoError(f"There is no picture at {at:.3f} seconds.")


def _ffmpeg(source: Path, *options: str) -> list[str]:
    """The beginning of a command: quiet, overwriting, deaf to the terminal, reading one file and no other."""
    quiet = [find_ffmpeg(), "-hide_banner", "-nostdin", "-loglevel", "error", "-y"]
    return [*quiet, "-format_whitelist", _CONTAINERS, *options, "-i", f"file:{source}"]


def _fit(size: int) -> str:
    """Shrink, never grow, to a square of ``size`` pixels; even sides, as yuv420p wants them."""
    fit = "force_original_aspect_ratio=decrease:force_divisible_by=2"
    return f"scale=w='min({size},iw)':h='min({size},ih)':{fit}"


@contextmanager
def _running(command: Sequence[str]) -> Iterator[IO[str]]:
    """
    Run ffmpeg for the length of a block, which reads its output; leaving the block early stops it, and so does
    the sudden end of our own process.

    Raises:
        VideoError: If it fails of itself.
    """
    # Its complaints go to a file: a pipe that nobody reads fills up and stops the writer.
    with tempfile.TemporaryFile("w+", errors="replace") as complaints:
        process = subprocess.Popen(  # noqa: S603 - a list of ours, no shell, and names of ours in it
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=complaints, text=True
        )
        try:
            assert process.stdout is not None  # noqa: S101 - asked for above
            with _guarded(process.pid):
                yield process.stdout
                status = process.wait()
        finally:
            process.kill()  # does nothing if it has ended
            process.communicate()
        if status != 0:
            complaints.seek(0)
            raise VideoError("This video can't be converted. The file may be damaged.", complaints.read()[-2000:])


@contextmanager
def _guarded(pid: int) -> Iterator[None]:
    """Have a process killed if ours vanishes within the block."""
    command = ["/bin/sh", "-c", _GUARD, str(pid)]
    guard = subprocess.Popen(command, stdin=subprocess.PIPE)  # noqa: S603 - a script and a number of ours
    try:
        yield
    finally:
        guard.communicate(b"\n")


def _report_on(source: Path) -> str:
    """What ffmpeg says of a file. It ends with "At least one output file must be specified", and status 1."""
    command = _ffmpeg(source)
    command[command.index("error")] = "info"
    try:
        done = subprocess.run(  # noqa: S603 - as above
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_SHORT_TIMEOUT, check=False
        )
    except subprocess.TimeoutExpired as exc:
        raise VideoError("This file takes too long to read. It may be damaged.") from exc
    return done.stderr.decode(errors="replace")


def _why_unreadable(report: str) -> str:
    if _FORMAT_REFUSED in report:
        return "This file is not a video. Choose a video, such as an MP4, MOV, MKV, WebM or AVI file."
    return "This file is not a video that can be read. It may be damaged, or not a video at all."


def _duration_in(report: str) -> float | None:
    match = _DURATION.search(report)
    if match is None:
        return None
    hours, minutes, seconds = match.groups()
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)


def _frame_rate_in(stream: str) -> float | None:
    match = _FRAME_RATE.search(stream)
    if match is None or match[2]:  # "1k fps" is the clock of a recording that has no steady rate
        return None
    return float(match[1])
