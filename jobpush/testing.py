"""
For tests of your own tasks: a pytest plugin, there as soon as jobpush is installed.

Fixtures: ``recorded_events`` (what users would have seen), ``jobpush_redis`` (a private Redis for the whole run) and
``jobpush_clock`` (a clock that stands still until the test moves it). They start a real Redis, the machine's or that
of ``pip install 'jobpush[embedded]'``. Nothing is imported or started before a test asks for it.

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
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .events import TaskEvent, TaskState

#: Seconds after which what a test waits for will not come any more; never what a test takes.
PATIENCE = 30.0

#: Published by a recorder to itself, when all that is before it has come.
_MARK = b"jobpush:mark"


class RecordedEvents:
    """The task events that are published in a Redis, of one user or of all, from its making on."""

    def __init__(self, redis_url: str, user: str | int | None = None, *, prefix: str = "jobpush") -> None:
        """
        Args:
            redis_url: Where jobpush publishes.
            user: Whose events; ``None``: everybody's. Then nobody else may use that Redis.
            prefix: As the setting.

        Raises:
            redis.RedisError: If Redis does not answer.
        """
        import redis

        from .channels import user_topic
        from .store.keys import Keys

        self._events: list[TaskEvent] = []
        #: How many of them :meth:`until` has looked at.
        self._awaited = 0
        #: What came, as it is published: events and lines of text.
        self.messages: list[bytes] = []
        self._client = redis.Redis.from_url(redis_url)
        self._pubsub = self._client.pubsub()  # type: ignore[no-untyped-call]
        self._own_channel = f"jobpush:recorder:{id(self)}:{time.time()}"
        if user is None:
            self._pubsub.psubscribe("*")
        else:
            self._pubsub.subscribe(self._own_channel, Keys(prefix).topic(user_topic(user)))
        self._catch_up()

    @property
    def events(self) -> list[TaskEvent]:
        """All events up to now, in order; what tasks of this process have said is among them."""
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
        assert events, "no task has said anything; is it tracked, and does it have a user?"
        return events[-1]

    def of(self, task_id: str) -> list[TaskEvent]:
        """All events of one task up to now."""
        return [event for event in self.events if event.task_id == task_id]

    def states(self, task_id: str | None = None) -> list[str]:
        """
        The states that a task went through, each once: ``["PENDING", "STARTED", "PROGRESS", "SUCCESS"]``.

        RECEIVED is left out: where a worker is quick, STARTED is there before it, and it is not told any more.

        Args:
            task_id: Of the task; ``None``: the only one.

        Raises:
            AssertionError: If there are several, and none is named.
        """
        states: list[str] = []
        for event in self.of(self._only_task() if task_id is None else task_id):
            if event.state.value not in ("RECEIVED", *states[-1:]):
                states.append(event.state.value)
        return states

    def assert_states(self, *states: str, task_id: str | None = None) -> None:
        """
        Make sure that a task went through these states, in this order, and through no others.

        Args:
            states: As :meth:`states` gives them.
            task_id: Of the task; ``None``: the only one.

        Raises:
            AssertionError: If not.
        """
        seen = self.states(task_id)
        assert seen == list(states), f"expected {' > '.join(states)}, but there was {' > '.join(seen) or 'nothing'}"

    def until(self, is_reached: Callable[[TaskEvent], bool]) -> TaskEvent:
        """
        Wait for an event that is such, where the tasks run in a worker; the next call looks at those after it.

        Raises:
            AssertionError: If it does not come within 30 seconds.
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
        raise AssertionError(f"it never came; there was {[(e.name, e.state.value) for e in self._events]}")

    def until_state(self, state: TaskState | str, task_id: str | None = None) -> TaskEvent:
        """Wait until a task comes to a state; see :meth:`until`."""
        return self.until(lambda event: event.state == state and task_id in (None, event.task_id))

    def until_final(self, task_id: str) -> TaskEvent:
        """Wait until a task has ended; see :meth:`until`."""
        return self.until(lambda event: event.state.is_final and event.task_id == task_id)

    def close(self) -> None:
        """Record no more."""
        self._pubsub.close()
        self._client.close()

    def _only_task(self) -> str:
        names = {event.task_id: event.name for event in self.events}
        assert len(names) < 2, f"there are {len(names)} tasks: say which one by task_id; {names}"
        return next(iter(names), "")

    def _catch_up(self) -> None:
        """Read all that has been published; first of all have it published."""
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


class FakeClock:
    """
    A clock that stands still until it is moved: stamps, rates and forecasts become what a test can know.

    Only what jobpush tells goes by it; what waits (the publisher, Celery, your task) does not.
    """

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        """
        Args:
            now: Unix seconds.
        """
        self.now = now

    def advance(self, seconds: float) -> None:
        """Let so much time pass."""
        self.now += seconds

    def time(self) -> float:
        """As :func:`time.time`."""
        return self.now

    #: As :func:`time.monotonic`.
    monotonic = time


@pytest.fixture(scope="session")
def jobpush_redis() -> Iterator[str]:
    """The URL of a Redis that only this run of the tests has."""
    from .cli.embedded import EmbeddedRedis

    with EmbeddedRedis() as server:
        yield server.url


@pytest.fixture
def recorded_events(jobpush_redis: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[RecordedEvents]:
    """
    What users see of the tasks that run in this process meanwhile.

    Each ``JobPush`` of a Celery app publishes into :func:`jobpush_redis`, whatever it is configured to do otherwise.
    """
    import redis

    from .queues.celery.registry import runtimes

    with redis.Redis.from_url(jobpush_redis) as client:
        client.flushall()
    monkeypatch.setenv("JOBPUSH_REDIS_URL", jobpush_redis)  # for those that the test makes
    events = RecordedEvents(jobpush_redis)
    with ExitStack() as stack:
        for runtime in runtimes():
            stack.enter_context(runtime.publishing_to(jobpush_redis))
        yield events
    events.close()


@pytest.fixture
def jobpush_clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    """A clock that only the test moves: ``jobpush_clock.advance(10)``."""
    from .queues.celery import publishing, workflow
    from .queues.celery import track_options as tracking
    from .reporting import identity
    from .reporting.services import Services

    clock = FakeClock()
    monkeypatch.setattr(Services, "clock", clock)
    for module in (publishing, identity, tracking, workflow):
        monkeypatch.setattr(module, "time", clock)
    return clock
