"""The forms of ``track``, and its handling of arguments, ids and ``update_state()``."""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from functools import partial
from typing import Any

import pytest
from celery import Task, shared_task
from celery.exceptions import Ignore, Retry
from celery.states import ALL_STATES
from pydantic import BaseModel

from jobpush import JobPush, progress
from jobpush.errors import ConfigurationError
from jobpush.events import TaskEvent, TaskState
from jobpush.queues.celery.arguments import UnknownResult
from jobpush.queues.celery.track_options import options_of
from jobpush.queues.celery.update_state import progress_of
from tests.celery_site.site import Eager

#: The message header with the user, for tasks whose ``track`` names none.
USER_HEADER = "jobpush_user"


def run(eager: Eager, task: Any, *args: Any, **options: Any) -> list[TaskEvent]:
    """Run a task for the test's user; return its events."""
    task_id = task.apply(args, headers={USER_HEADER: eager.user}, **options).id
    eager.listener.until_final(str(task_id))
    return eager.listener.of(str(task_id))


# -- without parentheses -----------------------------------------------------------------------------


def below(eager: Eager, bind: bool) -> Any:
    def body(*args: int) -> int:
        return int(args[-1]) + 1

    return eager.app.task(name="below", bind=bind, shared=False)(eager.jobpush.track(body))


def above_lazy(eager: Eager, bind: bool) -> Any:
    def body(*args: int) -> int:
        return int(args[-1]) + 1

    return eager.jobpush.track(eager.app.task(name="above_lazy", bind=bind, shared=False)(body))


def above_made(eager: Eager, bind: bool) -> Any:
    def body(*args: int) -> int:
        return int(args[-1]) + 1

    task = eager.app.task(name="above_made", bind=bind, shared=False)(body)
    assert task.name
    return eager.jobpush.track(task)


def above_shared(eager: Eager, bind: bool) -> Any:
    def body(*args: int) -> int:
        return int(args[-1]) + 1

    eager.app.set_current()
    return eager.jobpush.track(shared_task(name=f"above_shared_{bind}", bind=bind)(body))


@pytest.mark.parametrize("bind", [False, True])
@pytest.mark.parametrize("make", [below, above_lazy, above_made, above_shared])
def test_track_works_without_parentheses(eager: Eager, make: Callable[[Eager, bool], Any], bind: bool) -> None:
    task = make(eager, bind)

    assert [event.state for event in run(eager, task, 41)][-1] is TaskState.SUCCESS
    assert task.apply((41,)).get() == 42
    options = options_of(task)
    assert options is not None and options.user is None


def test_named_function_is_still_a_user(eager: Eager) -> None:
    def owner(number: int) -> str:
        return eager.user

    @eager.app.task(name="owned", shared=False)
    @eager.jobpush.track(owner)
    def body(number: int) -> int:
        return number + 1

    assert eager.run(body, 41)[-1].state is TaskState.SUCCESS


# -- async def ---------------------------------------------------------------------------------------


async def coroutine(user_id: str) -> None:
    """A function that Celery would call without awaiting it."""


async def generator(user_id: str) -> Any:
    yield user_id


class AsyncCall:
    """An object with an asynchronous call."""

    async def __call__(self, user_id: str) -> None:
        pass


@pytest.mark.parametrize("function", [coroutine, generator, partial(coroutine), AsyncCall()])
def test_async_def_is_refused_at_decoration(eager: Eager, function: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"async def, which Celery does not await: .* asyncio\.run\(\)"):
        eager.jobpush.track(user="user_id")(function)


def test_async_def_is_refused_in_every_form(eager: Eager) -> None:
    with pytest.raises(ConfigurationError, match="async def"):
        eager.jobpush.track(coroutine)
    with pytest.raises(ConfigurationError, match="async def"):
        eager.jobpush.track(eager.app.task(name="lazy_coroutine", shared=False)(coroutine))


def test_async_def_of_a_task_class_is_refused(eager: Eager) -> None:
    class AsyncTask(Task):
        name = "asynchronous"

        async def run(self, user_id: str) -> None:
            """Return a coroutine."""

    with pytest.raises(ConfigurationError, match="async def"):
        eager.jobpush.track(user="user_id")(eager.app.register_task(AsyncTask()))


def test_coroutine_that_nothing_awaits_is_a_failure(eager: Eager) -> None:
    returned = coroutine("")
    task = eager.task()(lambda user_id: returned)

    event = eager.run(task, eager.user)[-1]
    returned.close()

    assert (event.state, event.error_code) == (TaskState.FAILURE, "not_awaited")


