"""
The Celery application: one task that turns an upload into a film and reports its progress.

    celery -A demo_app.tasks worker
"""

from __future__ import annotations

from contextlib import closing
from typing import Any

from celery import Celery
from celery.exceptions import SoftTimeLimitExceeded, WorkerLostError

from jobpush import JobPush, progress

from . import video
from .files import Library, Video, mp4_name
from .settings import Settings

#: Seconds for one film; a crafted file could keep ffmpeg busy for ever.
MAX_ENCODING_TIME = 3600
#: Percent of the bar that the upload has filled when the task begins.
UPLOAD_PERCENT = 25
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
    task_ignore_result=True,  # the browser gets the end from jobpush; there is no result backend
    task_soft_time_limit=MAX_ENCODING_TIME,
    worker_prefetch_multiplier=1,  # a long task must not hold back the next one while another process is idle
)


@celery_app.task(name="demo.encode")  # type: ignore[untyped-decorator]  # Celery has no types
@jobpush.track(
    user="user_id",
    title="{filename}",
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


def _make_film(upload: Video, filename: str) -> dict[str, Any]:
    progress.stage("uploaded", weight=UPLOAD_PERCENT)
    progress.stage("probing", weight=2)
    clip = video.probe(upload.upload)

    progress.stage("encoding", weight=70, total=clip.frames)
    with closing(video.encode(upload.upload, upload.film, on_log=progress.log)) as frames:
        for frame in frames:
            progress.update(frame)

    progress.stage("thumbnail")
    film = video.probe(upload.film)
    video.take_poster(upload.film, upload.poster, at=(film.duration or 0) * _POSTER_AT)
    return {
        "name": mp4_name(filename),
        "width": film.width,
        "height": film.height,
        "duration": film.duration,
        "bytes": upload.film.stat().st_size,
    }
