"""The settings of the demo, from the environment; the site and the worker read the same."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Settings:
    """The settings of the uploader; ``JOBPUSH_DEMO_`` and the upper-case name is the variable."""

    #: Folder for uploads and videos, shared by the site and the worker.
    dir: Path
    #: Signs the session cookie of the site.
    secret: str = ""
    #: Bytes of one upload.
    max_bytes: int = 500 * 1024 * 1024
    #: Videos per user, including unfinished ones.
    max_videos: int = 200
    #: Host names of the site; the variable adds others, comma-separated, or ``*`` for any. Protects a local demo
    #: against DNS rebinding.
    hosts: tuple[str, ...] = ("127.0.0.1", "localhost")

    @classmethod
    def from_environment(cls) -> Settings:
        """
        Read the settings.

        Raises:
            RuntimeError: If the folder is not set; the site and the worker must agree on it.
        """
        folder = _variable("DIR", "")
        if not folder:
            raise RuntimeError("JOBPUSH_DEMO_DIR is not set; set it to the folder for the videos")
        return cls(
            dir=Path(folder),
            secret=_variable("SECRET", cls.secret),
            max_bytes=int(_variable("MAX_BYTES", cls.max_bytes)),
            max_videos=int(_variable("MAX_VIDEOS", cls.max_videos)),
            hosts=(*cls.hosts, *filter(None, map(str.strip, _variable("HOSTS", "").split(",")))),
        )


def _variable(name: str, default: object) -> str:
    return os.environ.get(f"JOBPUSH_DEMO_{name}") or str(default)
