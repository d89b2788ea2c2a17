"""
The Celery side: one task that turns an upload into a film, and says how far it is.

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

#: Seconds that one film may take; a file can be made to keep ffmpeg busy for ever.
MAX_ENCODING_TIME = 3600
#: Percent of the bar that the browser has filled with the upload when the task begins.
UPLOAD_PERCENT = 25
#: Where in the film its poster is taken: not at the start, which is often black.
_POSTER_AT = 0.25

settings = Settings.from_environment()
videos = Library(settings.dir)

celery_app = Celery("demo_app", include=["demo_app.feed"])
jobpush = JobPush(celery_app)


def broker_url(redis_url: str) -> str:
    """Celery's own form of a Redis URL; it knows sockets by another name than redis-py."""
    if not redis_url.startswith("unix://"):
        return redis_url
    path, _, query = redis_url.removeprefix("unix://").partition("?")
    return f"redis+socket://{path}" + (f"?{query.replace('db=', 'virtual_host=')}" if query else "")


celery_app.conf.update(
    broker_url=broker_url(jobpush.config.redis_url),
    # Celery's keys are below jobpush's prefix too: several demos can share a Redis without taking each other's tasks.
    broker_transport_options={"global_keyprefix": f"{jobpush.config.prefix}:celery:"},
    broker_connection_retry_on_startup=True,
    task_ignore_result=True,  # the browser hears of the end from jobpush; nobody asks a result backend
    task_soft_time_limit=MAX_ENCODING_TIME,
    worker_prefetch_multiplier=1,  # a long task must not hold back the next while another child is idle
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

    However it ends, by an error, a cancel or the loss of its files, it leaves a finished video or nothing.
    """
    upload = videos.find(user_id, video_id)
    if upload is None:
        raise video.VideoError("This upload is gone. Upload the file again.")
    with upload.removed_unless_finished():
        details = _make_film(upload, filename)
        progress.update(message="ready to play")  # the last point at which a cancel is heeded
        upload.finish(details)


def _make_film(upload: Video, filename: str) -> dict[str, Any]:
    progress.stage("uploaded", weight=UPLOAD_PERCENT)
    progress.stage("probing", weight=2)
    clip = video.probe(upload.upload)

    progress.stage("encoding", weight=70, total=clip.frames)
    with closing(video.encode(upload.upload, upload.film)) as frames:
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
