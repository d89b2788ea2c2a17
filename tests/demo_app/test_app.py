"""The site: authorisation, invalid input, and isolation between users."""

from __future__ import annotations

import dataclasses
import fcntl
import os
import time
import uuid
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse, create_environ, run_wsgi_app

from demo_app.files import Video
from demo_app.settings import Settings
from jobpush.events import TaskEvent, TaskState
from jobpush.store import Store, TaskWrite

from .conftest import Demo

#: Limits in bytes and videos, small enough to exceed in a test.
MAX_BYTES, MAX_VIDEOS = 100_000, 2
SAME_ORIGIN = {"X-Requested-With": "demo"}

SignIn = Callable[[str], FlaskClient]


@pytest.fixture
def app(demo: Demo, monkeypatch: pytest.MonkeyPatch) -> Flask:
    for name, value in demo.environment.items():
        if name.startswith("JOBPUSH_"):
            monkeypatch.setenv(name, value)
    settings = dataclasses.replace(Settings.from_environment(), max_bytes=MAX_BYTES, max_videos=MAX_VIDEOS)
    made: Flask = demo.site.create_app(settings)
    return made


@pytest.fixture
def sign_in(app: Flask) -> SignIn:
    """Return a function that creates a test client signed in under a name."""

    def sign_in(name: str) -> FlaskClient:
        client = app.test_client()
        assert client.post("/sign-in", data={"name": name}, headers=SAME_ORIGIN).status_code == 303
        return client

    return sign_in


@pytest.fixture
def user(request: pytest.FixtureRequest) -> str:
    """A user id unique to the test: tests share a Redis and a folder."""
    return f"user of {request.node.name}"[:40]


def put(
    client: FlaskClient, body: bytes = b"a video", *, name: str = "cat.mov", video_id: str = "", **kwargs: Any
) -> TestResponse:
    headers = {**SAME_ORIGIN, "X-File-Name": name, **kwargs.pop("headers", {})}
    return client.put(f"/videos/{video_id or uuid.uuid4()}", data=body, headers=headers, **kwargs)


def finished_video(demo: Demo, user_id: str, name: str = "cat.mp4") -> Video:
    video: Video = demo.tasks.videos.reserve(user_id, str(uuid.uuid4()), limit=99)
    video.upload.write_bytes(b"upload")
    video.film.write_bytes(bytes(range(256)))
    video.poster.write_bytes(b"\xff\xd8poster")
    video.finish({"name": name, "width": 320, "height": 240, "duration": 2.0, "bytes": 256})
    return video


def assert_refused(response: TestResponse, status: int, code: str, sentence: str) -> None:
    assert response.status_code == status
    assert response.json is not None
    error = response.json["error"]
    assert error["code"] == code
    assert sentence in error["message"]


# -- signing in --------------------------------------------------------------------------------------


def test_anonymous_visitor_is_asked_for_a_name(app: Flask) -> None:
    page = app.test_client().get("/")

    assert page.status_code == 200
    assert "Your name" in page.text


def test_name_is_shown_as_text(sign_in: SignIn) -> None:
    page = sign_in("<b>Ada</b>").get("/").text

    assert "&lt;b&gt;Ada&lt;/b&gt;" in page
    assert "<b>" not in page


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("  ", "Type a name"),
        ("x" * 41, "too long"),
        ("猫" * 14, "too long"),
        ("a\u202eb", "characters that cannot be shown"),
    ],
)
def test_invalid_name_is_refused_with_a_sentence(app: Flask, name: str, sentence: str) -> None:
    client = app.test_client()

    page = client.post("/sign-in", data={"name": name}, headers=SAME_ORIGIN)

    assert page.status_code == 400
    assert sentence in page.text
    assert "Your name" in client.get("/").text


def test_longest_name_is_a_valid_user_id(sign_in: SignIn) -> None:
    client = sign_in("猫" * 13)

    assert client.get("/jobpush/tasks").status_code == 200


def test_signing_out_forgets_the_name(sign_in: SignIn, user: str) -> None:
    client = sign_in(user)

    client.post("/sign-out", headers=SAME_ORIGIN)

    assert "Your name" in client.get("/").text
    assert_refused(client.get("/videos"), 401, "signed_out", "Sign in")


