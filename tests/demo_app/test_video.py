"""The real ffmpeg: detection of videos, encoding, and clean-up after an early exit."""

from __future__ import annotations

import os
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from demo_app import video
from demo_app.sample import DURATION, sample_clip
from demo_app.video import Clip, VideoError
from tests.effort import members, thorough


def report_on(path: Path) -> str:
    result = subprocess.run([video.find_ffmpeg(), "-hide_banner", "-i", path], capture_output=True, text=True)
    return result.stderr


@pytest.fixture(params=members(["the system's", "imageio-ffmpeg's"]))
def any_ffmpeg(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the test with each ffmpeg that a machine may have."""
    if request.param == "imageio-ffmpeg's":
        monkeypatch.setattr("shutil.which", lambda name: None)
        assert "imageio_ffmpeg" in video.find_ffmpeg()


@pytest.mark.usefixtures("any_ffmpeg")
def test_clip_is_measured(clips: Path) -> None:
    assert video.probe(clips / "odd.mkv") == Clip(width=321, height=241, duration=2.0, frames=50)


@pytest.mark.usefixtures("any_ffmpeg")
def test_clip_without_a_duration_has_no_number_of_frames(clips: Path) -> None:
    assert video.probe(clips / "endless.webm") == Clip(width=320, height=240, duration=None, frames=None)


@pytest.mark.usefixtures("any_ffmpeg")
@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("noise.mp4", "not a video that can be read"),
        ("empty.mp4", "not a video that can be read"),
        ("truncated.mp4", "not a video that can be read"),
        ("sound.mkv", "no picture in this file"),
        ("picture.png", "not a video"),
        ("playlist.mp4", "not a video"),
        ("concat.mp4", "not a video"),
    ],
)
def test_file_without_video_is_refused_with_a_sentence(clips: Path, name: str, sentence: str) -> None:
    with pytest.raises(VideoError) as caught:
        video.probe(clips / name)

    assert sentence in caught.value.user_message
    assert str(clips) not in caught.value.user_message


@pytest.mark.usefixtures("any_ffmpeg")
def test_film_is_h264_with_even_sides_and_sound(clips: Path, tmp_path: Path) -> None:
    film = tmp_path / "film.mp4"

    frames = list(video.encode(clips / "odd.mkv", film))

    assert frames == sorted(frames)
    assert frames[-1] == 50
    report = report_on(film)
    assert "Video: h264" in report
    assert "yuv420p" in report
    assert "320x240" in report
    assert "Audio: aac" in report
    assert film.read_bytes().index(b"moov") < film.read_bytes().index(b"mdat")  # plays while it loads


def test_large_film_is_scaled_down_and_has_a_poster(clips: Path, tmp_path: Path) -> None:
    film, poster = tmp_path / "film.mp4", tmp_path / "poster.jpg"

    assert list(video.encode(clips / "wide.mp4", film))[-1] == 25
    video.take_poster(film, poster, at=0.5)

    assert "1280x720" in report_on(film)
    assert "640x360" in report_on(poster)


def test_film_with_sound_beyond_its_pictures_has_the_first_picture_as_poster(clips: Path, tmp_path: Path) -> None:
    film, poster = tmp_path / "film.mp4", tmp_path / "poster.jpg"
    assert list(video.encode(clips / "early.mp4", film))[-1] == 5

    video.take_poster(film, poster, at=1.5)

    assert "320x240" in report_on(poster)


def test_film_without_pictures_has_no_poster(clips: Path, tmp_path: Path) -> None:
    with pytest.raises(VideoError):
        video.take_poster(clips / "noise.mp4", tmp_path / "poster.jpg", at=1.5)


def test_log_lines_contain_no_folder_names(clips: Path, tmp_path: Path) -> None:
    lines: list[str] = []

    frames = list(video.encode(clips / "odd.mkv", tmp_path / "film.mp4", on_log=lines.append))

    assert frames
    assert any("Stream #0:0" in line for line in lines)
    assert any("film.mp4" in line for line in lines)
    assert not [line for line in lines if str(tmp_path) in line or str(clips) in line]


def test_early_exit_stops_ffmpeg(clips: Path, tmp_path: Path) -> None:
    with closing(video.encode(clips / "long.mp4", tmp_path / "film.mp4")) as frames:
        next(frames)
        assert children_that_run_ffmpeg()

    assert not children_that_run_ffmpeg()


def children_that_run_ffmpeg() -> list[str]:
    """Return the command lines of this process's ffmpeg children, from /proc."""
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    lines = [Path(f"/proc/{pid}/cmdline").read_bytes().decode() for pid in children]
    return [line for line in lines if "ffmpeg" in line]


def test_damage_in_the_middle_is_an_error(clips: Path, tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="cannot be converted"):
        list(video.encode(clips / "noise.mp4", tmp_path / "film.mp4"))


def test_error_without_ffmpeg_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)

    with pytest.raises(RuntimeError, match="apt install ffmpeg"):
        video.find_ffmpeg()


@thorough
def test_sample_is_a_video_and_is_made_once(tmp_path: Path) -> None:
    clip = sample_clip(tmp_path / "new")
    made_at = clip.stat().st_mtime_ns

    assert video.probe(clip).duration == DURATION
    assert sample_clip(tmp_path / "new").stat().st_mtime_ns == made_at
    assert list(clip.parent.iterdir()) == [clip]
