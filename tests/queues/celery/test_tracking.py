"""The arguments of ``track()``, their validation, and their use in calls."""

from __future__ import annotations

import inspect
import logging
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from celery import Celery, shared_task

from jobpush import ConfigurationError, JobPush, UnknownArgument
from jobpush.events import TaskEvent, TaskState
from jobpush.queues.celery.headers import read_headers
from jobpush.queues.celery.signals import _received_task
from jobpush.queues.celery.track_options import options_of

if TYPE_CHECKING:
    from tests.celery_site.site import Eager


@pytest.fixture
def jobpush(redis_url: str) -> JobPush:
    return JobPush(Celery("tracking", broker="memory://", set_as_current=False), redis_url=redis_url)


def encode(user_id: str, filename: str = "cat.mov", *, quality: int = 1) -> str:
    """Encode a film."""
    return f"{filename} {quality}"


def only_task(eager: Eager) -> TaskEvent:
    (event,) = eager.jobpush.tasks(eager.user)
    return event


@pytest.mark.parametrize(
    ("tracking", "argument"),
    [
        ({"user": "userid"}, "userid"),
        ({"user": "user_id", "title": "Encode {file_name}"}, "file_name"),
        ({"user": "user_id", "title": "Encode {file_name.stem} {quality}"}, "file_name"),
        ({"title": "Encode {}"}, ""),
        ({"user": "self"}, "self"),
    ],
)
def test_unknown_argument_is_refused_at_decoration(jobpush: JobPush, tracking: dict[str, Any], argument: str) -> None:
    with pytest.raises(UnknownArgument) as caught:
        jobpush.track(**tracking)(encode)

    assert caught.value.argument == argument
    assert caught.value.arguments == ("user_id", "filename", "quality")
    assert "its arguments are: user_id, filename, quality" in str(caught.value)


def test_title_with_unmatched_braces_is_refused(jobpush: JobPush) -> None:
    with pytest.raises(ConfigurationError, match="can't be filled in"):
        jobpush.track(title="Encode {filename")(encode)


@pytest.mark.parametrize(
    "tracking",
    [{"user": 42}, {"title": 7}, {"title": "{filename!z}"}, {"title": "{unclosed"}, {"errors": [1]}],
)
def test_invalid_argument_of_track_is_refused_at_decoration(jobpush: JobPush, tracking: dict[str, Any]) -> None:
    def anything(**arguments: Any) -> None: ...

    with pytest.raises(ConfigurationError):
        jobpush.track(**tracking)(anything)


def test_title_of_a_header_is_cut_too(eager: Eager) -> None:
    headers = {"jobpush_user": eager.user, "jobpush_title": "X" * 300_000}
    eager.app.send_task("elsewhere", headers=headers)

    assert len(eager.listener.until_state(TaskState.PENDING).title) == 200


def test_unknown_argument_is_refused_above_a_lazy_task(jobpush: JobPush) -> None:
    app = Celery("lazy", set_as_current=False)
    task = app.task(encode, name="lazy", shared=False)

    with pytest.raises(UnknownArgument):
        jobpush.track(user="userid")(task)

    assert not task.__evaluated__()


def test_lazy_task_stays_lazy_and_is_tracked_once_created(eager: Eager) -> None:
    proxy = eager.app.task(encode, name="lazy", shared=False)

    assert eager.jobpush.track(user="user_id", title="{filename} {quality}")(proxy) is proxy

    assert not proxy.__evaluated__()
    assert eager.run(proxy, eager.user)[-1].title == "cat.mov 1"


def test_any_argument_may_be_named_for_a_task_with_kwargs(jobpush: JobPush) -> None:
    jobpush.track(user="user_id", title="{whatever}")(lambda **kwargs: None)


def test_decorated_function_keeps_its_name_signature_and_result(jobpush: JobPush) -> None:
    tracked = jobpush.track(user="user_id")(encode)

    assert (tracked.__name__, tracked.__doc__) == ("encode", "Encode a film.")
    assert inspect.signature(tracked) == inspect.signature(encode)
    assert inspect.getfullargspec(tracked) == inspect.getfullargspec(encode)
    assert tracked("42", quality=2) == "cat.mov 2"


def test_call_with_wrong_arguments_is_still_refused_by_celery(eager: Eager) -> None:
    with pytest.raises(TypeError):
        eager.app.tasks["encode"].delay()

    assert eager.jobpush.tasks(eager.user) == []