@pytest.mark.parametrize("path", ["/", "/chat", "/feed"])
def test_header_has_the_bell_and_the_number_of_unread_notifications(sign_in: SignIn, user: str, path: str) -> None:
    page = sign_in(user).get(path, follow_redirects=True).text

    assert page.count("<jobpush-notifications ") == page.count("<jobpush-badge ") == 1
    assert "/jobpush/static/jobpush" in page


def test_session_cookie_is_hidden_from_scripts_and_other_sites(app: Flask) -> None:
    response = app.test_client().post("/sign-in", data={"name": "Ada"}, headers=SAME_ORIGIN)

    cookie = response.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "https://evil.example", **SAME_ORIGIN}, 403),
        ({"Origin": "http://localhost"}, 303),
        (SAME_ORIGIN, 303),
    ],
)
def test_requests_of_another_site_change_nothing(app: Flask, headers: dict[str, str], status: int) -> None:
    response = app.test_client().post("/sign-in", data={"name": "Ada"}, headers=headers)

    assert response.status_code == status


def test_page_allows_only_its_own_files(sign_in: SignIn, user: str) -> None:
    page = sign_in(user).get("/")

    assert page.headers["Content-Security-Policy"].startswith("default-src 'self';")
    assert "unsafe" not in page.headers["Content-Security-Policy"]
    assert page.headers["X-Content-Type-Options"] == "nosniff"
    assert "<style" not in page.text
    assert " style=" not in page.text
    assert page.text.count("<script") == page.text.count('<script type="module" src=')


def test_page_that_does_not_exist_leads_back(app: Flask, sign_in: SignIn, user: str) -> None:
    for client in (app.test_client(), sign_in(user)):
        page = client.get("/no/such/page")

        assert page.status_code == 404
        assert '<a href="/">Go to the videos</a>' in page.text


def test_site_without_a_secret_does_not_start(demo: Demo) -> None:
    with pytest.raises(RuntimeError, match="JOBPUSH_DEMO_SECRET is not set"):
        demo.site.create_app(Settings(dir=demo.folder))


# -- uploading ---------------------------------------------------------------------------------------


def test_upload_is_a_task_with_the_same_id_at_once(demo: Demo, sign_in: SignIn, user: str) -> None:
    client, video_id = sign_in(user), str(uuid.uuid4())

    response = put(client, name="%3Cb%3E%20caf%C3%A9.mov", video_id=video_id)

    assert (response.status_code, response.json) == (202, {"task_id": video_id})
    (task,) = demo.tasks.jobpush.tasks(user)
    assert (task.task_id, task.title, task.state) == (video_id, "<b> café.mov", "PENDING")
    video = demo.tasks.videos.find(user, video_id)
    assert video.upload.read_bytes() == b"a video"


def test_upload_needs_a_signed_in_user(app: Flask) -> None:
    assert_refused(put(app.test_client()), 401, "signed_out", "Sign in")


@pytest.mark.parametrize(
    "video_id", ["1", "..%2f..%2fetc", "c232ab00-9414-11ec-b3c8-9f6bdeced846", "7B0AD5A3-5F6C-4F0B-8F5D-6F3D8A3B2C11"]
)
def test_id_other_than_a_random_uuid_is_refused(sign_in: SignIn, user: str, video_id: str) -> None:
    response = put(sign_in(user), video_id=video_id)

    assert response.status_code in (400, 404, 405)
    assert sign_in(user).get("/videos").json == {"videos": []}


def test_id_used_by_any_user_is_refused(sign_in: SignIn, user: str) -> None:
    video_id = str(uuid.uuid4())
    assert put(sign_in(user), video_id=video_id).status_code == 202

    assert_refused(put(sign_in(f"not {user}"[:40]), video_id=video_id), 409, "id_taken", "in use")


def test_oversized_file_is_refused_with_the_limit(demo: Demo, sign_in: SignIn, user: str) -> None:
    assert_refused(put(sign_in(user), bytes(MAX_BYTES + 1)), 413, "too_large", "0.0954 MB at most")

    assert demo.tasks.videos.unfinished(user) == []


def test_empty_file_is_refused_and_leaves_nothing(demo: Demo, sign_in: SignIn, user: str) -> None:
    assert_refused(put(sign_in(user), b""), 400, "empty", "This file is empty.")

    assert demo.tasks.videos.unfinished(user) == []


