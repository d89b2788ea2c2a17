"""Progress from threads that have no copy of their task's context."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import os
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from jobpush import TaskCancelled, progress
from tests.celery_site.site import Eager

THREADS, UNITS = 4, 2_000


def count_up() -> None:
    for _ in range(UNITS):
        progress.advance(1)


def in_a_pool() -> None:
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(lambda _: count_up(), range(THREADS)))


def in_threads() -> None:
    threads = [threading.Thread(target=count_up) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def run_loop(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run an event loop in a thread of its own: the browser of other tests may run one in this thread."""
    thread = threading.Thread(target=asyncio.run, args=(coroutine,))
    thread.start()
    thread.join()


def in_asyncio_threads() -> None:
    async def main() -> None:
        await asyncio.gather(*(asyncio.to_thread(count_up) for _ in range(THREADS)))

    run_loop(main())


def in_an_executor_of_asyncio() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        await asyncio.gather(*(loop.run_in_executor(None, count_up) for _ in range(THREADS)))

    run_loop(main())


def in_a_thread_of_a_thread() -> None:
    thread = threading.Thread(target=in_threads)
    thread.start()
    thread.join()


@pytest.mark.parametrize(
    "work", [in_a_pool, in_threads, in_asyncio_threads, in_an_executor_of_asyncio, in_a_thread_of_a_thread]
)
def test_units_of_several_threads_are_counted_exactly(eager: Eager, work: Callable[[], None]) -> None:
    def body() -> None:
        progress.update(0, total=THREADS * UNITS)
        work()

    assert eager.run(eager.task()(body))[-1].current == THREADS * UNITS


def test_data_of_several_threads_is_merged(eager: Eager) -> None:
    def report(number: int) -> None:
        for value in range(200):
            progress.update(**{f"thread {number}": value})

    def body() -> None:
        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(report, range(THREADS)))

    assert dict(eager.run(eager.task()(body))[-1].data) == {f"thread {number}": 199 for number in range(THREADS)}


def test_thread_started_before_the_task_needs_the_context_and_one_line_explains_it(
    eager: Eager, caplog: pytest.LogCaptureFixture
) -> None:
    pool = ThreadPoolExecutor(1)
    pool.submit(int).result()

    def body() -> None:
        for _ in range(3):
            pool.submit(progress.advance, 1).result()
        for _ in range(2):
            pool.submit(contextvars.copy_context().run, progress.advance, 1).result()

    with caplog.at_level(logging.WARNING, "jobpush"):
        last = eager.run(eager.task()(body))[-1]
    pool.shutdown()

    assert last.current == 2
    assert caplog.text.count("copy_context().run") == 1


def test_thread_of_concurrent_tasks_is_not_guessed(eager: Eager, caplog: pytest.LogCaptureFixture) -> None:
    """As in a pool of threads: each task runs in a thread of its own."""

    def body() -> None:
        threads = [threading.Thread(target=progress.advance, args=(1,)) for _ in range(2)]
        for thread in threads:
            thread.start()
            thread.join()

    task = eager.task()(body)
    events: list[Any] = []

    with caplog.at_level(logging.WARNING, "jobpush"):
        worker = threading.Thread(target=lambda: events.extend(eager.run(task)))
        worker.start()
        worker.join()

    assert events[-1].current == 0
    assert caplog.text.count("copy_context().run") == 1


def test_thread_counts_for_the_inner_task_that_started_it(eager: Eager) -> None:
    inner = eager.task("inner")(in_threads)

    def body() -> None:
        progress.update(7)
        inner.apply()

    task_id = eager.task("outer")(body).apply().id
    eager.listener.until_final(task_id)

    currents = {event.name: event.current for event in eager.listener.events}
    assert currents == {"inner": THREADS * UNITS, "outer": 7}


def test_thread_that_outlives_its_task_moves_no_other_bar(eager: Eager, caplog: pytest.LogCaptureFixture) -> None:
    go_on, done = threading.Event(), threading.Event()

    def wait() -> None:
        progress.advance(1)
        go_on.wait()
        progress.advance(1)
        done.set()

    def inner_body() -> None:
        threading.Thread(target=wait).start()

    def outer_body() -> None:
        eager.task("leaves_a_thread")(inner_body).apply()
        go_on.set()
        done.wait()

    with caplog.at_level(logging.WARNING, "jobpush"):
        last = eager.run(eager.task("outer")(outer_body))[-1]

    assert last.current == 0
    assert "after its end" in caplog.text


