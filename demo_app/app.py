"""
The site: choose a name to sign in, upload videos, watch the encoding, play them.

    gunicorn -c python:jobpush.gunicorn_conf 'demo_app.app:create_app()'
"""

from __future__ import annotations

import errno
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
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge, SecurityError

from jobpush import StoreError
from jobpush.gateway import Gateway

from . import chat, feed
from .files import (
    Library,
    TooManyVideos,
    UploadBusy,
    Video,
    VideoIdTaken,
    WrongOffset,
    display_name,
    is_video_id,
)
from .sample import sample_clip
from .settings import Settings
from .tasks import UPLOAD_PERCENT, encode, jobpush, trailer

#: Bytes of a name in UTF-8. In the name of a channel a byte takes three, and Pusher limits user ids to 128.
MAX_NAME_BYTES = 40
#: Videos in a trailer.
MAX_CLIPS = 8
#: Seconds after which an upload without writes and without a task is removed.
ABANDONED_AFTER = 3600
#: Everything comes from this site; a file name cannot become a script.
_CONTENT_SECURITY_POLICY = (
    "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)

#: Languages of the task cards, with their own names; the rest of the site is English.
LANGUAGES = {"en": "English", "de": "Deutsch", "ar": "العربية"}

site = Blueprint("site", __name__)


@chat.pages.before_request
def _ensure_signed_in() -> ResponseReturnValue | None:
    return None if "user_id" in session else redirect(url_for("site.videos_page"))


site.register_blueprint(chat.pages)  # inside, so that the checks of the site apply to them too
site.register_blueprint(feed.pages)


def create_app(settings: Settings | None = None) -> Flask:
    """
    Create the site, with the gateway in it.

    Args:
        settings: ``None``: from the environment.

    Raises:
        RuntimeError: If there is no secret that signs the session.
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
        TRUSTED_HOSTS=None if "*" in settings.hosts else list(settings.hosts),
    )
    app.register_blueprint(site)
    app.before_request(_ensure_one_host)
    app.register_error_handler(SecurityError, _foreign_host)
    app.after_request(_with_security_headers)
    gateway = Gateway(app, user_loader=lambda: session.get("user_id"))
    gateway.authorize_channel(chat.may_join)
    gateway.on_rerun(_run_again)
    return app


# -- Pages -------------------------------------------------------------------------------------------


@site.get("/")
def videos_page() -> ResponseReturnValue:
    """Show the uploader, or ask for a name first."""
    if "user_id" not in session:
        return render_template("sign_in.html", max_name_bytes=MAX_NAME_BYTES)
    return render_template(
        "videos.html", user_id=session["user_id"], settings=_settings(), upload_percent=UPLOAD_PERCENT
    )


@site.get("/<path:unknown>")
def page_not_found(unknown: str) -> ResponseReturnValue:
    """Lead back from a page that does not exist."""
    return render_template("not_found.html", user_id=session.get("user_id")), HTTPStatus.NOT_FOUND


@site.context_processor
def _language() -> dict[str, object]:
    return {"languages": LANGUAGES, "card_lang": session.get("lang", "en")}


@site.get("/language/<lang>")
def choose_language(lang: str) -> ResponseReturnValue:
    """Show the task cards in another language."""
    if lang in LANGUAGES:
        session["lang"] = lang
    return redirect(url_for(".videos_page"))


@site.post("/sign-in")
def sign_in() -> ResponseReturnValue:
    """Use a name as the user's id. Anyone may choose any name: a demo has no other accounts."""
    name = " ".join(request.form.get("name", "").split())
    if problem := _problem_with_name(name):
        page = render_template("sign_in.html", name=name, problem=problem, max_name_bytes=MAX_NAME_BYTES)
        return page, HTTPStatus.BAD_REQUEST
    lang = session.get("lang")
    session.clear()
    session.update(user_id=name, **({"lang": lang} if lang else {}))
    return redirect(url_for(".videos_page"), HTTPStatus.SEE_OTHER)


@site.post("/sign-out")
def sign_out() -> ResponseReturnValue:
    """Forget the name, in all tabs: their connections are closed, so they reload."""
    user_id = session.pop("user_id", None)
    answer = redirect(url_for(".videos_page"), HTTPStatus.SEE_OTHER)
    if user_id is not None:
        # After the response: before it, the browser would reconnect with the old cookie.
        answer.call_on_close(lambda: _disconnect(user_id))
    return answer


# -- Videos ------------------------------------------------------------------------------------------


@site.get("/videos")
def list_videos() -> ResponseReturnValue:
    """List the user's finished videos, newest first."""
    user_id = _user_id()
    _remove_abandoned(user_id)
    return jsonify(videos=[_with_urls(details) for details in _library().finished(user_id)])


@site.put("/videos/<video_id>")
def upload_video(video_id: str) -> ResponseReturnValue:
    """
    Take a file, or a part of it, and start the task that encodes it once the file is complete.

    The body is the file from the byte ``Upload-Offset`` on, which has ``Upload-Length`` bytes in all. What arrives
    before an interruption stays: ``HEAD`` returns the offset at which the upload continues. ``X-File-Name`` holds the
    percent-encoded name. The browser chooses the id, which is the id of the task too: so the page shows upload and task
    as one.
    """
    user_id = _user_id()
    name = display_name(unquote(request.headers.get("X-File-Name", "")))
    if not is_video_id(video_id):
        raise Refusal(HTTPStatus.BAD_REQUEST, "invalid_id", "The id of a video must be a random UUID.")
    body = request.stream  # refuses a body that is too large
    offset = request.headers.get("Upload-Offset", 0, int)
    length = request.headers.get("Upload-Length", request.content_length or 0, int)
    if length > _settings().max_bytes:
        raise RequestEntityTooLarge
    if length <= 0:
        raise Refusal(HTTPStatus.BAD_REQUEST, "empty", "This file is empty.")
    _remove_abandoned(user_id)
    video = _continued(user_id, video_id) or _reserve(user_id, video_id)
    if _append(video, body, offset, length) < length:
        # gunicorn does not report that a browser has gone; the body just ends.
        raise Refusal(HTTPStatus.BAD_REQUEST, "cut_off", "The upload was interrupted. It can be continued.")
    try:
        encode.apply_async((user_id, video_id, name), task_id=video_id)
    except OperationalError:
        if not offset:  # a browser that does not continue uploads
            video.remove()
        raise
    video.mark_queued()
    return jsonify(task_id=video_id), HTTPStatus.ACCEPTED


@site.route("/videos/<video_id>", methods=["HEAD"])
def upload_offset(video_id: str) -> ResponseReturnValue:
    """Return the offset at which an interrupted upload continues."""
    video = _library().find(_user_id(), video_id)
    if video is None:
        raise Refusal(HTTPStatus.NOT_FOUND, "not_found", "There is no such upload.")
    is_complete = video.is_queued or video.is_finished
    return "", HTTPStatus.OK, {"Upload-Offset": str(video.size), "Upload-Complete": str(int(is_complete))}


@site.delete("/videos/<video_id>")
def delete_video(video_id: str) -> ResponseReturnValue:
    """Remove a finished video, or an incomplete upload. A video that is being encoded is cancelled like any task."""
    video = _library().find(_user_id(), video_id)
    if video is not None and not video.is_finished and not video.is_queued:
        video.remove()
        return "", HTTPStatus.NO_CONTENT
    _finished(video_id).remove()
    with suppress(StoreError):  # the other tabs update when they are reloaded
        jobpush.notify(_user_id(), "video-deleted", {"id": video_id})
    return "", HTTPStatus.NO_CONTENT


@site.get("/videos/<video_id>/film.mp4")
def film(video_id: str) -> ResponseReturnValue:
    """Send the film, or the parts that a player requests (HTTP ranges); ``?download=1`` offers it as a file."""
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
    """Send a still picture of the film."""
    return send_file(_finished(video_id).poster, mimetype="image/jpeg")


@site.post("/trailers")
def make_trailer() -> ResponseReturnValue:
    """Start the workflow that makes a trailer of the user's newest videos."""
    return jsonify(task_id=_start_trailer(_user_id())), HTTPStatus.ACCEPTED


def _start_trailer(user_id: str) -> str:
    sources = [str(details["id"]) for details in _library().finished(user_id)][:MAX_CLIPS]
    if len(sources) < 2:
        raise Refusal(HTTPStatus.CONFLICT, "too_few_videos", "A trailer needs two videos.")
    title = f"Trailer of {len(sources)} videos"
    workflow = jobpush.track_workflow(trailer, user_id, title, weights={"demo.join": 0.5})
    video = _reserve(user_id, workflow.task_id)
    try:
        workflow.delay(user_id, workflow.task_id, sources)
    except BaseException:
        video.remove()
        raise
    video.mark_queued()
    return str(workflow.task_id)


def _run_again(task_id: str, name: str, user_id: str) -> bool:
    """Make a trailer again. The file of an ended upload is gone: the page sends it again."""
    if name != "jobpush.workflow":  # the name of all workflows; the demo has one
        return False
    try:
        _start_trailer(user_id)
    except Refusal:
        return False
    return True


@site.get("/sample.mp4")
def sample() -> ResponseReturnValue:
    """Send a sample clip; the page uploads it like any other file."""
    _user_id()
    return send_file(sample_clip(_settings().dir), mimetype="video/mp4")


# -- Helpers -----------------------------------------------------------------------------------------


class Refusal(HTTPException):
    """An error with a code, and a sentence for the user."""

    def __init__(self, status: HTTPStatus, code: str, message: str) -> None:
        self.code = status
        self.error_code = code
        super().__init__(message)


@site.before_request
def _ensure_same_origin() -> None:
    """Refuse changes by a form or script of another site. Source: OWASP, CSRF prevention, "Origin"."""
    if request.method in ("GET", "HEAD", "OPTIONS"):
        return
    origin = request.headers.get("Origin")
    is_ours = urlsplit(origin).netloc == request.host if origin else "X-Requested-With" in request.headers
    if not is_ours:
        raise Refusal(HTTPStatus.FORBIDDEN, "foreign_origin", "This request came from another site.")


@site.errorhandler(HTTPException)
def _error_as_json(error: HTTPException) -> ResponseReturnValue:
    """Return an error in the form of the gateway's own errors."""
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
    message = "The server cannot store this right now. Try again in a moment."
    return _error_as_json(Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "redis_away", message))


