"""
Pytest plugin for tests of your own tasks, active once jobpush is installed.

Fixtures: ``recorded_events`` (the events that users would receive), ``jobpush_redis`` (a private Redis for the whole
run) and ``jobpush_clock`` (a clock that only the test moves). They start a real Redis: the system's, or that of
``pip install 'jobpush[embedded]'``. Nothing is imported or started until a test uses a fixture.

Example::

    from shop.tasks import encode            # a task below @jobpush.track(user="user_id")

    def test_the_user_sees_the_film_being_encoded(recorded_events):
        encode.apply(("42", "cat.mov"))      # or .delay() with task_always_eager

        recorded_events.assert_states("PENDING", "STARTED", "PROGRESS", "SUCCESS")
        assert recorded_events.last.title == "Encode cat.mov"
        assert recorded_events.last.percent == 100
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .events import TaskEvent, TaskState

#: Seconds after which a wait fails; never the time that a test takes.
PATIENCE = 30.0

#: A mark that a recorder publishes to itself, to find the end of the earlier messages.
_MARK = b"jobpush:mark"


class RecordedEvents:
    """The task events that are published in a Redis from now on, of one user or of all."""

    def __init__(self, redis_url: str, user: str | int | None = None, *, prefix: str = "jobpush") -> None:
        """
        Args:
            redis_url: Where jobpush publishes.
            user: Record only the events of this user. ``None``: of all users; then the Redis must be private.
            prefix: The setting of the same name.

        Raises:
            redis.RedisError: If Redis does not answer.
        """
        import redis

        from .channels import user_topic
        from .config import Config
        from .store.keys import Keys

        self._events: list[TaskEvent] = []
        #: Number of events that :meth:`until` has checked.
        self._awaited = 0
        #: The raw messages: events and log lines.
        self.messages: list[bytes] = []
        self._client = redis.Redis.from_url(redis_url)
        self._pubsub = self._client.pubsub()  # type: ignore[no-untyped-call]
        self._own_channel = f"jobpush:recorder:{id(self)}:{time.time()}"
        if user is None:
            self._pubsub.psubscribe("*")
        else:
            self._pubsub.subscribe(
                self._own_channel, Keys.of(Config(redis_url=redis_url, prefix=prefix)).topic(user_topic(str(user)))
            )
        self._catch_up()

    @property
    def events(self) -> list[TaskEvent]:
        """All events so far, in order, including those of tasks in this process."""
        self._catch_up()
        return list(self._events)

    @property
    def last(self) -> TaskEvent:
        """
        The newest event.

        Raises:
            AssertionError: If there is none.
        """
        events = self.events
        assert events, "no task has published an event; is it tracked, and does it have a user?"
        return events[-1]

    def of(self, task_id: str) -> list[TaskEvent]:
        """Return all events of one task so far."""
        return [event for event in self.events if event.task_id == task_id]

    def states(self, task_id: str | None = None) -> list[str]:
        """
        The states that a task went through, each once: ``["PENDING", "STARTED", "PROGRESS", "SUCCESS"]``.

        RECEIVED is left out: with a quick worker, STARTED replaces it before it is published.

        Args:
            task_id: Id of the task; ``None``: the only one.

        Raises:
            AssertionError: If there are several tasks and ``task_id`` is ``None``.
        """
        states: list[str] = []
        for event in self.of(self._only_task() if task_id is None else task_id):
            if event.state.value not in ("RECEIVED", *states[-1:]):
                states.append(event.state.value)
        return states

    def assert_states(self, *states: str, task_id: str | None = None) -> None:
        """
        Assert that a task went through exactly these states, in this order.

        Args:
            states: As returned by :meth:`states`.
            task_id: Id of the task; ``None``: the only one.

        Raises:
            AssertionError: If it did not.
        """
        seen = self.states(task_id)
        assert seen == list(states), f"expected {' > '.join(states)}, but there was {' > '.join(seen) or 'nothing'}"

    def until(self, is_reached: Callable[[TaskEvent], bool]) -> TaskEvent:
        """
        Wait for an event that fulfils a condition, of a task in a worker. The next call continues after that event.

        Raises:
            AssertionError: If there is none within 30 seconds.
        """
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            if self._awaited == len(self._events):
                self._receive(timeout=0.5)
                continue
            event = self._events[self._awaited]
            self._awaited += 1
            if is_reached(event):
                return event
        raise AssertionError(f"no such event came; there was {[(e.name, e.state.value) for e in self._events]}")

    def until_state(self, state: TaskState | str, task_id: str | None = None) -> TaskEvent:
        """Wait until a task reaches a state; see :meth:`until`."""
        return self.until(lambda event: event.state == state and task_id in (None, event.task_id))

    def until_final(self, task_id: str) -> TaskEvent:
        """Wait until a task has ended; see :meth:`until`."""
        return self.until(lambda event: event.state.is_final and event.task_id == task_id)

    def close(self) -> None:
        """Stop recording."""
        self._pubsub.close()
        self._client.close()

    def _only_task(self) -> str:
        names = {event.task_id: event.name for event in self.events}
        assert len(names) < 2, f"there are {len(names)} tasks, select one with task_id: {names}"
        return next(iter(names), "")

    def _catch_up(self) -> None:
        """Flush every publisher of this process, and read everything published so far."""
        from .queues.celery.registry import runtimes

        for runtime in runtimes():
            runtime.flush()
        self._client.publish(self._own_channel, _MARK)
        deadline = time.monotonic() + PATIENCE
        while self._receive(timeout=PATIENCE) != _MARK:
            assert time.monotonic() < deadline, "Redis does not answer"

    def _receive(self, timeout: float) -> bytes | None:
        from .store.messages import read_task

        message = self._pubsub.get_message(ignore_subscribe_messages=True, timeout=timeout)
        if message is None:
            return None
        data: bytes = message["data"]
        if b'"event":' in data:
            self.messages.append(data)
        if b'"event":"jobpush:task"' in data:
            self._events.append(read_task(data))
        return data


@dataclass
class FakeClock:
    """
    A clock that only the test moves, so that time stamps, rates and forecasts are exact.

    It applies to the contents of events. Waiting (the publisher, Celery, your task) uses the real clock.

    Args:
        now: Unix seconds.
    """

    now: float = 1_700_000_000.0

    def advance(self, seconds: float) -> None:
        """Move the clock forward."""
        self.now += seconds

    def time(self) -> float:
        """Return Unix seconds, as :func:`time.time`."""
        return self.now

    #: Used in place of :func:`time.monotonic`.
    monotonic = time


@pytest.fixture(scope="session")
def jobpush_redis() -> Iterator[str]:
    """URL of a Redis that only this test run uses."""
    from .processes.embedded import EmbeddedRedis

    with EmbeddedRedis() as server:
        yield server.url


@pytest.fixture
def recorded_events(jobpush_redis: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[RecordedEvents]:
    """
    Recorder of the events that users receive from tasks of this process.

    Each ``JobPush`` of a Celery app publishes into :func:`jobpush_redis`, whatever its configuration.
    """
    import redis

    from .queues.celery.registry import runtimes

    with redis.Redis.from_url(jobpush_redis) as client:
        client.flushall()
    monkeypatch.setenv("JOBPUSH_REDIS_URL", jobpush_redis)  # for each JobPush that the test makes
    events = RecordedEvents(jobpush_redis)
    with ExitStack() as stack:
        for runtime in runtimes():
            stack.enter_context(runtime.publishing_to(jobpush_redis))
        yield events
    events.close()


@pytest.fixture
def jobpush_clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    """A clock that only the test moves: ``jobpush_clock.advance(10)``."""
    from .reporting.services import Services

    clock = FakeClock()
    monkeypatch.setattr(Services, "clock", clock)
    return clock