def test_coroutine_that_the_task_class_awaits_is_a_success(eager: Eager) -> None:
    class Awaiting(Task):
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            with ThreadPoolExecutor(1) as threads:
                return threads.submit(asyncio.run, self.run(*args, **kwargs)).result()

    @eager.app.task(name="awaited", base=Awaiting, shared=False)
    @eager.jobpush.track(user="user_id")
    def awaited(user_id: str) -> Any:
        return coroutine(user_id)

    assert eager.run(awaited, eager.user)[-1].state is TaskState.SUCCESS


def test_def_that_runs_a_coroutine_is_tracked(eager: Eager) -> None:
    async def work() -> None:
        await asyncio.sleep(0)
        progress.update(1, total=2)

    task = eager.task()(lambda: asyncio.run(work()))
    with ThreadPoolExecutor(1) as threads:  # the main thread may run Playwright's event loop
        event = threads.submit(eager.run, task).result()[-1]

    assert (event.state, event.current) == (TaskState.SUCCESS, 1)


# -- pydantic ----------------------------------------------------------------------------------------


class Job(BaseModel):
    """A model used as a task argument."""

    user_id: str
    filename: str

    @property
    def owner(self) -> str:
        return self.user_id


@pytest.mark.parametrize("owner", [lambda job: job.user_id, lambda job: job["user_id"], lambda job: job.owner])
@pytest.mark.parametrize("title", ["{job.filename}", "{job[filename]}"])
@pytest.mark.parametrize("given", [lambda job: job, lambda job: job.model_dump()])
def test_dotted_path_reads_models_and_mappings(
    eager: Eager, owner: Callable[..., str], title: str, given: Callable[[Job], Any]
) -> None:
    @eager.app.task(name="convert", pydantic=True, shared=False)
    @eager.jobpush.track(user=owner, title=title)
    def convert(job: Job | None = None) -> str:
        return job.filename if job is not None else ""

    job = Job(user_id=eager.user, filename="cat.mov")
    published = convert.delay(given(job).model_dump() if isinstance(given(job), Job) else given(job)).id
    ran = eager.run(convert, given(job))

    assert ran[-1].state is TaskState.SUCCESS
    assert {event.title for event in ran} == {"cat.mov"}
    assert eager.jobpush.tasks(eager.user)[-1].title == "cat.mov"
    assert published in {event.task_id for event in eager.jobpush.tasks(eager.user)}


def test_list_of_models_is_read_as_the_task_receives_it(eager: Eager) -> None:
    @eager.app.task(name="convert_all", pydantic=True, shared=False)
    @eager.jobpush.track(user=lambda jobs: jobs[0]["user_id"], title="{jobs[0][filename]}")
    def convert_all(jobs: list[Job]) -> None:
        assert jobs[0]["filename"] == "cat.mov"  # type: ignore[index]

    events = eager.run(convert_all, [{"user_id": eager.user, "filename": "cat.mov"}])

    assert (events[-1].state, events[-1].title) == (TaskState.SUCCESS, "cat.mov")


def test_invalid_model_still_publishes_its_failure(eager: Eager) -> None:
    @eager.app.task(name="convert", pydantic=True, shared=False)
    @eager.jobpush.track(user=lambda job: job.user_id, title="{job.user_id}")
    def convert(job: Job) -> str:
        return job.filename if job is not None else ""

    convert.delay({"user_id": eager.user})

    assert eager.jobpush.tasks(eager.user)[0].title == eager.user


# -- arguments that are not known yet ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("user", "has_user"),
    [
        (lambda job, owner: owner, True),
        (lambda **arguments: arguments["owner"], True),
        (lambda job, owner: job.user_id, False),
        (lambda job, owner: job["user_id"], False),
        (lambda job, owner: owner if job is None or job else "nobody", False),
        (lambda job, owner: int(job), False),
        (lambda job, owner: job, False),
        ("job", False),
        ("owner", True),
    ],
)
@pytest.mark.parametrize("kind", [Any, Job])
def test_user_is_never_found_from_an_unknown_result(
    eager: Eager, caplog: pytest.LogCaptureFixture, user: Any, has_user: bool, kind: Any
) -> None:
    def body(job: Any, owner: str) -> None:
        """Do nothing."""

    body.__annotations__["job"] = kind
    task = eager.app.task(name="unknown", pydantic=True, shared=False)(eager.jobpush.track(user=user)(body))
    options = options_of(task)

    assert options is not None
    assert options.has_user(task, (UnknownResult(), "42"), {}, {}) is has_user
    assert not caplog.records


