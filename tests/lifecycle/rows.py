"""
Every end that a task can have, one function each: what is done, and what the task's user sees of it.

What Celery itself says in each case, by version and pool, is much less and never the same; where that shows, a
comment says what was seen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from jobpush.events import TaskState

from .configurations import Configuration
from .stand import Stand


@dataclass(frozen=True)
class Row:
    """
    A row of the table.

    Args:
        play: Does it on a stand, and makes sure of what the user sees.
        is_base: Whether it is tried on every configuration each time.
        pools: The pools where it can happen; empty: all.
    """

    play: Callable[[Stand], None]
    is_base: bool
    pools: tuple[str, ...]

    def __str__(self) -> str:
        return self.play.__name__

    def can_happen_on(self, configuration: Configuration) -> bool:
        """Whether a configuration has what it takes."""
        return not self.pools or configuration.pool in self.pools


ROWS: list[Row] = []


def row(*, base: bool = False, pools: tuple[str, ...] = ()) -> Callable[[Callable[[Stand], None]], None]:
    """Put a function into the table."""
    return lambda play: ROWS.append(Row(play, base, pools))


# -- the task ends by itself -------------------------------------------------------------------------


@row(base=True)
def success(stand: Stand) -> None:
    task_id = stand.delay("succeeds")

    assert stand.assert_story(task_id, "PENDING STARTED PROGRESS SUCCESS").percent == 100.0


@row(base=True)
def exception(stand: Stand) -> None:
    task_id = stand.delay("raises")

    assert stand.assert_story(task_id, "PENDING STARTED PROGRESS FAILURE").error == "no such file"


@row(base=True)
def retries_then_success(stand: Stand) -> None:
    task_id = stand.delay("retries", 2)

    stand.assert_story(task_id, "PENDING STARTED PROGRESS RETRY | STARTED PROGRESS RETRY | STARTED PROGRESS SUCCESS")


@row()
def retry_after_a_while(stand: Stand) -> None:
    task_id = stand.delay("retries", 1, 0.5)

    stand.assert_story(task_id, "PENDING STARTED PROGRESS RETRY | STARTED PROGRESS SUCCESS")


@row(base=True)
def retries_used_up(stand: Stand) -> None:
    task_id = stand.delay("autoretries")

    last = stand.assert_story(task_id, "PENDING STARTED PROGRESS RETRY | STARTED PROGRESS FAILURE")

    assert last.error == "disk is full"


@row(base=True)
def ignore(stand: Stand) -> None:
    task_id = stand.delay("ignores")

    # Celery says nothing of it, except with a result backend in which the task has stored an end by itself.
    stand.assert_story(task_id, "PENDING STARTED PROGRESS REVOKED")


@row()
def ignore_of_a_failure_that_is_stored(stand: Stand) -> None:
    task_id = stand.delay("stores_its_failure")

    end = "FAILURE" if stand.configuration.backend == "results" else "REVOKED"
    stand.assert_story(task_id, f"PENDING STARTED PROGRESS {end}")


@row(base=True)
def reject(stand: Stand) -> None:
    # Celery 5.4 says nothing at all of it, 5.7 sends task_failure in the parent.
    task_id = stand.delay("rejects")

    assert stand.assert_story(task_id, "PENDING STARTED PROGRESS FAILURE").error == "not for me"


@row(base=True)
def replaced_by_another_task(stand: Stand) -> None:
    task_id = stand.delay("replaced")

    stand.assert_story(task_id, "PENDING STARTED PROGRESS SUCCESS")


@row(base=True)
def unknown_task(stand: Stand) -> None:
    task_id = stand.delay("nobody_knows")

    assert stand.assert_story(task_id, "PENDING FAILURE").error == "No worker knows the task nobody_knows"


# -- it takes too long -------------------------------------------------------------------------------


@row()
def soft_limit(stand: Stand) -> None:
    task_id = stand.delay("soft_limited")

    # Only prefork has a signal to interrupt a task with; in the other pools it runs on.
    end = "FAILURE" if stand.configuration.pool == "prefork" else "SUCCESS"
    stand.assert_story(task_id, f"PENDING STARTED PROGRESS {end}")


@row(base=True)
def hard_limit(stand: Stand) -> None:
    task_id = stand.delay("hard_limited")

    end = "FAILURE" if stand.configuration.enforces_time_limits else "SUCCESS"
    stand.assert_story(task_id, f"PENDING STARTED PROGRESS {end}")


@row(base=True)
def expired(stand: Stand) -> None:
    task_id = stand.delay("succeeds", expires=-1)

    assert stand.assert_story(task_id, "PENDING REVOKED").error == "The task was not started in time"


# -- its process dies --------------------------------------------------------------------------------


@row(pools=("prefork",))
def child_killed(stand: Stand) -> None:
    task_id = stand.delay("dies")

    assert "SIGKILL" in str(stand.assert_story(task_id, "PENDING STARTED PROGRESS FAILURE").error)


@row(pools=("prefork",))
def child_killed_that_acknowledges_late(stand: Stand) -> None:
    task_id = stand.delay("dies_acking_late")

    stand.assert_story(task_id, "PENDING STARTED PROGRESS FAILURE")


@row(pools=("prefork",))
def child_killed_and_its_task_delivered_again(stand: Stand) -> None:
    task_id = stand.delay("dies_once", stand.path())

    stand.assert_story(task_id, "PENDING STARTED PROGRESS | STARTED PROGRESS SUCCESS")


@row(base=True, pools=("prefork", "threads", "gevent"))
def task_ends_its_process(stand: Stand) -> None:
    # Celery 5.4 says nothing of it, nor does 5.7 in the pools threads and gevent.
    task_id = stand.delay("exits")

    last = stand.assert_story(task_id, "PENDING STARTED PROGRESS FAILURE")

    assert last.error == "The task ended its process: exit code 3"


# -- somebody revokes it, with Celery's own means ----------------------------------------------------


@row(base=True)
def terminated(stand: Stand) -> None:
    path = stand.path()
    task_id = stand.delay("waits_for", path)
    stand.until(task_id, TaskState.PROGRESS)

    stand.app.control.revoke(task_id, terminate=True)

    if stand.configuration.can_terminate:
        stand.assert_story(task_id, "PENDING STARTED PROGRESS REVOKED")
    else:
        # threads and gevent of 5.4 answer NotImplementedError; solo reads the command when the task has ended.
        path.touch()
        stand.assert_story(task_id, "PENDING STARTED PROGRESS SUCCESS")


@row()
def revoked_while_it_runs(stand: Stand) -> None:
    path = stand.path()
    task_id = stand.delay("waits_for", path)
    stand.until(task_id, TaskState.PROGRESS)

    stand.app.control.revoke(task_id)
    path.touch()

    # Celery lets it run on, and says nothing.
    stand.assert_story(task_id, "PENDING STARTED PROGRESS SUCCESS")


@row(base=True)
def revoked_while_it_waits(stand: Stand) -> None:
    task_id = stand.delay("succeeds", queue="revoked")
    stand.app.control.revoke(task_id)

    stand.read_queue("revoked")

    stand.assert_story(task_id, "PENDING REVOKED")


@row()
def revoked_before_its_time(stand: Stand) -> None:
    task_id = stand.delay("succeeds", countdown=1)
    stand.until(task_id, TaskState.RECEIVED)

    stand.app.control.revoke(task_id)

    # Celery says so only when its time has come.
    stand.assert_story(task_id, "PENDING REVOKED")


# -- its user cancels it -----------------------------------------------------------------------------


@row(base=True)
def cancelled_while_it_waits(stand: Stand) -> None:
    path = stand.path()
    task_id = stand.delay("touches", path, queue="cancelled")

    assert stand.jobpush.cancel(task_id) is TaskState.REVOKED

    stand.read_queue("cancelled")
    stand.assert_story(stand.delay("succeeds", queue="cancelled"), "PENDING STARTED PROGRESS SUCCESS")
    stand.assert_story(task_id, "PENDING REVOKED")
    assert not path.exists()


@row(base=True)
def cancelled_and_heeding(stand: Stand) -> None:
    task_id = stand.delay("heeds")
    stand.until(task_id, TaskState.PROGRESS)

    assert stand.jobpush.cancel(task_id) is TaskState.PROGRESS

    stand.assert_story(task_id, "PENDING STARTED PROGRESS REVOKED")


@row(base=True)
def cancelled_and_not_heeding(stand: Stand) -> None:
    path = stand.path()
    task_id = stand.delay("waits_for", path)
    stand.until(task_id, TaskState.PROGRESS)

    stand.jobpush.cancel(task_id)

    if stand.configuration.can_terminate:
        stand.assert_story(task_id, "PENDING STARTED PROGRESS REVOKED")
        return
    told = stand.listener.until(lambda event: event.task_id == task_id and event.message != "")
    assert told.cancelling
    assert told.message == "This worker can't stop a running task: it runs on until it looks"
    path.touch()
    last = stand.assert_story(task_id, "PENDING STARTED PROGRESS SUCCESS")
    assert (last.cancelling, last.message) == (False, "")


# -- the worker dies, and all that it had ------------------------------------------------------------


# -- and after all of them ---------------------------------------------------------------------------


@row(base=True)
def nothing_came_after_the_end(stand: Stand) -> None:
    # Celery tells some ends twice: both of a hard limit of 5.7 have come by now.
    stand.assert_nothing_strange_was_seen()
