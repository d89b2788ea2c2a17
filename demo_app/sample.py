"""A sample clip: a moving test picture and a tone, made by ffmpeg on demand."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

from .video import find_ffmpeg

#: Seconds. Long enough to watch the encoding, small enough to upload quickly.
DURATION = 20


def sample_clip(folder: Path) -> Path:
    """Return the clip. It is made on first use and kept in ``folder``."""
    clip = folder / "sample.mp4"
    if not clip.exists():
        folder.mkdir(parents=True, exist_ok=True)
        _make(clip)
    return clip


def _make(clip: Path) -> None:
    handle, draft = tempfile.mkstemp(dir=clip.parent, prefix="sample-", suffix=".mp4")
    os.close(handle)
    sources = [
        *("-f", "lavfi", "-i", f"testsrc2=size=1280x720:rate=30:duration={DURATION}"),
        *("-f", "lavfi", "-i", f"sine=frequency=440:duration={DURATION},volume=0.2"),
    ]
    codecs = ["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-c:a", "aac"]
    try:
        subprocess.run(  # noqa: S603 - a list, and no shell
            [find_ffmpeg(), "-nostdin", "-loglevel", "error", "-y", *sources, *codecs, draft], check=True
        )
        os.replace(draft, clip)  # atomic, for concurrent requests
    except BaseException:
        os.unlink(draft)
        raise