# -- ids ---------------------------------------------------------------------------------------------


class Id:
    """A custom id type of an application."""

    def __str__(self) -> str:
        return f"id-{id(self)}"


@pytest.mark.parametrize("make_id", [uuid.uuid4, uuid.uuid1, lambda: 42, Id, lambda: "text"])
def test_task_id_can_be_any_object_with_a_text(eager: Eager, make_id: Callable[[], Any]) -> None:
    @eager.app.task(name="fails_by_id", shared=False)
    @eager.jobpush.track(user=lambda: eager.user)
    def fails() -> None:
        raise ValueError("broke")

    task_id = make_id()
    result = fails.apply_async(task_id=task_id)
    assert result.id == str(task_id)
    eager.listener.until_state(TaskState.PENDING, str(task_id))

    fails.apply(task_id=task_id)
    assert eager.listener.until_final(str(task_id)).state is TaskState.FAILURE


# -- message protocol 1 ------------------------------------------------------------------------------


def test_message_of_protocol_1_is_tracked_from_its_publish(eager: Eager) -> None:
    eager.app.conf.task_protocol = 1

    task_id = eager.app.tasks["encode"].delay(eager.user, "cat.mov").id

    (event,) = eager.jobpush.tasks(eager.user)
    assert (event.task_id, event.state, event.title) == (task_id, TaskState.PENDING, "Encode cat.mov")
    assert eager.jobpush.cancel(task_id) is TaskState.REVOKED


# -- update_state ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("meta", "expected"),
    [
        ({"current": 3, "total": 10}, {"current": 3, "total": 10}),
        ({"current": 3, "total": 10, "status": "Resizing"}, {"current": 3, "total": 10, "message": "Resizing"}),
        ({"current": Decimal(3), "total": 10, "percent": 30.0, "description": ""}, {"current": 3, "total": 10}),
        ({"done": 3, "total": 10, "message": "x"}, {"current": 3, "total": 10, "message": "x"}),
        ({"percent": 30}, {"current": 30, "total": 100}),
        ({"percentage": "30 %"}, {"current": 30, "total": 100}),
        ({"process_percent": 30}, {"current": 30, "total": 100}),
        ({"progress": 0.3}, {"current": 30, "total": 100}),
        ({"progress": 30}, {"current": 30, "total": 100}),
        ({"progress": 1}, {"current": 1, "total": 100}),
        ({"step": "resize"}, {"message": "resize"}),
        ({"current": True, "exc_type": "ValueError"}, {}),
        ({}, {}),
    ],
)
def test_common_forms_of_meta_are_read(meta: dict[str, Any], expected: dict[str, Any]) -> None:
    assert progress_of(meta) == expected


@pytest.mark.parametrize("state", ["PROGRESS", "PROCESSING", "resizing"])
def test_update_state_moves_the_bar(eager: Eager, state: str) -> None:
    def body(self: Task, user_id: str) -> None:
        self.update_state(state=state, meta={"current": 3, "total": 10, "description": "resizing"})

    task = eager.app.task(bind=True, name="old", shared=False)(eager.jobpush.track(user="user_id")(body))

    last = eager.run(task, eager.user)[-1]
    assert (last.state, last.current, last.total, last.message) == (TaskState.SUCCESS, 3, 10, "resizing")


def test_celery_progress_moves_the_bar(eager: Eager) -> None:
    from celery_progress.backend import ProgressRecorder

    @eager.jobpush.track(user="user_id")
    @eager.app.task(bind=True, name="recorded", shared=False)
    def recorded(self: Task, user_id: str) -> None:
        ProgressRecorder(self).set_progress(3, 10, description="resizing")

    last = eager.run(recorded, eager.user)[-1]
    assert (last.current, last.total, last.message) == (3, 10, "resizing")


def test_update_state_from_another_thread_names_the_task(eager: Eager) -> None:
    def body(self: Task, user_id: str) -> None:
        def report(task_id: str) -> None:
            self.update_state(task_id, "PROGRESS", {"current": 3, "total": 10})

        for task_id in (self.request.id, "another"):
            thread = threading.Thread(target=report, args=[task_id])
            thread.start()
            thread.join()

    task = eager.app.task(bind=True, name="threaded", shared=False)(eager.jobpush.track(user="user_id")(body))

    assert eager.run(task, eager.user)[-1].current == 3


