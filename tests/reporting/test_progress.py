"""Progress calls of task code, and the events that the user receives."""

from __future__ import annotations

import contextvars
import logging
import math
import threading
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from itertools import islice
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from billiard.exceptions import SoftTimeLimitExceeded
from celery._state import _task_stack

from jobpush import TaskCancelled, progress
from jobpush.config import Config
from jobpush.events import TaskState
from jobpush.queues.celery import publishing
from jobpush.reporting import rate
from jobpush.reporting.identity import TaskIdentity
from jobpush.reporting.running_task import RunningTask
from jobpush.reporting.task_log import MAX_LINE_LENGTH
from jobpush.store.keys import Keys
from jobpush.store.messages import read_event
from jobpush.testing import FakeClock
from tests.celery_site.watched_tasks import make_app

if TYPE_CHECKING:
    from tests.celery_site.site import Eager


class Unsendable:
    def __json__(self) -> object:
        raise RuntimeError("no")


def last_of(eager: Eager, body: Any) -> Any:
    return eager.run(eager.task()(body))[-1]


def test_progress_outside_a_task_does_nothing() -> None:
    progress.update(1, total=2, message="so what", url="/")
    progress.advance()
    progress.log("nobody hears")
    progress.raise_if_cancelled()
    with progress.stage("one", weight=50):
        assert list(progress.iter([1, 2])) == [1, 2]
    assert not progress.is_cancelled


def test_data_may_have_any_name(eager: Eager) -> None:
    def body() -> None:
        progress.update(1, **{"self": 1, "state": "x", "a b": 2})
        progress.advance(**{"self": 3})

    assert last_of(eager, body).data == {"self": 3, "state": "x", "a b": 2}


def test_eager_task_shows_the_same_states_in_order(eager: Eager) -> None:
    task_id = eager.app.tasks["encode"].apply((eager.user, "cat.mov")).id

    eager.listener.until_final(task_id)

    eager.listener.assert_states("PENDING", "STARTED", "PROGRESS", "SUCCESS", task_id=task_id)


def test_eager_retry_continues_the_same_bar(eager: Eager) -> None:
    task_id = eager.app.tasks["retries"].apply((eager.user, 1)).id

    eager.listener.until_final(task_id)

    retried = ("PENDING", "STARTED", "PROGRESS", "RETRY")
    eager.listener.assert_states(*retried, "STARTED", "PROGRESS", "SUCCESS", task_id=task_id)
    assert len({event.created_at for event in eager.listener.of(task_id)}) == 1


def test_omitted_values_stay_unchanged(eager: Eager) -> None:
    def body() -> None:
        progress.update(1, total=4, message="one", a=1)
        progress.update(2, b=2)
        progress.advance()
        progress.advance(0.5, a=3)

    last = last_of(eager, body)

    assert (last.current, last.total, last.message, dict(last.data)) == (3.5, 4, "one", {"a": 3, "b": 2})


def test_total_can_become_unknown_again(eager: Eager) -> None:
    def body() -> None:
        progress.update(1, total=4)
        progress.update(total=None)
        raise ValueError

    last = last_of(eager, body)

    assert (last.current, last.total, last.percent) == (1, None, None)


def test_iter_counts_an_item_when_the_next_is_requested(eager: Eager) -> None:
    def body() -> None:
        for number in progress.iter(["a", "b", "c"], message="reading"):
            if number == "c":
                break

    last = last_of(eager, body)

    assert (last.current, last.total, last.message) == (2, 3, "reading")


def test_iter_over_a_generator_has_no_total(eager: Eager) -> None:
    def body() -> None:
        for _ in progress.iter(number for number in range(3)):
            pass

    last = last_of(eager, body)

    assert (last.current, last.total) == (3, None)


@pytest.mark.parametrize("amount", [math.nan, math.inf, "7", None, object(), 10**400, True])
def test_invalid_amount_is_omitted_with_one_log_line(
    eager: Eager, caplog: pytest.LogCaptureFixture, amount: Any
) -> None:
    def body() -> None:
        progress.update(3, total=10)
        eager.listener.until_state(TaskState.PROGRESS)
        for _ in range(3):
            progress.update(amount)

    with caplog.at_level(logging.WARNING, "jobpush"):
        last = last_of(eager, body)

    assert (last.current, last.total) == (3, 10)
    assert len(caplog.records) == (0 if amount is None else 1)