@pytest.mark.parametrize("is_gunicorn", [True, False])
def test_interrupted_upload_continues(demo: Demo, sign_in: SignIn, user: str, is_gunicorn: bool) -> None:
    # gunicorn sets this flag; werkzeug then does not count the bytes itself
    environ = {"CONTENT_LENGTH": "7", "wsgi.input_terminated": is_gunicorn}
    client, video_id = sign_in(user), str(uuid.uuid4())

    cut = put(client, b"a v", video_id=video_id, environ_overrides=environ)
    offset = client.head(f"/videos/{video_id}").headers["Upload-Offset"]
    early = put(client, b"deo", video_id=video_id, headers={"Upload-Offset": "4", "Upload-Length": "7"})
    assert video_id not in [task.task_id for task in demo.tasks.jobpush.tasks(user)]
    rest = put(client, b"ideo", video_id=video_id, headers={"Upload-Offset": offset, "Upload-Length": "7"})

    assert (cut.status_code, offset) == (400, "3")
    assert_refused(early, 409, "wrong_offset", "continues at byte 3")
    assert rest.status_code == 202
    assert demo.tasks.videos.find(user, video_id).upload.read_bytes() == b"a video"
    assert client.head(f"/videos/{video_id}").headers["Upload-Complete"] == "1"
    again = put(client, b"ideo", video_id=video_id, headers={"Upload-Offset": offset, "Upload-Length": "7"})
    assert_refused(again, 409, "id_taken", "complete")


def test_upload_completed_during_a_restart_starts_its_task(demo: Demo, sign_in: SignIn, user: str) -> None:
    client, video_id = sign_in(user), str(uuid.uuid4())
    video = demo.tasks.videos.reserve(user, video_id, limit=9)
    video.upload.write_bytes(b"a video")

    response = put(client, b"", video_id=video_id, headers={"Upload-Offset": "7", "Upload-Length": "7"})

    assert response.status_code == 202
    assert [task.task_id for task in demo.tasks.jobpush.tasks(user)] == [video_id]


def test_upload_still_written_by_another_request_is_refused(demo: Demo, sign_in: SignIn, user: str) -> None:
    client, video_id = sign_in(user), str(uuid.uuid4())
    video = demo.tasks.videos.reserve(user, video_id, limit=9)
    with video.upload.open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)

        assert_refused(put(client, video_id=video_id), 423, "upload_busy", "still sending")


def test_incomplete_upload_of_another_user_is_not_continued(demo: Demo, sign_in: SignIn, user: str) -> None:
    video_id = str(uuid.uuid4())
    demo.tasks.videos.reserve(user, video_id, limit=9).upload.write_bytes(b"a v")
    other = sign_in(f"not {user}"[:40])

    assert other.head(f"/videos/{video_id}").status_code == 404
    assert other.delete(f"/videos/{video_id}", headers=SAME_ORIGIN).status_code == 404
    response = put(other, b"ideo", video_id=video_id, headers={"Upload-Offset": "3", "Upload-Length": "7"})
    assert_refused(response, 409, "id_taken", "its id is in use")


def test_cancelled_upload_is_removed(demo: Demo, sign_in: SignIn, user: str) -> None:
    client, video_id = sign_in(user), str(uuid.uuid4())
    demo.tasks.videos.reserve(user, video_id, limit=9).upload.write_bytes(b"a v")

    assert client.delete(f"/videos/{video_id}", headers=SAME_ORIGIN).status_code == 204
    assert demo.tasks.videos.find(user, video_id) is None


def test_upload_never_grows_beyond_its_length(demo: Demo, sign_in: SignIn, user: str) -> None:
    client, video_id = sign_in(user), str(uuid.uuid4())

    put(client, b"a video and more", video_id=video_id, headers={"Upload-Length": "7"})
    too_large = put(client, headers={"Upload-Length": str(MAX_BYTES + 1)})

    assert demo.tasks.videos.find(user, video_id).size == 7
    assert_refused(too_large, 413, "too_large", "at most")


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8000", 200),
        ("localhost", 200),
        ("demo.example:8000", 200),
        ("evil.example:8000", 400),
        ("127.0.0.1.evil.example", 400),
        ("127.0.0.1.", 400),
        ("[::1]:8000", 400),
        ("evil.example@localhost", 400),
        ("", 400),
    ],
)
@pytest.mark.parametrize("path", ["/", "/jobpush/health/live"])
def test_demo_refuses_a_foreign_host(app: Flask, demo: Demo, host: str, status: int, path: str) -> None:
    settings = dataclasses.replace(app.config["DEMO"], hosts=("127.0.0.1", "localhost", "demo.example"))
    headers = {"Host": host, "X-Forwarded-Host": "localhost"}

    response = demo.site.create_app(settings).test_client().get(path, headers=headers)

    assert response.status_code == status
    assert ("JOBPUSH_DEMO_HOSTS" in response.text) == (status == 400)


