"""Lines of text that a task logs: in order, readable, bounded."""

from __future__ import annotations

import logging
import threading
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest

from jobpush import progress
from jobpush.events import TaskState, readable
from jobpush.processes.embedded import EmbeddedRedis
from jobpush.reporting import schedule
from jobpush.reporting.capture import capture_from
from jobpush.reporting.publisher import Publisher
from jobpush.reporting.running_task import RunningTask
from jobpush.reporting.task_log import MAX_CHARACTERS, MAX_LINE_LENGTH, MAX_LINES, TaskLog
from jobpush.store.messages import read_event
from jobpush.store.task_logs import LogEntry
from jobpush.testing import RecordedEvents
from tests.celery_site.site import Eager
from tests.waiting import wait_until

from .test_publisher import publisher, tracked

__all__ = ["publisher"]


def texts(log: TaskLog) -> list[str]:
    return [line.message for line in log.take()[0]]


def logged(listener: RecordedEvents) -> list[dict[str, Any]]:
    _ = listener.events  # reads all that has been published
    lines = [message for message in listener.messages if b'"event":"jobpush:log"' in message]
    return [read_event(line.partition(b"\n")[2])[1] for line in lines]


def test_lines_keep_their_order() -> None:
    log = TaskLog()
    for number in range(5):
        log.add(str(number), "INFO", float(number))

    assert log.take() == ([LogEntry(str(number), "info", float(number)) for number in range(5)], 0)
    assert log.take() == ([], 0)


def test_oldest_lines_are_dropped_and_counted() -> None:
    log = TaskLog()
    for number in range(MAX_LINES + 7):
        log.add(str(number), "info", 0.0)

    lines, dropped = log.take()

    assert (lines[0].message, lines[-1].message, len(lines), dropped) == ("7", str(MAX_LINES + 6), MAX_LINES, 7)


def test_log_characters_are_bounded_too() -> None:
    log = TaskLog()
    for _ in range(1_000):
        log.add("x" * 10_000, "info", 0.0)

    lines, dropped = log.take()

    assert {len(line.message) for line in lines} == {MAX_LINE_LENGTH}
    assert sum(len(line.message) for line in lines) <= MAX_CHARACTERS
    assert len(lines) + dropped == 1_000


def test_unsent_lines_precede_newer_ones() -> None:
    log = TaskLog()
    log.add("first", "info", 0.0)
    lines, dropped = log.take()
    log.add("second", "info", 0.0)

    log.put_back(lines, dropped + 2)
    for number in range(MAX_LINES - 1):
        log.add(str(number), "info", 0.0)

    lines, dropped = log.take()
    assert (lines[0].message, lines[1].message, dropped) == ("second", "0", 3)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ü 😀", "plain ü 😀"),
        ("a\tb\nc\r\nd", "a\tb\nc\nd"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("bell\x07 nul\x00 del\x7f c1\x85", "bell\\x07 nul\\x00 del\\x7f c1\\x85"),
        ("\x1b]0;title", "\\x1b]0;title"),
        ("half \ud800", "half \\ud800"),
        ("<b>", "<b>"),
        ("cv\u202efdp.exe", "cv\\u202efdp.exe"),
        ("\u202dforced", "\\u202dforced"),
        ("\u2068isolated\u2069 سلام \u200f", "\u2068isolated\u2069 سلام \u200f"),
        ("👩‍👩‍👧 🏳️‍🌈", "👩‍👩‍👧 🏳️‍🌈"),
    ],
)
def test_control_characters_are_shown_as_escapes(text: str, shown: str) -> None:
    assert readable(text) == shown