@pytest.mark.parametrize(
    ("current", "total", "shown"),
    [(-1, 10, (0, 10)), (11, 10, (10, 10)), (5, 0, (5, None)), (5, -1, (5, None)), (Decimal("1.5"), 2, (1.5, 2))],
)
def test_amounts_never_make_a_broken_bar(eager: Eager, current: Any, total: Any, shown: tuple[Any, Any]) -> None:
    last = last_of(eager, lambda: progress.update(current, total=total))

    assert (last.current, last.total) == shown


@pytest.mark.parametrize("data", [{"x": object()}, {"x": math.nan}, {"x": "y" * 20_000}, {"x": {1, 2}}])
def test_data_that_cannot_be_encoded_is_omitted_with_one_log_line(
    eager: Eager, caplog: pytest.LogCaptureFixture, data: dict[str, Any]
) -> None:
    def body() -> None:
        for number in range(3):
            progress.update(number, **data)

    with caplog.at_level(logging.WARNING, "jobpush"):
        last = last_of(eager, body)

    assert (last.state, last.current, dict(last.data)) == (TaskState.SUCCESS, 2, {})
    assert len(caplog.records) == 1


@pytest.mark.parametrize("bad", [object(), math.nan, "y" * 20_000, {1, 2}, Unsendable()])
def test_only_the_value_that_cannot_be_encoded_is_omitted_and_named(
    eager: Eager, caplog: pytest.LogCaptureFixture, bad: Any
) -> None:
    def body() -> object:
        progress.update(1, url="/m", loss=Decimal("0.1"))
        progress.update(2, bad=bad, at=datetime(2026, 1, 2))
        progress.update(3, bad=bad)
        return bad

    with caplog.at_level(logging.WARNING, "jobpush"):
        last = eager.run(eager.task(result=True)(body))[-1]

    assert dict(last.data) == {"url": "/m", "loss": "0.1", "at": "2026-01-02T00:00:00"}
    assert sum("data 'bad'" in record.message for record in caplog.records) == 1
    assert sum("its result" in record.message for record in caplog.records) == 1


def test_value_that_can_be_encoded_again_is_shown_again(eager: Eager) -> None:
    def body() -> None:
        progress.update(1, loss=math.nan)
        eager.listener.until_state(TaskState.PROGRESS)
        progress.update(2, loss=0.5)

    assert dict(last_of(eager, body).data) == {"loss": 0.5}


def test_largest_of_too_large_values_is_omitted(eager: Eager, caplog: pytest.LogCaptureFixture) -> None:
    def body() -> None:
        progress.update(1, small="a" * 3_000, large="b" * 6_000, medium="c" * 4_000)

    with caplog.at_level(logging.WARNING, "jobpush"):
        last = last_of(eager, body)

    assert set(last.data) == {"small", "medium"}
    assert "data 'large'" in caplog.text


def test_oversized_result_is_omitted_alone(eager: Eager, caplog: pytest.LogCaptureFixture) -> None:
    def body() -> str:
        progress.update(1, total=2, url="/media/1.mp4")
        return "y" * 20_000

    with caplog.at_level(logging.WARNING, "jobpush"):
        last = eager.run(eager.task(result=True)(body))[-1]

    assert dict(last.data) == {"url": "/media/1.mp4"}
    assert "without its result" in caplog.text


@pytest.mark.parametrize(
    ("message", "shown"), [(7, "7"), ("x" * 5_000, "x" * 499 + "…"), ("\ud800 <b>", "\\ud800 <b>")]
)
def test_any_message_is_sent_as_text(eager: Eager, message: Any, shown: str) -> None:
    assert last_of(eager, lambda: progress.update(message=message)).message == shown


