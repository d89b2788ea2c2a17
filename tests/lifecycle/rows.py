"""
All ways in which a task can end, one function each: the cause, and the states that the task's user sees.

Celery itself reports much less in each case, depending on version and pool; comments describe the differences.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass

from celery import chain, chord, group

from jobpush.events import TaskState
from jobpush.testing import PATIENCE

from .configurations import Configuration
from .stand import LOST_AFTER, Stand


@dataclass(frozen=True)
class Row:
    """
    A row of the table.

    Args:
        play: Plays the row on a stand, and checks the states that the user sees.
        is_base: Whether every run plays it on every selected configuration.
        pools: The pools on which it is possible; empty: all.
        is_rare: Whether only ``make matrix`` plays it.
    """

    play: Callable[[Stand], None]
    is_base: bool
    pools: tuple[str, ...]
    is_rare: bool

    def __str__(self) -> str:
        return self.play.__name__

    def can_happen_on(self, configuration: Configuration) -> bool:
        """Return whether the row is possible in a configuration."""
        return not self.pools or configuration.pool in self.pools


ROWS: list[Row] = []


def row(
    *, base: bool = False, pools: tuple[str, ...] = (), rare: bool = False
) -> Callable[[Callable[[Stand], None]], None]:
    """Add a function to the table."""
    return lambda play: ROWS.append(Row(play, base, pools, rare))


# -- ends caused by the task itself -----------------------------------------------------------------


@row(base=True)
def success(stand: Stand) -> None:
    task_id = stand.delay("succeeds")

    assert stand.assert_states(task_id, "PENDING STARTED PROGRESS SUCCESS").percent == 100.0


@row(base=True)
def exception(stand: Stand) -> None:
    task_id = stand.delay("raises")

    assert stand.assert_states(task_id, "PENDING STARTED PROGRESS FAILURE").error == "no such file"


@row(base=True)
def retries_then_success(stand: Stand) -> None:
    task_id = stand.delay("retries", 2)

    stand.assert_states(task_id, "PENDING STARTED PROGRESS RETRY | STARTED PROGRESS RETRY | STARTED PROGRESS SUCCESS")


@row()
def delayed_retry(stand: Stand) -> None:
    task_id = stand.delay("retries", 1, 0.5)

    stand.assert_states(task_id, "PENDING STARTED PROGRESS RETRY | STARTED PROGRESS SUCCESS")


@row(base=True)
def retries_used_up(stand: Stand) -> None:
    task_id = stand.delay("autoretries")

    last = stand.assert_states(task_id, "PENDING STARTED PROGRESS RETRY | STARTED PROGRESS FAILURE")

    assert last.error == "disk is full"


@row(base=True)
def ignore(stand: Stand) -> None:
    task_id = stand.delay("ignores")

    # Celery sends no signal, unless the task itself has stored a final state in a result backend.
    stand.assert_states(task_id, "PENDING STARTED PROGRESS REVOKED")


@row()
def ignore_with_a_stored_failure(stand: Stand) -> None:
    task_id = stand.delay("stores_its_failure")

    end = "FAILURE" if stand.configuration.backend == "results" else "REVOKED"
    stand.assert_states(task_id, f"PENDING STARTED PROGRESS {end}")


@row(base=True)
def reject(stand: Stand) -> None:
    # Celery 5.4 sends no signal, 5.7 sends task_failure in the parent.
    task_id = stand.delay("rejects")

    assert stand.assert_states(task_id, "PENDING STARTED PROGRESS FAILURE").error == "not for me"


@row()
def reject_with_requeue(stand: Stand) -> None:
    task_id = stand.delay("rejects_once")

    # No signal; the broker redelivers the message at once.
    stand.assert_states(task_id, "PENDING STARTED PROGRESS RETRY | STARTED PROGRESS SUCCESS")


@row(base=True)
def replaced_by_another_task(stand: Stand) -> None:
    task_id = stand.delay("replaced", True)

    # The bar moves back, so the replacement is another attempt, at the task's own request.
    stand.assert_states(task_id, "PENDING STARTED PROGRESS RETRY | STARTED PROGRESS SUCCESS")


@row(base=True)
def replaced_at_once(stand: Stand) -> None:
    task_id = stand.delay("replaced", False)

    stand.assert_states(task_id, "PENDING STARTED PROGRESS SUCCESS")


@row(base=True)
def unknown_task(stand: Stand) -> None:
    task_id = stand.delay("unregistered")

    assert stand.assert_states(task_id, "PENDING FAILURE").error == "No worker knows the task unregistered"


@row()
def unreadable_message(stand: Stand) -> None:
    task_id = stand.delay("succeeds", serializer="yaml")  # not accepted by the worker

    assert stand.assert_states(task_id, "PENDING FAILURE").error == "The worker could not read the task"


@row()
def run_eagerly(stand: Stand) -> None:
    path = stand.path()
    task_id = stand.delay("applies", path)

    stand.assert_states(task_id, "PENDING STARTED PROGRESS SUCCESS")
    # The inner task is not published, and no worker receives it.
    stand.assert_states(path.read_text(), "PENDING STARTED PROGRESS SUCCESS")


@row(base=True)
def several_at_once(stand: Stand) -> None:
    seconds = [0.1 * count for count in range(1, 6)]
    task_ids = [stand.delay("works", duration) for duration in seconds]

    steps = [stand.assert_states(task_id, "PENDING STARTED PROGRESS SUCCESS").total for task_id in task_ids]

    # Each task has published its own events, although tasks share threads and greenlets.
    assert steps == [5, 10, 15, 20, 25]


# -- time limits -------------------------------------------------------------------------------------


@row()
def soft_limit(stand: Stand) -> None:
    task_id = stand.delay("soft_limited")

    # Only prefork can interrupt a task with a signal; in other pools it keeps running.
    end = "FAILURE" if stand.configuration.pool == "prefork" else "SUCCESS"
    stand.assert_states(task_id, f"PENDING STARTED PROGRESS {end}")


@row(base=True)
def hard_limit(stand: Stand) -> None:
    task_id = stand.delay("hard_limited")

    end = "FAILURE" if stand.configuration.enforces_time_limits else "SUCCESS"
    stand.assert_states(task_id, f"PENDING STARTED PROGRESS {end}")


@row(base=True)
def expired(stand: Stand) -> None:
    task_id = stand.delay("succeeds", expires=-1)

    assert stand.assert_states(task_id, "PENDING REVOKED").error == "The task was not started in time"


# -- dead processes ----------------------------------------------------------------------------------


@row(pools=("prefork",))
def child_killed(stand: Stand) -> None:
    task_id = stand.delay("dies")

    last = stand.assert_states(task_id, "PENDING STARTED PROGRESS FAILURE")

    assert last.error == "The process that ran the task died"


@row(pools=("prefork",))
def child_killed_that_acknowledges_late(stand: Stand) -> None:
    task_id = stand.delay("dies_acking_late")

    stand.assert_states(task_id, "PENDING STARTED PROGRESS FAILURE")


@row(pools=("prefork",))
def child_killed_and_its_task_delivered_again(stand: Stand) -> None:
    task_id = stand.delay("dies_once", stand.path())

    # No signal: the message is redelivered, and the start of the next attempt ends the previous one.
    stand.assert_states(task_id, "PENDING STARTED PROGRESS RETRY | STARTED PROGRESS SUCCESS")


@row(pools=("prefork",))
def child_killed_and_its_task_tried_again(stand: Stand) -> None:
    task_id = stand.delay("dies_once_and_tries_again", stand.path())

    if stand.configuration.is_oldest:  # without retry_on_worker_lost
        stand.assert_states(task_id, "PENDING STARTED PROGRESS FAILURE")
        return
    # The parent publishes the next attempt, and then sends task_retry.
    stand.assert_states(task_id, "PENDING STARTED PROGRESS RETRY | STARTED PROGRESS SUCCESS")
    retry = next(event for event in stand.recorded.of(task_id) if event.state is TaskState.RETRY)
    assert retry.error == "The process that ran the task died"


@row(base=True, pools=("prefork", "threads", "gevent"))
def task_ends_its_process(stand: Stand) -> None:
    # Celery 5.4 sends no signal, nor does 5.7 in the pools threads and gevent.
    task_id = stand.delay("exits")

    last = stand.assert_states(task_id, "PENDING STARTED PROGRESS FAILURE")

    assert last.error == "The task ended its process: exit code 3"


@row(pools=("solo",))
def task_ends_its_worker(stand: Stand) -> None:
    stand.start_worker("exits")
    task_id = stand.delay("exits", queue="exits")

    last = stand.assert_states(task_id, "PENDING STARTED PROGRESS FAILURE")

    assert last.error == "The task ended its process: exit code 3"


# -- Celery's revoke --------------------------------------------------------------------


@row(base=True)
def terminated(stand: Stand) -> None:
    path = stand.path()
    task_id = stand.delay("waits_for", path)
    stand.until(task_id, TaskState.PROGRESS)

    stand.app.control.revoke(task_id, terminate=True)

    if stand.configuration.can_terminate:
        stand.assert_states(task_id, "PENDING STARTED PROGRESS REVOKED")
    else:
        # threads, and gevent in 5.4, raise NotImplementedError; solo reads the command after the task has ended.
        path.touch()
        stand.assert_states(task_id, "PENDING STARTED PROGRESS SUCCESS")


@row()
def revoked_while_it_runs(stand: Stand) -> None:
    path = stand.path()
    task_id = stand.delay("waits_for", path)
    stand.until(task_id, TaskState.PROGRESS)

    stand.app.control.revoke(task_id)
    path.touch()

    # Celery lets the task continue, and sends no signal.
    stand.assert_states(task_id, "PENDING STARTED PROGRESS SUCCESS")


@row(base=True)
def revoked_while_it_waits(stand: Stand) -> None:
    task_id = stand.delay("succeeds", queue="revoked")
    stand.app.control.revoke(task_id)

    stand.read_queue("revoked")

    stand.assert_states(task_id, "PENDING REVOKED")


@row()
def revoked_before_its_time(stand: Stand) -> None:
    task_id = stand.delay("succeeds", countdown=4)
    stand.until(task_id, TaskState.RECEIVED)

    stand.app.control.revoke(task_id)

    # Celery reports the revocation only at the ETA, which must not be reached before the revoke on a busy machine.
    stand.assert_states(task_id, "PENDING REVOKED")


# -- cancel by the user ------------------------------------------------------------------------------


@row(base=True)
def cancelled_while_it_waits(stand: Stand) -> None:
    path = stand.path()
    task_id = stand.delay("touches", path, queue="cancelled")

    assert stand.jobpush.cancel(task_id) is TaskState.REVOKED

    stand.read_queue("cancelled")
    stand.assert_states(stand.delay("succeeds", queue="cancelled"), "PENDING STARTED PROGRESS SUCCESS")
    stand.assert_states(task_id, "PENDING REVOKED")
    assert not path.exists()


@row(base=True)
def cancelled_before_its_time(stand: Stand) -> None:
    task_id = stand.delay("touches", stand.forbidden_path(), countdown=stand.cancel_delay())
    stand.until(task_id, TaskState.RECEIVED)

    assert stand.jobpush.cancel(task_id) is TaskState.REVOKED

    stand.assert_states(task_id, "PENDING REVOKED")


@row(base=True)
def cancelled_between_two_attempts(stand: Stand) -> None:
    task_id = stand.delay("retries", 1, stand.cancel_delay())
    stand.until(task_id, TaskState.RETRY)

    assert stand.jobpush.cancel(task_id) is TaskState.REVOKED

    stand.assert_states(task_id, "PENDING STARTED PROGRESS RETRY REVOKED")


@row(base=True)
def cancelled_cooperative_task(stand: Stand) -> None:
    task_id = stand.delay("cooperates")
    stand.until(task_id, TaskState.PROGRESS)

    assert stand.jobpush.cancel(task_id) is TaskState.PROGRESS

    stand.assert_states(task_id, "PENDING STARTED PROGRESS REVOKED")


@row(base=True)
def cancelled_uncooperative_task(stand: Stand) -> None:
    path, cleaned_up = stand.path(), stand.path()
    task_id = stand.delay("waits_for", path, cleaned_up)
    stand.until(task_id, TaskState.PROGRESS)

    stand.jobpush.cancel(task_id)

    if stand.configuration.can_terminate:
        stand.assert_states(task_id, "PENDING STARTED PROGRESS REVOKED")
        stand.until_exists(cleaned_up)
        return
    event = stand.recorded.until(lambda event: event.task_id == task_id and event.message != "")
    assert event.cancelling
    assert event.message == "This worker can't stop a running task: it runs until it checks for a cancel"
    path.touch()
    last = stand.assert_states(task_id, "PENDING STARTED PROGRESS SUCCESS")
    assert (last.cancelling, last.message) == (False, "")


# -- workflows --------------------------------------------------------------------------------------


@row(base=True)
def workflow(stand: Stand) -> None:
    done = stand.task("succeeds")
    task_id = stand.workflow(chain(done, group(done, done)))

    last = stand.assert_states(task_id, "PENDING STARTED PROGRESS SUCCESS")

    assert (last.current, last.total, last.percent) == (3, 3, 100.0)


@row()
def workflow_with_a_failing_member(stand: Stand) -> None:
    task_id = stand.workflow(group(stand.task("raises"), stand.task("succeeds")))

    last = stand.assert_states(task_id, "PENDING STARTED PROGRESS FAILURE")

    assert (last.error, last.current, last.percent) == ("no such file", 2, 75.0)


@row(base=True)
def chord_and_its_body(stand: Stand) -> None:
    if stand.configuration.backend != "results":
        return  # Celery's chords need a result backend
    done = stand.task("succeeds")
    task_id = stand.workflow(chord([done, done], done))

    last = stand.assert_states(task_id, "PENDING STARTED PROGRESS SUCCESS")

    assert (last.current, last.total) == (3, 3)


@row(base=True)
def cancelled_workflow(stand: Stand) -> None:
    never = stand.forbidden_path
    late = stand.task("touches", never(), countdown=stand.cancel_delay())
    canvas = group(chain(stand.task("cooperates"), stand.task("touches", never())), late)
    task_id = stand.workflow(canvas)
    stand.recorded.until(lambda event: event.root_id == task_id and event.state is TaskState.PROGRESS)

    assert stand.jobpush.cancel(task_id) is TaskState.PROGRESS

    stand.assert_states(task_id, "PENDING STARTED PROGRESS REVOKED")


# -- dead and stopped workers ------------------------------------------------------------------------


@row(base=True)
def worker_killed(stand: Stand) -> None:
    worker = stand.start_worker("killed")
    task_id = stand.delay("waits_for", stand.path(), queue="killed")
    stand.until(task_id, TaskState.PROGRESS)

    os.kill(worker.pid, signal.SIGKILL)

    # No signal, and the message was already acknowledged.
    stand.assert_states(task_id, "PENDING STARTED PROGRESS LOST")


@row(base=True)
def worker_killed_and_its_task_delivered_again(stand: Stand) -> None:
    path = stand.path()
    worker = stand.start_worker("killed-late")
    task_id = stand.delay("waits_acking_late", path, queue="killed-late")
    stand.until(task_id, TaskState.PROGRESS)

    os.kill(worker.pid, signal.SIGKILL)
    stand.assert_states(task_id, "PENDING STARTED PROGRESS LOST")
    path.touch()
    other = stand.start_worker("killed-late", restores=True)

    # RabbitMQ redelivers at once, Redis after the visibility timeout. But kombu 5.7 has no event loop under gevent, and
    # redelivers nothing from Redis within two minutes, whatever the visibility timeout: there the task stays LOST.
    if (stand.configuration.pool, stand.configuration.broker) != ("gevent", "redis"):
        stand.assert_states(task_id, "PENDING STARTED PROGRESS LOST | STARTED PROGRESS SUCCESS")
    other.stop(signal.SIGTERM, grace=PATIENCE)


@row()
def worker_stopped_gracefully(stand: Stand) -> None:
    path = stand.path()
    worker = stand.start_worker("stopped")
    task_id = stand.delay("waits_for", path, queue="stopped")
    stand.until(task_id, TaskState.PROGRESS)

    os.kill(worker.pid, signal.SIGTERM)
    path.touch()

    stand.assert_states(task_id, "PENDING STARTED PROGRESS SUCCESS")


@row(pools=("prefork",))
def worker_stopped_at_once(stand: Stand) -> None:
    worker = stand.start_worker("stopped-at-once")
    task_id = stand.delay("waits_for", stand.path(), queue="stopped-at-once")
    stand.until(task_id, TaskState.PROGRESS)

    os.kill(worker.pid, signal.SIGQUIT)

    # Celery 5.4 sends task_failure in the parent; 5.7 sends task_retry there, although there is no retry.
    end = "FAILURE" if stand.configuration.is_oldest else "LOST"
    stand.assert_states(task_id, f"PENDING STARTED PROGRESS {end}")


@row(pools=("prefork",), rare=True)
def worker_stopped_at_once_whose_task_acknowledges_late(stand: Stand) -> None:
    worker = stand.start_worker("stopped-late")
    task_id = stand.delay("waits_acking_late", stand.path(), queue="stopped-late")
    stand.until(task_id, TaskState.PROGRESS)

    os.kill(worker.pid, signal.SIGQUIT)

    # Celery 5.4 sends task_failure in the parent, although the message is redelivered; 5.7 sends nothing.
    end = "FAILURE" if stand.configuration.is_oldest else "LOST"
    stand.assert_states(task_id, f"PENDING STARTED PROGRESS {end}")


@row(pools=("threads", "solo", "gevent"))
def worker_blocked_by_its_task(stand: Stand) -> None:
    task_id = stand.delay("hogs", 2 * int(LOST_AFTER))

    # The worker is alive, so the task is not lost.
    stand.assert_states(task_id, "PENDING STARTED PROGRESS SUCCESS")


@row(pools=("prefork",))
def worker_out_of_memory(stand: Stand) -> None:
    path = stand.path()
    stand.start_worker("memory")
    other = stand.delay("waits_for", path, queue="memory")
    stand.until(other, TaskState.PROGRESS)
    task_id = stand.delay("swallows", queue="memory")

    # A MemoryError in a child stops the parent, which waits for the tasks of its other children and exits.
    assert stand.assert_states(task_id, "PENDING STARTED PROGRESS FAILURE").error == "too large"
    path.touch()
    stand.assert_states(other, "PENDING STARTED PROGRESS SUCCESS")


@row(pools=("threads", "solo", "gevent"))
def task_out_of_memory(stand: Stand) -> None:
    stand.start_worker("memory")  # a solo worker exits with the task
    task_id = stand.delay("swallows", queue="memory")

    assert stand.assert_states(task_id, "PENDING STARTED PROGRESS FAILURE").error == "too large"


# -- final checks ------------------------------------------------------------------------------------


@row(base=True)
def no_event_after_the_end(stand: Stand) -> None:
    # Celery reports some ends twice: both reports of a hard limit in 5.7 have arrived by now.
    stand.assert_consistent()