def test_lines_of_several_threads_are_complete() -> None:
    log = TaskLog()
    threads = [threading.Thread(target=lambda: [log.add("line", "info", 0.0) for _ in range(10_000)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    lines, dropped = log.take()

    assert len(lines) + dropped == 40_000


def test_memory_of_any_number_of_lines_is_bounded(publisher: Publisher) -> None:
    running = RunningTask(tracked("task"), publisher, publisher._config)
    sizes: list[int] = []
    tracemalloc.start()
    try:
        with publisher._lock:  # as while Redis is away
            for number in range(50_000):
                running.log(f"line {number} " + "x" * 500, level="info")
                if number % 10_000 == 9_999:
                    sizes.append(kept_bytes())
    finally:
        tracemalloc.stop()
        running.log_lines.clear()

    assert len(sizes) == 5
    assert max(sizes) < 5_000_000  # all lines take 28 MB
    assert publisher.flush()


def kept_bytes() -> int:
    """Return the bytes that were allocated here and in ``reporting``, whatever other threads do meanwhile."""
    ours = [tracemalloc.Filter(True, "*/reporting/*")]
    return sum(trace.size for trace in tracemalloc.take_snapshot().filter_traces(ours).traces)


def test_the_name_of_a_level_is_bounded() -> None:
    log = TaskLog()
    log.add("line", "x" * 1_000_000, 0.0)

    assert sum(len(level) for _, level, _ in log._lines) <= 20


def test_ten_thousand_lines_of_several_threads_keep_the_order_of_each_thread_and_lose_no_progress(eager: Eager) -> None:
    text = "<b>\x1b[31m\x00\u202e" + "x" * 5_000

    def write(number: int) -> None:
        for line in range(2_500):
            progress.log(f"{number} {line} {text}" if line % 500 == 0 else f"{number} {line}")

    def body() -> None:
        threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        progress.update(7, total=10)

    last = eager.run(eager.task()(body))[-1]

    assert (last.state, last.current) == (TaskState.SUCCESS, 7)
    log = eager.jobpush._runtime.store.task_log(last.task_id, limit=20_000)
    lines = [entry.message.split(maxsplit=2) for entry in log.entries]
    assert lines and len(lines) + log.dropped == 10_000
    for number in range(4):
        of_thread = [int(line[1]) for line in lines if line[0] == str(number)]
        assert of_thread == sorted(of_thread)
    assert all(len(entry.message) <= MAX_LINE_LENGTH + 20 for entry in log.entries)
    assert {line[2][:16] for line in lines if len(line) > 2} <= {"<b>\\x00\\u202exxx"}


def test_lines_are_readable_in_order_before_the_process_continues(eager: Eager) -> None:
    def body() -> None:
        for number in range(300):
            progress.log(f"line {number}", level="DEBUG")
        progress.log("\x1b[1mdone\x00" + "x" * 1_000_000, level="error")

    eager.run(eager.task()(body))

    lines = logged(eager.listener)
    assert [line["message"] for line in lines[:300]] == [f"line {number}" for number in range(300)]
    assert {line["level"] for line in lines[:300]} == {"debug"}
    assert (lines[300]["message"][:10], lines[300]["level"], len(lines)) == ("done\\x00xx", "error", 301)


def test_lines_wait_for_redis(publisher: Publisher, redis_server: EmbeddedRedis) -> None:
    running = RunningTask(tracked("task"), publisher, publisher._config)
    redis_server.kill()
    publisher._breaker.failed("Redis is away")
    for number in range(3):
        running.log(f"line {number}", level="info")
    redis_server.restart(keep_data=False)

    assert publisher.flush()
    assert texts(running.log_lines) == []


def test_lines_of_many_ended_tasks_are_bounded_during_an_outage(
    publisher: Publisher, redis_server: EmbeddedRedis
) -> None:
    redis_server.kill()
    publisher._breaker.failed("Redis is away")
    tasks = [RunningTask(tracked(str(number)), publisher, publisher._config) for number in range(200)]
    for task in tasks:
        task.log("a line", level="info")
        task.has_ended = True

    assert sum(bool(task.log_lines._lines) for task in tasks) <= schedule.MAX_WAITING_LOGS + 1
    tasks[0].log("one more", level="info")
    assert tasks[0].log_lines.take() == ([LogEntry("one more", "info", pytest.approx(time.time(), abs=60))], 1)
    redis_server.restart(keep_data=False)
    assert publisher.flush()


def write_to_logging() -> None:
    logging.getLogger("shop").warning("%d left", 3)


def write_from_a_thread() -> None:
    import contextvars

    thread = threading.Thread(target=contextvars.copy_context().run, args=(write_to_logging,))
    thread.start()
    thread.join()


def test_task_with_capture_logs_what_it_writes(eager: Eager) -> None:
    eager.run(eager.task(capture=True)(write_to_logging))

    assert [line["message"] for line in logged(eager.listener)] == ["3 left"]
    write_to_logging()  # outside: nothing
    assert len(logged(eager.listener)) == 1


@pytest.mark.parametrize("write_line", [write_to_logging, write_from_a_thread])
def test_only_lines_of_the_tasks_own_context_are_captured(eager: Eager, write_line: Callable[[], None]) -> None:
    capture_from("apart")
    capture_from("apart")  # idempotent
    apart = logging.getLogger("apart")
    apart.setLevel(logging.INFO)

    def body() -> None:
        from jobpush.reporting.progress import current_progress

        this = current_progress()
        assert this is not None
        write_line()  # before: nothing is captured
        this.captures = True
        write_line()
        apart.info("seen by two handlers")
        logging.getLogger("shop").warning("%d", "no number")
        other = threading.Thread(target=write_to_logging)  # as another task's
        other.start()
        other.join()

    logging.raiseExceptions, before = False, logging.raiseExceptions
    try:
        eager.run(eager.task()(body))
    finally:
        logging.raiseExceptions = before

    lines = [(line["message"], line["level"]) for line in logged(eager.listener)]
    assert lines == [("3 left", "warning"), ("seen by two handlers", "info")]


def test_log_lines_alone_wake_the_publisher_thread(publisher: Publisher) -> None:
    """Lines are published without anything else that wakes the thread."""
    running = RunningTask(tracked("task"), publisher, publisher._config)

    running.log("a line", level="info")

    wait_until(lambda: not running.log_lines._lines)
