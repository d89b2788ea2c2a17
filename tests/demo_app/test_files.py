"""The video library: names never become paths, ids are never reused, and users are isolated from each other."""

from __future__ import annotations

import threading
import uuid
from pathlib import Path

import pytest

from demo_app.files import Library, TooManyVideos, Video, VideoIdTaken, display_name, is_video_id, mp4_name


def new_id() -> str:
    return str(uuid.uuid4())


@pytest.fixture
def library(tmp_path: Path) -> Library:
    return Library(tmp_path)


def reserve(library: Library, user_id: str = "ada", video_id: str | None = None, *, limit: int = 9) -> Video:
    return library.reserve(user_id, video_id or new_id(), limit=limit)


def finish(video: Video, name: str = "cat.mp4") -> None:
    video.upload.write_bytes(b"upload")
    video.finish({"name": name})


def files_below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("cat.mov", "cat.mov"),
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\ada\\cat.mov", "cat.mov"),
        ("..", "video"),
        ("", "video"),
        (".bashrc", "bashrc"),
        ("a\r\nSet-Cookie: x\0.mov", "a Set-Cookie: x .mov"),
        ("cat\u202egnp.exe", "cat gnp.exe"),
        ("<img src=x onerror=alert(1)>.mp4", "<img src=x onerror=alert(1)>.mp4"),
        ("  Ката  и 猫.mp4 ", "Ката и 猫.mp4"),
        ("x" * 500, "x" * 120),
    ],
)
def test_name_of_a_file_is_one_line_without_folders(raw: str, shown: str) -> None:
    assert display_name(raw) == shown


def test_download_is_always_an_mp4() -> None:
    assert mp4_name("holiday.2024.mov") == "holiday.2024.mp4"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1",
        "../x",
        "c232ab00-9414-11ec-b3c8-9f6bdeced846",  # version 1
        "9B2F6C1E-5A4D-4E0B-8C77-3F1D2A6B9E10",
        "9b2f6c1e5a4d4e0b8c773f1d2a6b9e10",
    ],
)
def test_only_a_canonical_random_uuid_is_an_id(text: str) -> None:
    assert not is_video_id(text)
    assert is_video_id(new_id())


def test_id_cannot_be_reused_by_any_user_even_after_its_video_is_deleted(library: Library) -> None:
    video = reserve(library, "ada")
    video.remove()

    with pytest.raises(VideoIdTaken):
        reserve(library, "bob", video.video_id)


def test_video_of_another_user_is_not_found(library: Library) -> None:
    video = reserve(library, "ada")

    assert library.find("ada", video.video_id) == video
    assert library.find("bob", video.video_id) is None
    assert library.find("ada", "../../" + video.video_id) is None


def test_user_id_never_becomes_a_path(library: Library, tmp_path: Path) -> None:
    video = reserve(library, "../../root")

    assert video.folder.is_relative_to(tmp_path / "users")
    assert ".." not in video.folder.parts


def test_limit_counts_finished_and_unfinished_videos(library: Library) -> None:
    finish(reserve(library, limit=2))
    reserve(library, limit=2)

    with pytest.raises(TooManyVideos):
        reserve(library, limit=2)

    assert len(library.unfinished("ada")) == 1


def test_limit_holds_for_concurrent_uploads(library: Library) -> None:
    refused = []

    def try_one() -> None:
        try:
            reserve(library, limit=3)
        except TooManyVideos as exc:
            refused.append(exc)

    threads = [threading.Thread(target=try_one) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(library.unfinished("ada")) == 20 - len(refused) <= 3


def test_finished_videos_are_listed_newest_first(library: Library) -> None:
    first, second = reserve(library), reserve(library)
    finish(first, "first.mp4")
    finish(second, "second.mp4")
    reserve(library)

    assert [item["name"] for item in library.finished("ada")] == ["second.mp4", "first.mp4"]
    assert not first.upload.exists()


def test_unfinished_video_is_removed_at_any_end_of_its_block(library: Library, tmp_path: Path) -> None:
    video = reserve(library)

    with pytest.raises(KeyboardInterrupt), video.removed_unless_finished():
        video.film.write_bytes(b"half")
        raise KeyboardInterrupt

    assert library.find("ada", video.video_id) is None
    assert [path.parent.name for path in files_below(tmp_path)] == ["ids"]


def test_finished_video_stays(library: Library) -> None:
    video = reserve(library)

    with video.removed_unless_finished():
        finish(video)

    assert video.is_finished