def test_progress_of_a_thread_outside_any_task_does_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "jobpush"):
        in_threads()

    assert not caplog.records


def test_forked_child_that_exits_is_no_end_of_the_task(eager: Eager) -> None:
    @eager.task()
    def forking() -> None:
        if (pid := os.fork()) == 0:
            raise SystemExit(3)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 3

    own_pid = os.getpid()
    try:
        events = eager.run(forking)
    except BaseException as exc:
        if os.getpid() == own_pid:
            raise
        os._exit(getattr(exc, "code", 1))

    assert events[-1].state.value == "SUCCESS"


def test_cancel_reaches_helper_threads_and_spares_the_clean_up(eager: Eager) -> None:
    cleaned: list[str] = []

    def work() -> None:
        try:
            while True:
                progress.advance(1)
        finally:
            progress.update(message="cleaning a thread")
            cleaned.append("thread")

    def body() -> None:
        with ThreadPoolExecutor(2) as pool:
            futures = [pool.submit(work) for _ in range(3)]
            _cancel_own_task(eager)
            try:
                for future in futures:
                    future.result()
            finally:
                progress.update(message="removing the temporary file")
                cleaned.append("task")

    last = eager.run(eager.task()(body))[-1]

    assert last.state.value == "REVOKED"
    assert sorted(cleaned) == ["task", "thread", "thread", "thread"]


def test_threads_of_the_clean_up_are_not_cancelled(eager: Eager) -> None:
    removed: list[str] = []

    def remove(name: str) -> None:
        progress.advance(1)
        removed.append(name)

    def body() -> None:
        with ThreadPoolExecutor(2) as pool:
            try:
                _cancel_own_task(eager)
                progress.update(1)
            finally:
                pool.submit(remove, "in a thread of the clean-up").result()
                with ThreadPoolExecutor(2) as others:
                    list(others.map(remove, "ab"))

    last = eager.run(eager.task()(body))[-1]

    assert last.state.value == "REVOKED"
    assert sorted(removed) == ["a", "b", "in a thread of the clean-up"]


def test_handled_cancel_of_a_thread_still_cancels_the_task(eager: Eager) -> None:
    def work() -> None:
        try:
            progress.advance(1)
        except TaskCancelled:
            progress.update(message="a thread has ended")

    def body() -> None:
        _cancel_own_task(eager)
        with ThreadPoolExecutor(1) as pool:
            pool.submit(work).result()
        progress.update(1)
        pytest.fail("the task continued")

    assert eager.run(eager.task()(body))[-1].state.value == "REVOKED"


def _cancel_own_task(eager: Eager) -> None:
    from jobpush.reporting.progress import current_progress

    this = current_progress()
    assert this is not None
    eager.jobpush._runtime.running.cancel(this.tracked.task_id)


@pytest.mark.parametrize(
    "report",
    [
        lambda: progress.update(message="cleaning"),
        lambda: progress.advance(1),
        lambda: progress.stage("cleaning"),
        lambda: progress.raise_if_cancelled(),
        lambda: list(progress.iter([1, 2])),
    ],
)
@pytest.mark.parametrize("is_left", [False, True])
def test_cancelled_is_raised_once_so_clean_up_completes(
    eager: Eager, report: Callable[[], object], is_left: bool
) -> None:
    steps: list[str] = []

    def body() -> None:
        try:
            _cancel_own_task(eager)
            progress.update(1)
            steps.append("not reached")
        except TaskCancelled:
            if not is_left:
                raise
            steps.append("caught")
        finally:
            report()
            steps.append("cleaned")
        report()  # as code does that goes on to its end
        raise TaskCancelled("own")

    last = eager.run(eager.task()(body))[-1]

    assert last.state.value == "REVOKED"
    assert steps == (["caught", "cleaned"] if is_left else ["cleaned"])
