"""The final states of the last 30 seconds are sent again after a reconnect."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from jobpush.events import TaskState
from jobpush.processes.embedded import EmbeddedRedis
from jobpush.reporting import final_writes
from jobpush.reporting.final_writes import FinalWrites
from jobpush.reporting.publisher import Publisher
from jobpush.reporting.records import Ending
from jobpush.store import Store
from jobpush.testing import PATIENCE, RecordedEvents
from tests.waiting import wait_until

from .test_publisher import USER, tracked, write


@pytest.fixture
def publisher(store: Store) -> Publisher:
    config = replace(store.config, flush_timeout=PATIENCE, retry_interval=0.05)
    return Publisher(Store(config), config, on_cancelled=lambda task_id: None)


def submit_write(publisher: Publisher) -> None:
    publisher.submit(write("task", TaskState.SUCCESS))


def publish_write_now(publisher: Publisher) -> None:
    publisher.publish_now([write("task", TaskState.SUCCESS)])


def submit_ending(publisher: Publisher) -> None:
    publisher.submit_ending(Ending("task", TaskState.SUCCESS, tracked=tracked("task")))


def end_now(publisher: Publisher) -> None:
    publisher.end_now(Ending("task", TaskState.SUCCESS, tracked=tracked("task")))


@pytest.mark.parametrize("end", [submit_write, publish_write_now, submit_ending, end_now])
def test_final_state_lost_by_a_failover_is_sent_again(
    end: Callable[[Publisher], None], publisher: Publisher, redis_server: EmbeddedRedis, store: Store
) -> None:
    publisher.publish_now([write("task", TaskState.PENDING)])
    end(publisher)
    assert publisher.flush()
    assert store.task("task").state is TaskState.SUCCESS

    redis_server.restart(keep_data=False)  # as a replica that never received the write
    publisher.submit(write("other", TaskState.STARTED))

    wait_until(lambda: "task" in {event.task_id for event in store.tasks(USER)})
    assert store.task("task").state is TaskState.SUCCESS


def test_final_state_is_sent_again_by_an_idle_process_that_reconnects(
    publisher: Publisher, redis_server: EmbeddedRedis, store: Store
) -> None:
    submit_write(publisher)
    assert publisher.flush()
    redis_server.restart(keep_data=False)

    publisher.resend_final_writes(lost_at=0.0)  # as the thread does that receives cancel requests

    wait_until(lambda: "task" in {event.task_id for event in store.tasks(USER)})


def test_final_state_still_in_redis_is_not_published_again(
    publisher: Publisher, redis_server: EmbeddedRedis, store: Store
) -> None:
    submit_write(publisher)
    assert publisher.flush()
    listener = RecordedEvents(store.config.redis_url, USER)

    publisher.resend_final_writes(lost_at=0.0)
    publisher.submit(write("other", TaskState.SUCCESS))
    assert publisher.flush()

    assert [event.task_id for event in listener.events] == ["other"]
    listener.close()


def test_final_state_acknowledged_long_ago_is_not_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(final_writes.time, "monotonic", lambda: now)
    kept = FinalWrites()
    kept.add(Ending("old", TaskState.SUCCESS))
    now = 125.0
    kept.add(Ending("new", TaskState.SUCCESS))

    assert [final.task_id for final in kept.between(131.0, 140.0) if isinstance(final, Ending)] == ["new"]
    assert len(kept.between(129.0, 140.0)) == 2
    assert len(kept.between(129.0, 125.0)) == 1
    now = 131.0
    kept.add(Ending("newest", TaskState.SUCCESS))
    assert len(kept._kept) == 2


def test_kept_final_states_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = FinalWrites()

    for number in range(final_writes.MAX_KEPT + 10):
        kept.add(Ending(str(number), TaskState.SUCCESS))

    assert len(kept._kept) == final_writes.MAX_KEPT