@pytest.mark.parametrize("state", sorted(ALL_STATES))
def test_celery_states_are_not_progress(eager: Eager, state: str) -> None:
    def body(self: Task, user_id: str) -> None:
        self.update_state(state=state, meta={"current": 3, "total": 10})

    task = eager.app.task(bind=True, name="states", shared=False)(eager.jobpush.track(user="user_id")(body))

    assert eager.run(task, eager.user)[-1].current == 0


def test_adopt_can_be_switched_off(eager: Eager) -> None:
    def body(self: Task, user_id: str) -> None:
        self.update_state(state="PROGRESS", meta={"current": 3, "total": 10})

    track = eager.jobpush.track(user="user_id", adopt=False)
    task = eager.app.task(bind=True, name="not_adopted", shared=False)(track(body))

    assert eager.run(task, eager.user)[-1].current == 0


# -- calls through a base class ----------------------------------------------------------------------


class Calling(Task):
    """Overrides ``__call__``, as many applications do."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return super().__call__(*args, **kwargs)


class Twice(Task):
    """Calls the task again if it fails."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().__call__(*args, **kwargs)
        except OSError:
            return super().__call__(*args, **kwargs)


class Running(Task):
    """Calls ``run`` itself."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.run(*args, **kwargs)


@pytest.mark.parametrize("base", [Calling, Twice, Running])
@pytest.mark.parametrize("error", [None, ValueError("broke")])
def test_eager_task_whose_base_class_wraps_the_call_ends(eager: Eager, base: Any, error: Exception | None) -> None:
    attempts = []

    def body(user_id: str) -> None:
        attempts.append(user_id)
        if base is Twice and len(attempts) == 1:
            raise OSError
        if error is not None:
            raise error

    task = eager.app.task(base=base, name="wrapped", shared=False)(eager.jobpush.track(user="user_id")(body))

    events = eager.run(task, eager.user)
    assert events[-1].state is (TaskState.SUCCESS if error is None else TaskState.FAILURE)
    assert [event.state for event in events].count(TaskState.PENDING) == 1
    assert TaskState.RETRY not in [event.state for event in events]  # the attempt is the same, as in a worker


def test_failure_that_the_task_stores_itself_keeps_its_text(eager: Eager, monkeypatch: pytest.MonkeyPatch) -> None:
    @eager.app.task(name="stores_failure", shared=False)
    @eager.jobpush.track(user="user_id")
    def stores_failure(user_id: str) -> None:
        raise Ignore

    stored = {"status": "FAILURE", "result": ValueError("why")}
    monkeypatch.setattr(stores_failure.backend, "get_task_meta", lambda task_id: stored)

    last = eager.run(stores_failure, eager.user)[-1]

    assert (last.state, last.error) == (TaskState.FAILURE, "why")


class Failing(Task):
    """Raises after the task has run."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        super().__call__(*args, **kwargs)
        raise ValueError("broke")


def raises(self: Task, user_id: str) -> None:
    raise ValueError("broke")


def retries(self: Task, user_id: str) -> None:
    raise self.retry(exc=ValueError("broke"), countdown=0)


@pytest.mark.parametrize(("base", "body"), [(Failing, lambda self, user_id: None), (Task, raises), (Task, retries)])
def test_eager_task_that_passes_its_exception_on_ends_with_its_text(eager: Eager, base: Any, body: Any) -> None:
    body.__name__ = "thrown"
    task = eager.app.task(bind=True, base=base, name="thrown", shared=False)(eager.jobpush.track(user="user_id")(body))

    with pytest.raises((ValueError, Retry)):
        task.apply((eager.user,), throw=True, task_id=eager.user)

    event = eager.listener.until_final(eager.user)
    assert (event.state, event.error) == (TaskState.FAILURE, "broke")


def test_task_that_calls_itself_directly_stays_one_task(eager: Eager) -> None:
    def body(self: Task, user_id: str, depth: int) -> None:
        progress.update(depth, total=3)
        if depth < 3:
            self(user_id, depth + 1)

    task = eager.app.task(bind=True, name="recursive", shared=False)(eager.jobpush.track(user="user_id")(body))

    last = eager.run(task, eager.user, 1)[-1]
    assert (last.state, last.current) == (TaskState.SUCCESS, 3)


def test_untracked_call_leaves_the_app_unchanged(eager: Eager) -> None:
    assert isinstance(eager.jobpush, JobPush)
    with pytest.raises(ConfigurationError, match="errors must be a mapping"):
        eager.jobpush.track("user_id", errors=[ValueError])  # type: ignore[arg-type]