def test_shared_task_is_tracked_by_a_decorator_above(eager: Eager) -> None:
    eager.app.set_current()
    task = eager.jobpush.track(user="user_id")(shared_task(name="shared")(encode))

    assert eager.run(task, eager.user)[-1].state is TaskState.SUCCESS


def test_user_callable_gets_arguments_by_name_without_self(eager: Eager) -> None:
    seen: list[dict[str, Any]] = []

    def user(**arguments: Any) -> str:
        seen.append(arguments)
        return eager.user

    def body(self: Any, user_id: str, filename: str = "cat.mov", **more: Any) -> None: ...

    task = eager.app.task(bind=True, name="bound", shared=False)(eager.jobpush.track(user=user)(body))
    eager.run(task, "7", extra=1)

    assert seen == [{"user_id": "7", "filename": "cat.mov", "extra": 1}]


def test_integer_is_a_valid_user_id(eager: Eager) -> None:
    eager.app.tasks["encode"].delay(7, "cat.mov")

    assert [event.title for event in eager.jobpush.tasks(7)] == ["Encode cat.mov"]


def test_task_without_a_user_runs_untracked(eager: Eager, caplog: pytest.LogCaptureFixture) -> None:
    task = eager.task(user=lambda **_: None)(encode)

    with caplog.at_level(logging.WARNING, "jobpush"):
        assert task.apply(("42",)).result == "cat.mov 1"

    assert caplog.records == []


@pytest.mark.parametrize("owner", [lambda **_: "", lambda **_: 1.5, lambda: "42", lambda **_: 1 / 0])
def test_invalid_user_is_logged_and_the_task_runs(eager: Eager, caplog: pytest.LogCaptureFixture, owner: Any) -> None:
    task = eager.task(user=owner)(encode)

    with caplog.at_level(logging.WARNING, "jobpush"):
        assert task.apply(("42",)).result == "cat.mov 1"

    assert ["is not shown to anybody" in record.message for record in caplog.records] == [True]


def test_title_that_cannot_be_formatted_falls_back_to_the_task_name(
    eager: Eager, caplog: pytest.LogCaptureFixture
) -> None:
    task = eager.task(title="{filename.stem}")(encode)

    with caplog.at_level(logging.WARNING, "jobpush"):
        title = eager.run(task, "42")[-1].title

    assert title == "eager"
    assert len(caplog.records) == 1


def test_long_title_is_cut(eager: Eager) -> None:
    eager.app.tasks["encode"].delay(eager.user, "x" * 1_000)

    title = only_task(eager).title
    assert len(title) == 200
    assert title.endswith("…")


@pytest.mark.parametrize("is_again", [False, True])
def test_unstamped_message_carries_its_redelivery_flag(eager: Eager, is_again: bool) -> None:
    task = eager.app.tasks["encode"]
    headers: dict[str, Any] = {"id": "one", "task": "encode"}
    request = SimpleNamespace(
        request_dict=headers,
        task=task,
        args=(eager.user, "cat.mov"),
        kwargs={},
        delivery_info={"redelivered": is_again},
    )
    tracking = options_of(task)
    assert tracking is not None

    received = _received_task(tracking, request)

    assert received is not None
    assert received.is_again is is_again
    assert received == read_headers(headers, task)  # as the process that runs the task reads it
    assert received.created_at > 0


def test_snapshot_of_a_scheduled_task_outlives_its_start(eager: Eager) -> None:
    eager.app.tasks["encode"].apply_async((eager.user, "cat.mov"), countdown=1_000_000)

    keys = list(eager.redis.scan_iter("jobpush:{*}:user:*:task:*"))
    assert [eager.redis.ttl(key) > 1_000_000 for key in keys] == [True]


def test_most_specific_exception_type_is_used(eager: Eager) -> None:
    def body() -> None:
        raise FileNotFoundError("secret")

    task = eager.task(errors={Exception: "It failed", OSError: "The disk failed"})(body)

    assert eager.run(task)[-1].error == "The disk failed"


def test_two_apps_in_one_process_have_their_own_jobpush(eager: Eager) -> None:
    other_app = Celery("other", broker="memory://", set_as_current=True)
    other = JobPush(other_app, redis_url=eager.jobpush.config.redis_url, prefix="other")
    task = other_app.task(name="encode", shared=False)(other.track(user="user_id", title="Other")(encode))

    task.delay(eager.user)
    eager.app.tasks["encode"].delay(eager.user, "cat.mov")

    assert [event.title for event in other.tasks(eager.user)] == ["Other"]
    assert only_task(eager).title == "Encode cat.mov"