@pytest.mark.parametrize(
    ("target", "status"),
    [("http://evil.example/", 400), ("http://localhost/", 200), ("//evil.example/", 200), ("/?a=http://b", 200)],
)
def test_demo_refuses_a_target_with_a_foreign_host(app: Flask, target: str, status: int) -> None:
    assert app.test_client().get("/", environ_overrides={"RAW_URI": target}).status_code == status


def test_demo_refuses_a_request_without_a_host(app: Flask) -> None:
    environ = create_environ("/")
    del environ["HTTP_HOST"]

    assert run_wsgi_app(app, environ)[1] == "400 BAD REQUEST"


def test_demo_refuses_a_foreign_host_at_every_entrance(app: Flask) -> None:
    headers = {"Host": "evil.example:8000", "Origin": "http://evil.example:8000"}
    upgrade = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "a" * 22,
    }
    client = app.test_client()

    answers = [
        client.post("/sign-in", data={"name": "Ada"}, headers=headers),
        client.get("/app/key?protocol=7", headers={**headers, **upgrade}),
        client.get("/jobpush/events", headers=headers),
        client.get("/static/demo.css", headers=headers),
        client.get("/nowhere", headers=headers),
    ]

    assert [answer.status_code for answer in answers] == [400] * 5


@pytest.mark.parametrize(
    ("variable", "hosts"),
    [("", ()), (" demo.example, ,b.example", ("demo.example", "b.example")), ("*", ("*",))],
)
def test_demo_has_the_names_of_this_machine_and_the_given_ones(
    monkeypatch: pytest.MonkeyPatch, variable: str, hosts: tuple[str, ...]
) -> None:
    monkeypatch.setenv("JOBPUSH_DEMO_DIR", "videos")
    monkeypatch.setenv("JOBPUSH_DEMO_HOSTS", variable)

    assert Settings.from_environment().hosts == ("127.0.0.1", "localhost", *hosts)


def test_demo_answers_any_host_where_that_is_set(app: Flask, demo: Demo) -> None:
    settings = dataclasses.replace(app.config["DEMO"], hosts=("*",))

    response = demo.site.create_app(settings).test_client().get("/", headers={"Host": "any.example"})

    assert response.status_code == 200


def test_video_beyond_the_limit_is_refused_with_the_limit(demo: Demo, sign_in: SignIn, user: str) -> None:
    client = sign_in(user)
    finished_video(demo, user)
    assert put(client).status_code == 202

    assert_refused(put(client), 409, "too_many_videos", f"You have {MAX_VIDEOS} videos")


