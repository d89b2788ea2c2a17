"""
The site: sign in by picking a name, upload videos, watch them being encoded, play them.

    gunicorn -c python:jobpush.gunicorn_conf 'demo_app.app:create_app()'
"""

from __future__ import annotations

import errno
import shutil
import time
from contextlib import suppress
from http import HTTPStatus
from typing import IO
from urllib.parse import unquote, urlsplit

from flask import (
    Blueprint,
    Flask,
    Response,
    current_app,
    jsonify,
    redirect,
    render_template,
    request,
    send_file,
    session,
    url_for,
)
from flask.typing import ResponseReturnValue
from kombu.exceptions import OperationalError
from redis import RedisError
from werkzeug.exceptions import HTTPException

from jobpush import StoreError
from jobpush.gateway import Gateway

from . import chat, feed
from .files import Library, TooManyVideos, Video, VideoIdTaken, display_name, is_video_id
from .sample import sample_clip
from .settings import Settings
from .tasks import UPLOAD_PERCENT, encode, jobpush

#: Bytes of a name in UTF-8. Escaped in a channel's name a byte takes three, and Pusher allows a user id 128.
MAX_NAME_BYTES = 40
#: Seconds after which an upload that nobody writes to, and no task speaks of, was given up.
ABANDONED_AFTER = 3600
#: Bytes read at a time from an upload.
_CHUNK_SIZE = 256 * 1024
#: Everything comes from this site, and what a file is called can't become a program.
_CONTENT_SECURITY_POLICY = (
    "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)

site = Blueprint("site", __name__)


@chat.pages.before_request
def _ensure_signed_in() -> ResponseReturnValue | None:
    return None if "user_id" in session else redirect(url_for("site.videos_page"))


site.register_blueprint(chat.pages)  # inside, so that what guards the site guards them too
site.register_blueprint(feed.pages)


def create_app(settings: Settings | None = None) -> Flask:
    """
    Make the site, with the gateway in it.

    Args:
        settings: ``None``: from the environment.

    Raises:
        RuntimeError: If there is no secret to sign the session with.
    """
    settings = settings or Settings.from_environment()
    if not settings.secret:
        raise RuntimeError("JOBPUSH_DEMO_SECRET is not set; it signs the session cookie")
    app = Flask(__name__)
    app.config.update(
        DEMO=settings,
        LIBRARY=Library(settings.dir),
        SECRET_KEY=settings.secret,
        SESSION_COOKIE_NAME="jobpush_demo",
        SESSION_COOKIE_SAMESITE="Lax",
        MAX_CONTENT_LENGTH=settings.max_bytes,
    )
    app.register_blueprint(site)
    app.after_request(_with_security_headers)
    gateway = Gateway(app, user_loader=lambda: session.get("user_id"))
    gateway.authorize_channel(chat.may_join)
    return app


# -- Pages -------------------------------------------------------------------------------------------


@site.get("/")
def videos_page() -> ResponseReturnValue:
    """The first page: the uploader for who has signed in, else the question for a name."""
    if "user_id" not in session:
        return render_template("sign_in.html", max_name_bytes=MAX_NAME_BYTES)
    return render_template(
        "videos.html", user_id=session["user_id"], settings=_settings(), upload_percent=UPLOAD_PERCENT
    )


@site.post("/sign-in")
def sign_in() -> ResponseReturnValue:
    """Take a name as the user's id. Anyone may pick any: it is a demo, and names are its only accounts."""
    name = " ".join(request.form.get("name", "").split())
    if problem := _problem_with_name(name):
        page = render_template("sign_in.html", name=name, problem=problem, max_name_bytes=MAX_NAME_BYTES)
        return page, HTTPStatus.BAD_REQUEST
    session.clear()
    session["user_id"] = name
    return redirect(url_for(".videos_page"), HTTPStatus.SEE_OTHER)


@site.post("/sign-out")
def sign_out() -> ResponseReturnValue:
    """Forget the name, in all tabs: their connections end, and so they ask for their page anew."""
    user_id = session.pop("user_id", None)
    answer = redirect(url_for(".videos_page"), HTTPStatus.SEE_OTHER)
    if user_id is not None:
        # Not before the browser has the answer: until then it would ask with the old cookie.
        answer.call_on_close(lambda: _disconnect(user_id))
    return answer


# -- Videos ------------------------------------------------------------------------------------------


@site.get("/videos")
def list_videos() -> ResponseReturnValue:
    """The user's finished videos, newest first."""
    user_id = _user_id()
    _remove_abandoned(user_id)
    return jsonify(videos=[_with_urls(details) for details in _library().finished(user_id)])


@site.put("/videos/<video_id>")
def upload_video(video_id: str) -> ResponseReturnValue:
    """
    Take a file and start the task that encodes it.

    The body is the file. Its name comes percent-encoded in ``X-File-Name``. The browser chooses the id, which is
    the task's id too: so it can show the upload and the task as one.
    """
    user_id = _user_id()
    name = display_name(unquote(request.headers.get("X-File-Name", "")))
    if not is_video_id(video_id):
        raise Refusal(HTTPStatus.BAD_REQUEST, "invalid_id", "The id of a video must be a random UUID.")
    body = request.stream  # refuses what is too large before we make room for it
    _remove_abandoned(user_id)
    video = _reserve(user_id, video_id)
    try:
        _save(body, video)
        encode.apply_async((user_id, video_id, name), task_id=video_id)
    except BaseException:
        video.remove()
        raise
    return jsonify(task_id=video_id), HTTPStatus.ACCEPTED


@site.delete("/videos/<video_id>")
def delete_video(video_id: str) -> ResponseReturnValue:
    """Remove a finished video; one that is under way is cancelled instead, like any task."""
    _finished(video_id).remove()
    with suppress(StoreError):  # the other tabs will see it when they are loaded again
        jobpush.notify(_user_id(), "video-deleted", {"id": video_id})
    return "", HTTPStatus.NO_CONTENT


@site.get("/videos/<video_id>/film.mp4")
def film(video_id: str) -> ResponseReturnValue:
    """The film, also in pieces (HTTP ranges), as a player asks for it; ``?download=1`` offers it as a file."""
    video = _finished(video_id)
    details = video.details() or {}
    is_download = "download" in request.args
    return send_file(
        video.film,
        mimetype="video/mp4",
        as_attachment=is_download,
        download_name=details.get("name") if is_download else None,
    )


@site.get("/videos/<video_id>/poster.jpg")
def poster(video_id: str) -> ResponseReturnValue:
    """A picture out of the film."""
    return send_file(_finished(video_id).poster, mimetype="image/jpeg")


@site.get("/sample.mp4")
def sample() -> ResponseReturnValue:
    """A clip for who has none at hand; the page uploads it like any other."""
    _user_id()
    return send_file(sample_clip(_settings().dir), mimetype="video/mp4")


# -- What the views lean on --------------------------------------------------------------------------


class Refusal(HTTPException):
    """A request that we don't fulfil, with a sentence for the user."""

    def __init__(self, status: HTTPStatus, code: str, message: str) -> None:
        self.code = status
        self.error_code = code
        super().__init__(message)


@site.before_request
def _ensure_same_origin() -> None:
    """Let nothing be changed by a form or script of another site. Source: OWASP, CSRF prevention, "Origin"."""
    if request.method in ("GET", "HEAD", "OPTIONS"):
        return
    origin = request.headers.get("Origin")
    is_ours = urlsplit(origin).netloc == request.host if origin else "X-Requested-With" in request.headers
    if not is_ours:
        raise Refusal(HTTPStatus.FORBIDDEN, "foreign_origin", "This request came from another site.")


@site.errorhandler(HTTPException)
def _error_as_json(error: HTTPException) -> ResponseReturnValue:
    """What went wrong, in the form that the gateway's own errors have."""
    if error.code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        limit = _settings().max_bytes
        error = Refusal(HTTPStatus(413), "too_large", f"A video may have {_in_megabytes(limit)} at most.")
    code = getattr(error, "error_code", None) or error.name.lower().replace(" ", "_")
    return jsonify(error={"code": code, "message": error.description}), error.code or 500


@site.errorhandler(OperationalError)
def _broker_is_away(error: OperationalError) -> ResponseReturnValue:
    message = "The queue does not answer. Try again in a moment."
    return _error_as_json(Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "broker_away", message))


