"""
Where videos are kept: a folder for each user, and in it a folder for each video.

Both are named by us: a user's by a digest, a video's by its id. What a file was called at home is a line in a JSON
file, and never part of a path.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import time
import unicodedata
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: Characters of a file name that we keep.
MAX_NAME_LENGTH = 120


class VideoIdTaken(Exception):
    """A video or task of this id exists, or did."""


class TooManyVideos(Exception):
    """The user has as many videos as one may have."""


def is_video_id(text: str) -> bool:
    """Whether the text is a random UUID in its usual form, which is all that a browser may choose as an id."""
    try:
        parsed = uuid.UUID(text)
    except ValueError:
        return False
    return parsed.version == 4 and str(parsed) == text


def display_name(raw: str) -> str:
    """
    A file name as we show and offer it: one line without folders, control or direction-changing characters.

    Markup is left alone: it is for whoever shows a name to show it as text.
    """
    last = re.split(r"[/\\]", unicodedata.normalize("NFC", raw))[-1]
    printable = "".join(char if char.isprintable() else " " for char in last)
    return " ".join(printable.split()).lstrip(".")[:MAX_NAME_LENGTH].strip() or "video"


def mp4_name(name: str) -> str:
    """What the finished video is called when it is downloaded."""
    return f"{Path(name).stem}.mp4"


@dataclass(frozen=True)
class Video:
    """One video of one user: at first only its upload, in the end a film, its poster and its details."""

    video_id: str
    folder: Path

    @property
    def upload(self) -> Path:
        """What the user sent."""
        return self.folder / "upload"

    @property
    def film(self) -> Path:
        """The encoded video."""
        return self.folder / "film.mp4"

    @property
    def poster(self) -> Path:
        """A picture out of it."""
        return self.folder / "poster.jpg"

    @property
    def is_finished(self) -> bool:
        """Whether it can be watched."""
        return self._details.is_file()

    @property
    def touched_at(self) -> float:
        """When one of its files was last written, in Unix seconds."""
        return max(path.stat().st_mtime for path in (self.folder, *self.folder.iterdir()))

    def finish(self, details: dict[str, Any]) -> None:
        """Let it be watched: drop the upload and write down its details. To be called when all files are there."""
        self.upload.unlink()
        draft = self._details.with_suffix(".draft")
        draft.write_text(json.dumps({**details, "finished_at": time.time()}))
        draft.rename(self._details)  # all of it or nothing, for a reader at this very moment

    def details(self) -> dict[str, Any] | None:
        """What :meth:`finish` was told, with its id and the time; ``None`` before that, or after its removal."""
        try:
            return {"id": self.video_id, **json.loads(self._details.read_text())}
        except FileNotFoundError:
            return None

    def remove(self) -> None:
        """Remove all of it. Removing twice does no harm."""
        shutil.rmtree(self.folder, ignore_errors=True)

    @contextmanager
    def removed_unless_finished(self) -> Iterator[None]:
        """Leave no file behind if the block is left in any way before :meth:`finish`."""
        try:
            yield
        finally:
            if not self.is_finished:
                self.remove()

    @property
    def _details(self) -> Path:
        return self.folder / "details.json"


class Library:
    """The videos of all users, below one folder."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def reserve(self, user_id: str, video_id: str, *, limit: int) -> Video:
        """
        Make room for a new video.

        Args:
            user_id: Whose it is.
            video_id: As :func:`is_video_id` likes it. An id is used once, by anyone, for ever.
            limit: Videos that the user may have, this one included.

        Raises:
            VideoIdTaken: If the id was used before.
            TooManyVideos: If the user has ``limit`` videos already.
        """
        self._take_id(video_id)
        video = self._video(user_id, video_id)
        video.folder.mkdir(parents=True)
        # Counted with ours in it: of two requests at once both may be refused, but never one too many let in.
        if len(self._all(user_id)) > limit:
            video.remove()
            raise TooManyVideos(f"the limit is {limit}")
        return video

    def find(self, user_id: str, video_id: str) -> Video | None:
        """The user's video of that id, finished or not; ``None`` if there is none, or it is another user's."""
        if not is_video_id(video_id):
            return None
        video = self._video(user_id, video_id)
        return video if video.folder.is_dir() else None

    def finished(self, user_id: str) -> list[dict[str, Any]]:
        """Details of the user's finished videos, newest first."""
        details = [details for video in self._all(user_id) if (details := video.details())]
        return sorted(details, key=lambda item: item["finished_at"], reverse=True)

    def unfinished(self, user_id: str) -> list[Video]:
        """The user's videos that are still on their way, or never arrived."""
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
        # The id will be a task's too, and a task's id is its owner's for good: so no second user may bring it.
        taken = self._root / "ids"
        taken.mkdir(parents=True, exist_ok=True)
        try:
            (taken / video_id).touch(exist_ok=False)
        except FileExistsError as exc:
            raise VideoIdTaken(video_id) from exc
