"""What can be set about the demo, from the environment; the site and the worker read the same."""

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
    #: Videos that a user may have, those under way included.
    max_videos: int = 20

    @classmethod
    def from_environment(cls) -> Settings:
        """
        Read the settings.

        Raises:
            RuntimeError: If the folder is not set, for the site and the worker must agree on it.
        """
        folder = _variable("DIR", "")
        if not folder:
            raise RuntimeError("JOBPUSH_DEMO_DIR is not set; name the folder where videos are to be kept")
        return cls(
            dir=Path(folder),
            secret=_variable("SECRET", cls.secret),
            max_bytes=int(_variable("MAX_BYTES", cls.max_bytes)),
            max_videos=int(_variable("MAX_VIDEOS", cls.max_videos)),
        )


def _variable(name: str, default: object) -> str:
    return os.environ.get(f"JOBPUSH_DEMO_{name}") or str(default)