def test_full_disk_is_reported_and_leaves_nothing(
    demo: Demo, sign_in: SignIn, user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_space(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Video, "append", no_space)

    assert_refused(put(sign_in(user)), 507, "disk_full", "disk of this server is full")
    assert demo.tasks.videos.unfinished(user) == []


# -- watching ----------------------------------------------------------------------------------------


def test_finished_videos_are_listed_with_their_urls(demo: Demo, sign_in: SignIn, user: str) -> None:
    video = finished_video(demo, user)

    response = sign_in(user).get("/videos")

    assert response.json is not None
    (listed,) = response.json["videos"]
    assert listed["id"] == video.video_id
    assert listed["name"] == "cat.mp4"
    assert listed["url"] == f"/videos/{video.video_id}/film.mp4"


@pytest.mark.parametrize("path", ["film.mp4", "poster.jpg", "film.mp4?download=1"])
def test_video_of_another_user_is_a_404(demo: Demo, sign_in: SignIn, user: str, path: str) -> None:
    video = finished_video(demo, user)

    assert sign_in(user).get(f"/videos/{video.video_id}/{path}", buffered=True).status_code == 200
    assert_refused(
        sign_in("Eve").get(f"/videos/{video.video_id}/{path}", buffered=True), 404, "not_found", "no such video"
    )
    assert_refused(
        sign_in("Eve").delete(f"/videos/{video.video_id}", headers=SAME_ORIGIN), 404, "not_found", "no such video"
    )
    assert video.is_finished


def test_player_gets_byte_ranges_of_a_film(demo: Demo, sign_in: SignIn, user: str) -> None:
    video = finished_video(demo, user)

    response = sign_in(user).get(f"/videos/{video.video_id}/film.mp4", buffered=True, headers={"Range": "bytes=10-19"})

    assert response.status_code == 206
    assert response.headers["Content-Range"] == "bytes 10-19/256"
    assert response.data == bytes(range(10, 20))
    assert response.content_type == "video/mp4"
    assert "attachment" not in response.headers.get("Content-Disposition", "")


def test_download_has_the_name_of_the_upload(demo: Demo, sign_in: SignIn, user: str) -> None:
    video = finished_video(demo, user, 'a"b\u00e9;x.mp4')

    response = sign_in(user).get(f"/videos/{video.video_id}/film.mp4?download=1", buffered=True)

    disposition = response.headers["Content-Disposition"]
    assert disposition.startswith("attachment; ")
    assert "filename*=UTF-8''a%22b%C3%A9%3Bx.mp4" in disposition
    assert "\n" not in disposition


def test_unfinished_video_cannot_be_watched(sign_in: SignIn, user: str) -> None:
    client, video_id = sign_in(user), str(uuid.uuid4())
    put(client, video_id=video_id)

    assert_refused(client.get(f"/videos/{video_id}/film.mp4"), 404, "not_found", "no such video")


def test_deleted_video_is_gone(demo: Demo, sign_in: SignIn, user: str) -> None:
    video, client = finished_video(demo, user), sign_in(user)

    response = client.delete(f"/videos/{video.video_id}", headers=SAME_ORIGIN)

    assert response.status_code == 204
    assert not video.folder.exists()
    assert client.get("/videos").json == {"videos": []}


def test_sample_is_a_video_for_signed_in_users(
    app: Flask, sign_in: SignIn, user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("demo_app.sample.DURATION", 1)
    response = sign_in(user).get("/sample.mp4", buffered=True)

    assert response.content_type == "video/mp4"
    assert b"ftyp" in response.data[:16]
    assert app.test_client().get("/sample.mp4", buffered=True).status_code == 401


# -- tidying -----------------------------------------------------------------------------------------


def test_upload_cancelled_in_the_queue_is_removed(demo: Demo, sign_in: SignIn, user: str) -> None:
    client, video_id = sign_in(user), str(uuid.uuid4())
    put(client, video_id=video_id)
    demo.tasks.jobpush.cancel(video_id)

    client.get("/videos")

    assert demo.tasks.videos.unfinished(user) == []


def test_upload_waiting_for_its_task_is_never_removed(demo: Demo, sign_in: SignIn, user: str) -> None:
    client = sign_in(user)
    put(client)
    (video,) = demo.tasks.videos.unfinished(user)
    make_abandoned(demo, video)

    client.get("/videos")

    assert video.upload.exists()


def test_abandoned_upload_is_removed(demo: Demo, sign_in: SignIn, user: str) -> None:
    video = demo.tasks.videos.reserve(user, str(uuid.uuid4()), limit=9)
    video.upload.write_bytes(b"left behind")
    make_abandoned(demo, video)

    sign_in(user).get("/videos")

    assert not video.folder.exists()


def test_upload_of_a_task_beyond_the_first_page_is_kept(demo: Demo, sign_in: SignIn, user: str) -> None:
    video = demo.tasks.videos.reserve(user, str(uuid.uuid4()), limit=9)
    video.upload.write_bytes(b"waits for hours")
    make_abandoned(demo, video)
    waiting = [TaskEvent(str(n), TaskState.PENDING, created_at=n + 1.0) for n in range(demo.config.tasks_per_page)]
    with closing(Store(demo.config)) as store:
        store.publish([TaskWrite(user, TaskEvent(video.video_id, TaskState.PENDING, created_at=1.0))])
        store.publish([TaskWrite(user, event) for event in waiting])

    sign_in(user).get("/videos")

    assert video.folder.exists()


def make_abandoned(demo: Demo, video: Video) -> None:
    """Set the modification times of an upload to before the limit for abandoned uploads."""
    long_ago = time.time() - demo.site.ABANDONED_AFTER - 1
    for path in (video.upload, video.folder):
        os.utime(path, (long_ago, long_ago))
