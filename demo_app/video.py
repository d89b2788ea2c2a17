"""
ffmpeg: inspect a file, encode it for the web, take a picture.

The program is the system's ffmpeg, else that of the ``imageio-ffmpeg`` wheel. The wheel has no ffprobe, so the
properties of a file are read from ffmpeg's own report.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

#: Containers that are accepted. Playlists (HLS, concat) are not: they make ffmpeg open other files and hosts.
_CONTAINERS = "mov,matroska,webm,avi,flv,mpeg,mpegts,mpegvideo,asf,ogg,gif,mxf,dv,rm,ivf,nut"
#: Seconds between two reports of ffmpeg, as often as a bar is updated.
_REPORT_INTERVAL = "0.1"
#: Pixels of the longer side of films and posters.
_FILM_SIZE = 1280
_POSTER_SIZE = 640
#: Seconds for a step of ffmpeg that takes milliseconds.
_SHORT_TIMEOUT = 60

#: Kills the process $0 when the pipe closes without a line: our process was killed, and ffmpeg would run on.
_GUARD = 'read -r line || kill -s KILL "$0"'

_INPUT = re.compile(r"^Input #0, ", re.MULTILINE)
_DURATION = re.compile(r"^  Duration: (\d+):(\d\d):(\d\d(?:\.\d+)?)", re.MULTILINE)
_FORMAT_REFUSED = "Format not on whitelist"
#: A picture track; not the cover of a song, which is one picture.
_VIDEO_STREAM = re.compile(r"^  Stream #0:\d+.*?: Video: (?!.*\(attached pic\)).*", re.MULTILINE)
_SIZE = re.compile(r"[ ,](\d{2,5})x(\d{2,5})[ ,\[]")
_FRAME_RATE = re.compile(r"([\d.]+)(k?) fps")


class VideoError(Exception):
    """ffmpeg failed. ``user_message`` is for the owner of the file, the report for the log."""

    def __init__(self, user_message: str, report: str = "") -> None:
        self.user_message = user_message
        super().__init__(user_message, report)


@dataclass(frozen=True)
class Clip:
    """Properties of a file. ``frames`` is an estimate; ``None`` if unknown, as in recordings of browsers."""

    width: int
    height: int
    duration: float | None
    frames: int | None


def find_ffmpeg() -> str:
    """
    Return the path of ffmpeg.

    Raises:
        RuntimeError: If it is not installed.
    """
    program = shutil.which("ffmpeg")
    if program is None and importlib.util.find_spec("imageio_ffmpeg"):
        program = str(importlib.import_module("imageio_ffmpeg").get_ffmpeg_exe())
    if program is None:
        raise RuntimeError("no ffmpeg found; install it (apt install ffmpeg) or pip install 'jobpush[demo]'")
    return program


def probe(source: Path) -> Clip:
    """
    Return the properties of a video.

    Raises:
        VideoError: If the file is not an accepted video.
    """
    report = _report_on(source)
    stream = _VIDEO_STREAM.search(report)
    if not _INPUT.search(report):
        raise VideoError(_why_unreadable(report), report)
    if stream is None:
        raise VideoError("There is no picture in this file, only sound or text.", report)
    size = _SIZE.search(stream[0])
    if size is None:
        raise VideoError("The picture in this file cannot be read. The file may be damaged.", report)
    duration = _duration_in(report)
    rate = _frame_rate_in(stream[0])
    frames = round(duration * rate) if duration and rate else None
    return Clip(width=int(size[1]), height=int(size[2]), duration=duration, frames=frames)


def encode(source: Path, target: Path, on_log: Callable[[str], None] = lambda line: None) -> Generator[int, None, None]:
    """
    Encode a video to H.264 and AAC in MP4, playable while it loads.

    Args:
        source: The uploaded file.
        target: The film.
        on_log: Called with each line of ffmpeg's log.

    Yields:
        The number of frames written so far, about ten times a second. To stop early, close the generator
        (``contextlib.closing``): that stops ffmpeg. The caller removes the incomplete target.

    Raises:
        VideoError: If ffmpeg fails, or finds no frame.
    """
    command = [
        *_ffmpeg(source, loglevel="info"),
        *("-map", "0:v:0", "-map", "0:a:0?", "-map_metadata", "-1"),  # no subtitles, no location
        *("-vf", f"{_fit(_FILM_SIZE)},format=yuv420p"),
        *("-c:v", "libx264", "-preset", "veryfast", "-crf", "23"),
        *("-c:a", "aac", "-b:a", "128k", "-ac", "2"),
        *("-movflags", "+faststart", "-f", "mp4"),
        *("-progress", "pipe:1", "-stats_period", _REPORT_INTERVAL, "-nostats"),
        str(target),
    ]
    frame = 0
    with _running(command) as (report, log), closing(_new_lines(log, hidden=(source.parent, target.parent))) as lines:
        for line in report:
            for text in next(lines):
                on_log(text)
            key, _, value = line.partition("=")
            if key == "frame":
                frame = int(value)
                yield frame
        for text in next(lines):
            on_log(text)
    if frame == 0:
        raise VideoError("There is no readable picture in this video. The file may be damaged.")


def take_poster(film: Path, target: Path, *, at: float) -> None:
    """
    Save the picture at ``at`` seconds as a JPEG, else the first one: the sound may be longer than the picture.

    Raises:
        VideoError: If ffmpeg fails.
    """
    try:
        _take_picture(film, target, at)
    except VideoError:
        _take_picture(film, target, 0)


def _take_picture(film: Path, target: Path, at: float) -> None:
    command = [*_ffmpeg(film, "-ss", f"{at:.3f}"), "-frames:v", "1", "-vf", _fit(_POSTER_SIZE)]
    with _running([*command, "-q:v", "4", "-f", "mjpeg", str(target)]):
        pass  # there is no output to read
    if not target.exists() or not target.stat().st_size:  # some versions report no error
        raise VideoError(f"There is no picture at {at:.3f} seconds.")


def cut(film: Path, target: Path, *, at: float, seconds: float) -> None:
    """
    Cut a silent clip out of a film. All clips have the same size and frame rate, so that :func:`join` can copy them.

    Raises:
        VideoError: If ffmpeg fails.
    """
    frame = "scale=640:360:force_original_aspect_ratio=decrease,pad=640:360:-1:-1,fps=25,format=yuv420p"
    codec = ["-an", "-vf", frame, "-c:v", "libx264", "-preset", "veryfast", "-f", "mp4"]
    with _running([*_ffmpeg(film, "-ss", f"{at:.3f}", "-t", f"{seconds:.3f}"), *codec, str(target)]):
        pass  # there is no output to read


def join(clips: Sequence[Path], target: Path) -> None:
    """
    Join clips of :func:`cut`.

    Raises:
        VideoError: If ffmpeg fails.
    """
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as playlist:
        playlist.writelines(f"file '{clip}'\n" for clip in clips)
        playlist.flush()
        quiet = [find_ffmpeg(), "-nostdin", "-loglevel", "error", "-y", "-f", "concat", "-safe", "0"]
        with _running([*quiet, "-i", playlist.name, "-c", "copy", "-movflags", "+faststart", "-f", "mp4", str(target)]):
            pass


def _ffmpeg(source: Path, *options: str, loglevel: str = "error") -> list[str]:
    """Return the start of a command, which overwrites files, ignores the terminal, and reads only ``source``."""
    quiet = [find_ffmpeg(), "-hide_banner", "-nostdin", "-loglevel", loglevel, "-y"]
    return [*quiet, "-format_whitelist", _CONTAINERS, *options, "-i", f"file:{source}"]


def _fit(size: int) -> str:
    """Return a filter that shrinks to a square of ``size`` pixels, with even sides as yuv420p requires."""
    fit = "force_original_aspect_ratio=decrease:force_divisible_by=2"
    return f"scale=w='min({size},iw)':h='min({size},ih)':{fit}"


@contextmanager
def _running(command: Sequence[str]) -> Iterator[tuple[IO[str], Path]]:
    """
    Run ffmpeg during a block, which gets its output and the path of its log. The end of the block, and of this
    process, stops it.

    Raises:
        VideoError: If ffmpeg fails.
    """
    # The log is a file: a pipe that is not read fills up and blocks the writer.
    with tempfile.NamedTemporaryFile("w+", errors="replace") as log:
        process = subprocess.Popen(  # noqa: S603 - a list of ours, no shell, and names of ours in it
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True
        )
        try:
            assert process.stdout is not None  # noqa: S101 - asked for above
            with _guarded(process.pid):
                yield process.stdout, Path(log.name)
                status = process.wait()
        finally:
            process.kill()  # does nothing if it has ended
            process.communicate()
        if status != 0:
            log.seek(0)
            raise VideoError("This video cannot be converted. The file may be damaged.", log.read()[-2000:])


def _new_lines(log: Path, *, hidden: Sequence[Path]) -> Generator[list[str], None, None]:
    """Yield the complete lines that were added since the last time, without the names of our folders."""
    rest = ""
    with log.open(errors="replace") as stream:
        while True:
            *lines, rest = (rest + stream.read()).split("\n")
            for folder in hidden:
                lines = [line.replace(f"{folder}/", "") for line in lines]
            yield [line.rstrip() for line in lines if line.strip()]


@contextmanager
def _guarded(pid: int) -> Iterator[None]:
    """Kill a process if ours is killed during the block."""
    command = ["/bin/sh", "-c", _GUARD, str(pid)]
    guard = subprocess.Popen(command, stdin=subprocess.PIPE)  # noqa: S603 - a script and a number of ours
    try:
        yield
    finally:
        guard.communicate(b"\n")


def _report_on(source: Path) -> str:
    """Return ffmpeg's report on a file. It ends with an error, since no output is given."""
    command = _ffmpeg(source, loglevel="info")
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
    if match is None or match[2]:  # "1k fps" is the clock of a recording without a steady rate
        return None
    return float(match[1])