def test_message_without_a_text_form_does_not_end_the_task(eager: Eager, caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        def __str__(self) -> str:
            raise RuntimeError("no")

    with caplog.at_level(logging.WARNING, "jobpush"):
        last = last_of(eager, lambda: progress.update(1, message=Broken()))  # type: ignore[arg-type]

    assert (last.state, last.current, last.message) == (TaskState.SUCCESS, 1, "")
    assert len(caplog.records) == 1


def test_extreme_floats_are_sent(eager: Eager, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate, "_MIN_TIME", 0.0)

    def body() -> None:
        for current in (0.0, 5e-324, 1e-323, 1e300):
            progress.update(current, total=1e308)
            eager.listener.until_state(TaskState.PROGRESS)

    assert last_of(eager, body).state is TaskState.SUCCESS


def test_task_runs_with_invalid_jobpush_settings(user: str, caplog: pytest.LogCaptureFixture) -> None:
    app, _ = make_app("memory://", "nonsense://host")

    assert app.tasks["encode"].apply((user, "cat.mov")).result == "cat.mov"

    assert "runs without its progress being published" in caplog.text
    app.close()


def test_stages_make_one_bar_that_never_goes_back(eager: Eager) -> None:
    def body() -> None:
        with progress.stage("probing", weight=10, total=2):
            progress.update(1)
        with progress.stage("encoding", weight=80):
            for _ in progress.iter(range(4)):
                pass
        progress.stage("thumbnail")
        progress.update(1, total=2)
        raise ValueError  # SUCCESS would say 100 by itself

    events = eager.run(eager.task()(body))

    percents = [event.percent for event in events if event.percent is not None]
    assert percents == sorted(percents)
    assert events[-1].percent == 95.0
    assert events[-1].data["stage"] == "thumbnail"


def test_weights_beyond_100_are_cut(eager: Eager) -> None:
    def body() -> None:
        for name in ("one", "two", "three"):
            with progress.stage(name, weight=60):
                progress.update(1, total=2)
        raise ValueError

    assert last_of(eager, body).percent == 100.0


def test_stage_without_weight_takes_the_rest(eager: Eager) -> None:
    def body() -> None:
        progress.stage("first", weight=40)
        progress.stage("second", weight=math.nan)
        progress.update(1, total=2)
        raise ValueError

    assert last_of(eager, body).percent == 70.0


class Unruly:
    """An object of the application that raises whatever is asked of it."""

    def __str__(self) -> str:
        raise RuntimeError("no text")

    def __len__(self) -> int:
        raise TypeError("no length")

    def __iter__(self) -> Iterator[int]:
        return iter((1, 2))


def test_any_numeric_object_is_a_weight(eager: Eager) -> None:
    def body() -> None:
        progress.stage("first", weight=Decimal(40))  # type: ignore[arg-type]
        progress.stage("second", weight=Fraction(20))  # type: ignore[arg-type]
        progress.update(1, total=2)
        raise ValueError

    assert last_of(eager, body).percent == 50.0


@pytest.mark.parametrize(
    "say",
    [
        lambda: progress.stage("one", weight="5"),  # type: ignore[arg-type]
        lambda: progress.stage("one", weight=Unruly()),  # type: ignore[arg-type]
        lambda: progress.stage(Unruly(), weight=5),  # type: ignore[arg-type]
        lambda: progress.log("a line", Unruly()),  # type: ignore[arg-type]
    ],
)
def test_invalid_progress_calls_do_not_end_the_task(
    eager: Eager, caplog: pytest.LogCaptureFixture, say: Callable[[], object]
) -> None:
    def body() -> None:
        for _ in range(2):
            say()

    with caplog.at_level(logging.WARNING, "jobpush"):
        last = last_of(eager, body)

    assert last.state is TaskState.SUCCESS
    assert len(caplog.records) == 1


@pytest.mark.parametrize(("items", "count"), [(Unruly(), 2), (range(10**20), 3)])
def test_iterable_without_a_usable_length_has_no_total(eager: Eager, items: Iterable[int], count: int) -> None:
    def body() -> None:
        for _ in islice(progress.iter(items), count):
            pass

    last = last_of(eager, body)

    assert (last.state, last.total) == (TaskState.SUCCESS, None)


def test_time_limit_during_len_is_raised_in_the_task() -> None:
    class Endless(Unruly):
        def __len__(self) -> int:
            raise SoftTimeLimitExceeded

    with pytest.raises(SoftTimeLimitExceeded):
        next(iter(progress.iter(Endless())))


@pytest.mark.parametrize("call", ["start", "publish_now"])
def test_time_limit_during_a_redis_call_is_raised_in_the_task(
    eager: Eager, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def interrupted(*args: Any) -> None:
        raise SoftTimeLimitExceeded

    child = eager.task()(lambda: None)
    monkeypatch.setattr(eager.jobpush._runtime.publisher, call, interrupted)

    with pytest.raises(SoftTimeLimitExceeded):
        if call == "start":
            child.apply(throw=True)
        else:
            child.apply_async()
    assert eager.jobpush._runtime.publisher.flush()


def test_time_limit_during_the_publish_of_a_retry_is_ignored(eager: Eager, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next attempt is in the queue by then, and the task that was limited would have ended for its user."""

    def interrupted(*args: Any) -> None:
        raise SoftTimeLimitExceeded

    task = eager.app.tasks["encode"]
    monkeypatch.setattr(publishing, "_publish_tracked", lambda *args, **kwargs: interrupted())
    _task_stack.push(task)
    task.push_request(id="one")
    try:
        assert task.apply_async((eager.user, "cat.mov"), task_id="one").id == "one"
        with pytest.raises(SoftTimeLimitExceeded):
            task.apply_async((eager.user, "cat.mov"), task_id="another")
    finally:
        task.pop_request()
        _task_stack.pop()


def test_time_limit_during_the_owner_lookup_is_raised_in_the_task(eager: Eager) -> None:
    def slow(**arguments: Any) -> str:
        raise SoftTimeLimitExceeded

    with pytest.raises(SoftTimeLimitExceeded):
        eager.task(user=slow)(lambda: None).apply_async()


def test_amount_done_before_the_start_does_not_count_as_rate() -> None:
    clock = FakeClock(0.0)
    publisher: Any = SimpleNamespace(changed=lambda task: None)
    this = RunningTask(TaskIdentity("t", "u", "n", "n", 1.0), publisher, Config(), clock)
    this.snapshot(TaskState.STARTED)

    for done in range(5000, 5100, 20):
        this.current, this.total = done, 9_000
        last = this.snapshot()
        clock.advance(1.0)

    assert last.rate == pytest.approx(20)
    assert last.eta == pytest.approx((9_000 - 5080) / 20)


def test_stage_without_total_stays_at_its_start(eager: Eager) -> None:
    def body() -> None:
        progress.stage("first", weight=30)
        progress.stage("second", weight=30)
        progress.update(500)
        raise ValueError

    last = last_of(eager, body)

    assert (last.current, last.percent, last.message) == (500, 30.0, "second")


def test_stages_without_weights_share_the_bar_as_in_earlier_runs(eager: Eager) -> None:
    def body() -> None:
        for name in ("probing", "encoding", "thumbnail"):
            with progress.stage(name):
                progress.update(1, total=2)
                eager.jobpush._runtime.publisher.flush()

    task = eager.task("encode_in_stages")(body)
    eager.jobpush._runtime.store.record_durations(
        "encode_in_stages", {"probing": 10.0, "encoding": 80.0, "thumbnail": 10.0}
    )

    events = eager.run(task)

    # The first event of each stage; the end of a stage may be published too.
    at_half = {event.message: event.percent for event in reversed(events) if event.current == 1}
    assert at_half == {"probing": 5.0, "encoding": 50.0, "thumbnail": 95.0}


def test_successful_run_sets_the_stage_shares_of_the_next(eager: Eager) -> None:
    def body(fails: bool) -> None:
        progress.stage("probing")
        progress.stage("encoding", weight=90)
        if fails:
            raise ValueError

    task = eager.task("teaches")(body)
    keys = Keys("jobpush")

    eager.run(task, True)
    eager.jobpush._runtime.publisher.flush()
    assert not eager.redis.exists(keys.stages("teaches"))
    eager.run(task, False)
    eager.jobpush._runtime.publisher.flush()

    assert set(eager.redis.hgetall(keys.stages("teaches"))) == {b"probing", b"encoding"}
    assert 0 < eager.redis.ttl(keys.stages("teaches")) <= 30 * 86_400


def test_one_forecast_covers_all_stages() -> None:
    clock = FakeClock(1_000.0)
    publisher: Any = SimpleNamespace(changed=lambda task: None)  # no thread reads it
    task = RunningTask(TaskIdentity("t", "u", "n", "n", 1.0), publisher, Config(), clock)
    task.known_durations = {"probing": 10.0, "encoding": 80.0, "thumbnail": 10.0}
    left = []

    for name, seconds, total in (("probing", 10, None), ("encoding", 80, 8_000), ("thumbnail", 10, None)):
        task.begin_stage(name, weight=None, total=total)
        for second in range(seconds):
            task.current = 100.0 * second if total else 0
            left.append(task.snapshot().eta)
            clock.advance(1)

    assert left[:12] == [None] * 12  # nothing has been seen that has a size
    assert left[13:] == [pytest.approx(100 - second, abs=0.01) for second in range(13, 100)]


def test_pending_progress_is_published_before_the_end() -> None:
    publisher: Any = SimpleNamespace(changed=lambda task: None)
    task = RunningTask(TaskIdentity("t", "u", "n", "n", 1.0), publisher, Config())
    task.current, task.total = 1, 2
    task.mark_changed()

    task.due_at = 1.0  # the publisher's thread has taken it
    task.snapshot()
    words = task.final_writes(TaskState.RETRY)

    assert [write.event.state.value for write in words] == ["PROGRESS", "RETRY"]


def test_log_sends_lines_of_text(eager: Eager) -> None:
    def body() -> None:
        progress.log("first")
        progress.log("careful", level="warning")

    eager.run(eager.task()(body))
    eager.listener.until_final(eager.app.tasks["encode"].apply((eager.user, "next")).id)

    lines = [message for message in eager.listener.messages if b'"event":"jobpush:log"' in message]
    assert [b"first" in lines[0], b"warning" in lines[1], len(lines)] == [True, True, 2]


def test_threads_with_a_copied_context_move_the_bar(eager: Eager) -> None:
    def body() -> None:
        thread = threading.Thread(target=contextvars.copy_context().run, args=(progress.update, 7))
        thread.start()
        thread.join()

    assert last_of(eager, body).current == 7


def test_inner_task_has_its_own_bar(eager: Eager) -> None:
    inner = eager.task("inner")(lambda: progress.update(1, total=2))

    def body() -> None:
        progress.update(5, total=10)
        inner.apply()
        progress.advance()

    outer = eager.task("outer")(body)
    outer_id = outer.apply().id
    last = eager.listener.until_final(outer_id)

    assert (last.current, last.total) == (6, 10)
    inner_last = next(e for e in eager.listener.events if e.name == "inner" and e.state.is_final)
    assert (inner_last.current, inner_last.total) == (1, 2)


def test_task_called_as_a_function_moves_the_callers_bar(eager: Eager) -> None:
    helper = eager.task("helper")(lambda: progress.update(3))

    last = last_of(eager, lambda: helper())

    assert last.current == 3
    assert {event.name for event in eager.listener.events} == {"eager"}


def test_cancelled_passes_except_exception(eager: Eager) -> None:
    met: list[str] = []

    def body() -> None:
        task_id = eager.listener.until_state(TaskState.STARTED).task_id
        eager.jobpush.cancel(task_id)
        try:
            while True:
                try:
                    progress.update(1, total=2)
                except Exception:
                    met.append("swallowed")
        except TaskCancelled:
            met.append("cancelled")
            assert progress.is_cancelled
            raise
        finally:
            met.append("cleaned up")

    events = eager.run(eager.task()(body))

    assert met == ["cancelled", "cleaned up"]
    assert events[-1].state is TaskState.REVOKED


def test_polling_for_a_cancel_works_without_progress_calls(eager: Eager) -> None:
    def body() -> None:
        eager.jobpush.cancel(eager.listener.until_state(TaskState.STARTED).task_id)
        while not progress.is_cancelled:
            pass
        progress.raise_if_cancelled()

    assert last_of(eager, body).state is TaskState.REVOKED


def test_amounts_after_an_invalid_one_count(eager: Eager) -> None:
    def body() -> None:
        progress.update(math.nan, total=10)
        eager.listener.until_state(TaskState.PROGRESS)
        for _ in range(4):
            progress.advance(1)

    last = last_of(eager, body)

    assert (last.current, last.total) == (4, 10)


def test_amounts_after_an_invalid_total_count(eager: Eager) -> None:
    def body() -> None:
        progress.update(1, total=math.nan)
        eager.listener.until_state(TaskState.PROGRESS)
        progress.update(7)

    last = last_of(eager, body)

    assert (last.current, last.total) == (7, None)


def test_advance_by_a_non_number_does_not_end_the_task(eager: Eager) -> None:
    def body() -> None:
        progress.update(2, total=4)
        progress.advance("x")  # type: ignore[arg-type]
        progress.advance(1)

    last = last_of(eager, body)

    assert (last.state, last.current) == (TaskState.SUCCESS, 3)


def test_bar_never_goes_back_for_any_progress_calls(eager: Eager) -> None:
    def body() -> None:
        progress.update(8, total=10)
        eager.listener.until_state(TaskState.PROGRESS)
        progress.update(1, total=10)
        progress.update(data="sent")
        eager.listener.until(lambda event: event.data.get("data") == "sent")

    events = eager.run(eager.task()(body))

    percents = [event.percent for event in events if event.state is TaskState.PROGRESS]
    assert percents == sorted(percents)
    assert percents[-1] == 80.0


def test_log_lines_are_text_of_bounded_length(eager: Eager) -> None:
    def body() -> None:
        progress.log(ValueError("boom"))  # type: ignore[arg-type]
        progress.log("x" * 10_000)
        progress.log("after")

    eager.run(eager.task()(body))
    eager.listener.until_final(eager.app.tasks["encode"].apply((eager.user, "next")).id)

    lines = [message for message in eager.listener.messages if b'"event":"jobpush:log"' in message]
    texts = [read_event(line.partition(b"\n")[2])[1]["message"] for line in lines]
    assert texts == ["boom", "x" * (MAX_LINE_LENGTH - 1) + "…", "after"]
