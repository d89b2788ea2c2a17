"""
Storage of videos: a folder per user, with a folder per video.

The name of a user's folder is a digest, that of a video's folder is its id. The name of the uploaded file is stored in
a JSON file and is never part of a path.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import re
import shutil
import time
import unicodedata
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

#: Characters of a file name that are kept.
MAX_NAME_LENGTH = 120
#: Bytes that are read at a time from an upload.
_CHUNK_SIZE = 256 * 1024


class VideoIdTaken(Exception):
    """A video or task with this id exists or has existed."""


class TooManyVideos(Exception):
    """The user has reached the limit of videos."""


class UploadBusy(Exception):
    """Another request is still writing this upload."""


class WrongOffset(Exception):
    """A part of an upload does not start where the previous part ended."""

    def __init__(self, offset: int) -> None:
        self.offset = offset
        super().__init__(f"the upload continues at {offset}")


def is_video_id(text: str) -> bool:
    """Return whether a text is a random UUID in its usual form. Browsers may choose only such ids."""
    try:
        parsed = uuid.UUID(text)
    except ValueError:
        return False
    return parsed.version == 4 and str(parsed) == text


def display_name(raw: str) -> str:
    """
    Return a file name for display: one line without folders, control characters or changes of direction.

    Markup stays: whatever displays a name must display it as text.
    """
    last = re.split(r"[/\\]", unicodedata.normalize("NFC", raw))[-1]
    printable = "".join(char if char.isprintable() else " " for char in last)
    return " ".join(printable.split()).lstrip(".")[:MAX_NAME_LENGTH].strip() or "video"


def mp4_name(name: str) -> str:
    """Return the file name of the finished video."""
    return f"{Path(name).stem}.mp4"


@dataclass(frozen=True)
class Video:
    """One video of one user: first an upload, in the end a film with a poster and details."""

    video_id: str
    folder: Path

    @property
    def upload(self) -> Path:
        """The uploaded file, or the part of it that has arrived."""
        return self.folder / "upload"

    @property
    def film(self) -> Path:
        """The encoded video."""
        return self.folder / "film.mp4"

    @property
    def poster(self) -> Path:
        """A still picture of the video."""
        return self.folder / "poster.jpg"

    @property
    def is_finished(self) -> bool:
        """Whether the video can be watched."""
        return self._details.is_file()

    @property
    def touched_at(self) -> float:
        """Unix seconds of the last write to one of its files."""
        return max(path.stat().st_mtime for path in (self.folder, *self.folder.iterdir()))

    @property
    def size(self) -> int:
        """Bytes of the upload that have arrived."""
        try:
            return self.upload.stat().st_size
        except FileNotFoundError:
            return 0

    @property
    def is_queued(self) -> bool:
        """Whether the upload is complete and its task is published."""
        return self._queued.exists()

    def append(self, body: IO[bytes], *, offset: int, length: int) -> int:
        """
        Write a part of the upload. What arrives before an interruption stays, and the next part continues there.

        Args:
            body: The part.
            offset: Position of its first byte.
            length: Bytes of the whole upload; no more than that is written.

        Returns:
            Bytes of the upload that have arrived.

        Raises:
            UploadBusy: If another request is writing.
            WrongOffset: If ``offset`` is not the number of bytes that have arrived.
            OSError: If the disk is full.
        """
        with self.upload.open("ab", buffering=0) as upload:
            try:
                fcntl.flock(upload, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as exc:
                raise UploadBusy from exc
            if offset != self.size:
                raise WrongOffset(self.size)
            while (left := length - offset) and (chunk := body.read(min(left, _CHUNK_SIZE))):
                upload.write(chunk)
                offset += len(chunk)
        return offset

    def mark_queued(self) -> None:
        """Record that the task is published."""
        with suppress(FileNotFoundError):  # the task has already failed, and removed the video
            self._queued.touch()

    def finish(self, details: dict[str, Any]) -> None:
        """Make the video watchable: remove the upload and store the details. All other files must exist."""
        self.upload.unlink(missing_ok=True)  # a trailer has none
        draft = self._details.with_suffix(".draft")
        draft.write_text(json.dumps({**details, "finished_at": time.time()}))
        draft.rename(self._details)  # atomic, for concurrent readers

    def details(self) -> dict[str, Any] | None:
        """The details given to :meth:`finish`, with id and time; ``None`` before that, and after removal."""
        try:
            return {"id": self.video_id, **json.loads(self._details.read_text())}
        except FileNotFoundError:
            return None

    def remove(self) -> None:
        """Remove all files. A second call does nothing."""
        shutil.rmtree(self.folder, ignore_errors=True)

    @contextmanager
    def removed_unless_finished(self) -> Iterator[None]:
        """Remove all files if the block ends before :meth:`finish`."""
        try:
            yield
        finally:
            if not self.is_finished:
                self.remove()

    @property
    def _queued(self) -> Path:
        return self.folder / "queued"

    @property
    def _details(self) -> Path:
        return self.folder / "details.json"


class Library:
    """The videos of all users, in one folder."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def reserve(self, user_id: str, video_id: str, *, limit: int) -> Video:
        """
        Create the folder of a new video.

        Args:
            user_id: Owner of the video.
            video_id: A valid id, see :func:`is_video_id`. Nobody can use an id twice.
            limit: Videos that the user may have, including this one.

        Raises:
            VideoIdTaken: If the id was used before.
            TooManyVideos: If the user already has ``limit`` videos.
        """
        self._take_id(video_id)
        video = self._video(user_id, video_id)
        video.folder.mkdir(parents=True)
        # Counted with this one: two concurrent requests may both be refused, but never both accepted beyond the limit.
        if len(self._all(user_id)) > limit:
            video.remove()
            raise TooManyVideos(f"the limit is {limit}")
        return video

    def find(self, user_id: str, video_id: str) -> Video | None:
        """Return the user's video with this id, finished or not; ``None`` if the user has no such video."""
        if not is_video_id(video_id):
            return None
        video = self._video(user_id, video_id)
        return video if video.folder.is_dir() else None

    def finished(self, user_id: str) -> list[dict[str, Any]]:
        """Return the details of the user's finished videos, newest first."""
        details = [details for video in self._all(user_id) if (details := video.details())]
        return sorted(details, key=lambda item: item["finished_at"], reverse=True)

    def unfinished(self, user_id: str) -> list[Video]:
        """Return the user's videos that are not finished."""
        return [video for video in self._all(user_id) if not video.is_finished]

    def _all(self, user_id: str) -> list[Video]:
        folder = self._folder(user_id)
        if not folder.is_dir():
            return []
        return [Video(path.name, path) for path in folder.iterdir()]

    def _video(self, user_id: str, video_id: str) -> Video:
        return Video(video_id, self._folder(user_id) / video_id)

    def _folder(self, user_id: str) -> Path:
        return self._root / "users" / hashlib.sha256(user_id.encode()).hexdigest()[:32]

    def _take_id(self, video_id: str) -> None:
        # The id is the task's id too, and a task belongs to one user for ever: no other user may use the id.
        taken = self._root / "ids"
        taken.mkdir(parents=True, exist_ok=True)
        try:
            (taken / video_id).touch(exist_ok=False)
        except FileExistsError as exc:
            raise VideoIdTaken(video_id) from exc