@site.errorhandler(RedisError)
@site.errorhandler(StoreError)
def _redis_is_away(error: RedisError | StoreError) -> ResponseReturnValue:
    message = "The server can't keep this right now. Try again in a moment."
    return _error_as_json(Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "redis_away", message))


def _with_security_headers(response: Response) -> Response:
    response.headers.setdefault("Content-Security-Policy", _CONTENT_SECURITY_POLICY)
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    response.headers.setdefault("Referrer-Policy", "same-origin")
    if site.name in request.blueprints:
        response.headers.setdefault("Cache-Control", "private, no-cache")  # a deleted video is gone at once
    return response


def _settings() -> Settings:
    settings: Settings = current_app.config["DEMO"]
    return settings


def _library() -> Library:
    library: Library = current_app.config["LIBRARY"]
    return library


def _user_id() -> str:
    if "user_id" not in session:
        raise Refusal(HTTPStatus.UNAUTHORIZED, "signed_out", "Sign in first.")
    user_id: str = session["user_id"]
    return user_id


def _disconnect(user_id: str) -> None:
    with suppress(StoreError):  # without Redis nothing reaches those connections anyway
        jobpush.disconnect(user_id)


def _problem_with_name(name: str) -> str | None:
    if not name:
        return "Type a name to begin."
    if not name.isprintable():
        return "This name has characters in it that can't be shown."
    if len(name.encode("utf-8", "replace")) > MAX_NAME_BYTES:
        return "This name is too long. Choose a shorter one."
    return None