def _ensure_one_host() -> None:
    """Refuse a request without ``Host``, or with another host in its target. Source: RFC 9112, 3.2."""
    target = request.environ.get("RAW_URI", "/")
    is_other = not target.startswith("/") and urlsplit(target).netloc != request.host
    if current_app.config["TRUSTED_HOSTS"] and (is_other or not request.headers.get("Host")):
        raise SecurityError


def _foreign_host(error: SecurityError) -> ResponseReturnValue:
    return "This host name is not allowed. Open http://127.0.0.1, or set JOBPUSH_DEMO_HOSTS.\n", HTTPStatus.BAD_REQUEST


def _with_security_headers(response: Response) -> Response:
    response.headers.setdefault("Content-Security-Policy", _CONTENT_SECURITY_POLICY)
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    response.headers.setdefault("Referrer-Policy", "same-origin")
    if site.name in request.blueprints:
        response.headers.setdefault("Cache-Control", "private, no-cache")  # a deleted video disappears at once
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
    with suppress(StoreError):  # without Redis the gateway cannot be reached
        jobpush.disconnect(user_id)


def _problem_with_name(name: str) -> str | None:
    if not name:
        return "Type a name to begin."
    if not name.isprintable():
        return "This name contains characters that cannot be shown."
    if len(name.encode("utf-8", "replace")) > MAX_NAME_BYTES:
        return "This name is too long. Choose a shorter one."
    return None


