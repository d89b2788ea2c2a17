"""
The Celery application: a task that turns an upload into a film, and a workflow that makes a trailer of several.

    celery -A demo_app.tasks worker
"""

from __future__ import annotations

from contextlib import closing
from typing import Any

from celery import Celery, chord
from celery.exceptions import SoftTimeLimitExceeded, WorkerLostError

from jobpush import JobPush, progress

from . import video
from .files import Library, Video, mp4_name
from .settings import Settings

#: Seconds for one film; a crafted file could keep ffmpeg busy for ever.
MAX_ENCODING_TIME = 3600
#: Percent of the bar that the upload has filled when the task begins.
UPLOAD_PERCENT = 25
#: Seconds of each clip of a trailer.
CLIP_SECONDS = 3.0
#: Position of the poster in the film. The start is often black.
_POSTER_AT = 0.25

settings = Settings.from_environment()
videos = Library(settings.dir)

celery_app = Celery("demo_app", include=["demo_app.feed"])
jobpush = JobPush(celery_app)


def broker_url(redis_url: str) -> str:
    """Return a Redis URL in Celery's form, which differs from redis-py's for sockets."""
    if not redis_url.startswith("unix://"):
        return redis_url
    path, _, query = redis_url.removeprefix("unix://").partition("?")
    return f"redis+socket://{path}" + (f"?{query.replace('db=', 'virtual_host=')}" if query else "")


celery_app.conf.update(
    broker_url=broker_url(jobpush.config.redis_url),
    # Celery's keys have jobpush's prefix too, so that several demos can share a Redis.
    broker_transport_options={"global_keyprefix": f"{jobpush.config.prefix}:celery:"},
    broker_connection_retry_on_startup=True,
    task_ignore_result=True,  # the browser gets the end from jobpush
    # Only the chord of a trailer needs results: Celery counts its clips with them.
    result_backend=broker_url(jobpush.config.redis_url),
    result_backend_transport_options={"global_keyprefix": f"{jobpush.config.prefix}:celery:"},
    result_expires=MAX_ENCODING_TIME,
    task_soft_time_limit=MAX_ENCODING_TIME,
    worker_prefetch_multiplier=1,  # a long task must not hold back the next one while another process is idle
)


@celery_app.task(name="demo.encode")  # type: ignore[untyped-decorator]  # Celery has no types
@jobpush.track(
    user="user_id",
    title="{filename}",
    notify="end",
    errors={
        SoftTimeLimitExceeded: "This took more than an hour, so it was stopped. Try a shorter video.",
        WorkerLostError: "The server stopped in the middle of this video. Upload the file again.",
    },
)
def encode(user_id: str, video_id: str, filename: str) -> None:
    """
    Turn an upload into a film with a poster.

    Any end, by an error, a cancel or the loss of its files, leaves a finished video or nothing.
    """
    upload = videos.find(user_id, video_id)
    if upload is None:
        raise video.VideoError("This upload is gone. Upload the file again.")
    if upload.is_finished:
        return  # published twice: the site was killed before it could record the first time
    with upload.removed_unless_finished():
        details = _make_film(upload, filename)
        progress.update(message="ready to play", url=f"/videos/{video_id}/film.mp4")  # the last point of a cancel
        upload.finish(details)


def trailer(user_id: str, trailer_id: str, sources: list[str]) -> Any:
    """Return the workflow of a trailer: a clip of each video, in parallel, then all of them in one film."""
    clips = [cut.s(user_id, trailer_id, source, number) for number, source in enumerate(sources)]
    return chord(clips, join.si(user_id, trailer_id, len(sources)))


@celery_app.task(name="demo.cut", ignore_result=False)  # type: ignore[untyped-decorator]
@jobpush.track(user="user_id", title="Clip {number}")
def cut(user_id: str, trailer_id: str, source_id: str, number: int) -> None:
    """Cut a clip out of a finished video."""
    source, target = videos.find(user_id, source_id), videos.find(user_id, trailer_id)
    details = source and source.details()
    if not source or not details or not target:
        raise video.VideoError("A video of this trailer was deleted.")
    middle = max(0.0, ((details["duration"] or 0) - CLIP_SECONDS) / 2)
    video.cut(source.film, target.folder / f"clip-{number}.mp4", at=middle, seconds=CLIP_SECONDS)


@celery_app.task(name="demo.join")  # type: ignore[untyped-decorator]
@jobpush.track(user="user_id", title="Join {count} clips")
def join(user_id: str, trailer_id: str, count: int) -> None:
    """Join the clips, and add the trailer to the gallery."""
    target = videos.find(user_id, trailer_id)
    if target is None:
        raise video.VideoError("This trailer was deleted.")
    with target.removed_unless_finished():
        clips = [target.folder / f"clip-{number}.mp4" for number in range(count)]
        video.join(clips, target.film)
        target.finish(_details_of(target, "Trailer.mp4"))
        for clip in clips:
            clip.unlink()


def _make_film(upload: Video, filename: str) -> dict[str, Any]:
    progress.stage("uploaded", weight=UPLOAD_PERCENT)
    progress.update(stages=["uploaded", "probing", "encoding", "thumbnail"])  # the card lists all of them
    progress.stage("probing", weight=2)
    clip = video.probe(upload.upload)

    progress.stage("encoding", weight=70, total=clip.frames)
    with closing(video.encode(upload.upload, upload.film, on_log=progress.log)) as frames:
        for frame in frames:
            progress.update(frame)

    progress.stage("thumbnail")
    return _details_of(upload, mp4_name(filename))


def _details_of(target: Video, name: str) -> dict[str, Any]:
    film = video.probe(target.film)
    video.take_poster(target.film, target.poster, at=(film.duration or 0) * _POSTER_AT)
    return {
        "name": name,
        "width": film.width,
        "height": film.height,
        "duration": film.duration,
        "bytes": target.film.stat().st_size,
    }