def _finished(video_id: str) -> Video:
    """The user's finished video; a 404 for everything else, another user's video included."""
    video = _library().find(_user_id(), video_id)
    if video is None or not video.is_finished:
        raise Refusal(HTTPStatus.NOT_FOUND, "not_found", "There is no such video.")
    return video


def _with_urls(details: dict[str, object]) -> dict[str, object]:
    video_id = details["id"]
    return {
        **details,
        "url": url_for(".film", video_id=video_id),
        "download_url": url_for(".film", video_id=video_id, download=1),
        "poster_url": url_for(".poster", video_id=video_id),
    }


def _reserve(user_id: str, video_id: str) -> Video:
    limit = _settings().max_videos
    try:
        return _library().reserve(user_id, video_id, limit=limit)
    except VideoIdTaken:
        raise Refusal(HTTPStatus.CONFLICT, "id_taken", "This upload was already sent.") from None
    except TooManyVideos:
        message = f"You have {limit} videos, which is the most one can have. Delete one first."
        raise Refusal(HTTPStatus.CONFLICT, "too_many_videos", message) from None


def _save(body: IO[bytes], video: Video) -> None:
    try:
        with video.upload.open("wb") as upload:
            shutil.copyfileobj(body, upload, _CHUNK_SIZE)
    except OSError as exc:
        if exc.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        message = "The disk of this server is full. Try again later."
        raise Refusal(HTTPStatus.INSUFFICIENT_STORAGE, "disk_full", message) from exc
    size = video.upload.stat().st_size
    if size == 0:
        raise Refusal(HTTPStatus.BAD_REQUEST, "empty", "This file is empty.")
    # gunicorn says nothing when a browser goes away; the body just ends.
    if request.content_length not in (None, size):
        raise Refusal(HTTPStatus.BAD_REQUEST, "cut_off", "The upload was cut off. Try again.")


def _remove_abandoned(user_id: str) -> None:
    """
    Remove uploads that will never be finished.

    A task removes its own files when it ends. But one that was cancelled before its turn never runs, and one
    whose worker was killed ends without a word.
    """
    unfinished = _library().unfinished(user_id)
    if not unfinished:
        return
    try:
        states = {task.task_id: task.state for task in jobpush.tasks(user_id)}
    except StoreError:
        return  # tidying can wait, watching videos should not
    for video in unfinished:
        state = states.get(video.video_id)
        is_over = state in ("SUCCESS", "FAILURE", "REVOKED")
        is_alone = state is None or state == "LOST"  # else its task may wait for its turn for hours
        # Looked at again: it may have been finished while we asked.
        if (is_over or (is_alone and _is_untouched(video))) and not video.is_finished:
            video.remove()


def _is_untouched(video: Video) -> bool:
    try:
        return time.time() - video.touched_at > ABANDONED_AFTER
    except FileNotFoundError:
        return False  # somebody else has just removed it


def _in_megabytes(size: int) -> str:
    return f"{size / 1024 / 1024:.3g} MB"