def _finished(video_id: str) -> Video:
    """Return the user's finished video; everything else is a 404, including another user's video."""
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
        raise Refusal(HTTPStatus.CONFLICT, "id_taken", "This upload is complete, or its id is in use.") from None
    except TooManyVideos:
        message = f"You have {limit} videos, which is the limit. Delete one first."
        raise Refusal(HTTPStatus.CONFLICT, "too_many_videos", message) from None


def _continued(user_id: str, video_id: str) -> Video | None:
    """Return the user's own incomplete upload with this id."""
    video = _library().find(user_id, video_id)
    return video if video and not video.is_finished and not video.is_queued else None


def _append(video: Video, body: IO[bytes], offset: int, length: int) -> int:
    try:
        return video.append(body, offset=offset, length=length)
    except UploadBusy:
        message = "Another request is still sending this upload. Try again in a moment."
        raise Refusal(HTTPStatus.LOCKED, "upload_busy", message) from None
    except WrongOffset as exc:
        message = f"The upload continues at byte {exc.offset}."
        raise Refusal(HTTPStatus.CONFLICT, "wrong_offset", message) from None
    except OSError as exc:
        if exc.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        video.remove()
        message = "The disk of this server is full. Try again later."
        raise Refusal(HTTPStatus.INSUFFICIENT_STORAGE, "disk_full", message) from exc


def _remove_abandoned(user_id: str) -> None:
    """
    Remove uploads that will never be finished.

    A task removes its own files when it ends. But a task that is cancelled while it waits never runs, and a killed
    worker cleans nothing up.
    """
    unfinished = _library().unfinished(user_id)
    if not unfinished:
        return
    try:
        states = _states(user_id)
    except StoreError:
        return  # cleaning up can wait
    for video in unfinished:
        state = states.get(video.video_id)
        is_over = state in ("SUCCESS", "FAILURE", "REVOKED")
        is_alone = state is None or state == "LOST"  # any other task may wait for hours
        # Checked again: it may be finished by now.
        if (is_over or (is_alone and _is_untouched(video))) and not video.is_finished:
            video.remove()


def _states(user_id: str) -> dict[str, str]:
    states: dict[str, str] = {}
    start = 0
    while page := jobpush.tasks(user_id, start=start):
        states |= {task.task_id: task.state for task in page}
        start += len(page)
    return states


def _is_untouched(video: Video) -> bool:
    try:
        return time.time() - video.touched_at > ABANDONED_AFTER
    except FileNotFoundError:
        return False  # another request has just removed it


def _in_megabytes(size: int) -> str:
    return f"{size / 1024 / 1024:.3g} MB"
