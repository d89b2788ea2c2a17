"""What a worker would publish."""

from __future__ import annotations

from jobpush.events import TaskEvent, TaskState
from jobpush.store import Membership, Store, TaskWrite, WorkflowPlan


def start(store: Store, user_id: str, task_id: str) -> None:
    """The first event of a task, which is never left out."""
    _write(store, user_id, TaskEvent(task_id, TaskState.STARTED, created_at=1.0), pinned=True)


def publish(store: Store, user_id: str, task_id: str, current: int, *, message: str = "") -> None:
    """Progress, which gives way to newer progress."""
    event = TaskEvent(task_id, TaskState.PROGRESS, current=current, created_at=1.0, message=message)
    _write(store, user_id, event)


def finish(store: Store, user_id: str, task_id: str, *, seq: int = 0) -> None:
    """The last event of a task, by a publisher that knows of ``seq``."""
    _write(store, user_id, TaskEvent(task_id, TaskState.SUCCESS, created_at=1.0, seq=seq), pinned=True)


def begin_workflow(store: Store, user_id: str, task_id: str, *, members: int) -> None:
    """The first event of a workflow."""
    event = TaskEvent(task_id, TaskState.PENDING, created_at=1.0)
    store.publish([TaskWrite(user_id, event, pinned=True, plan=WorkflowPlan(members, members))])


def start_member(store: Store, user_id: str, task_id: str, workflow_id: str, *, percent: float | None = None) -> None:
    """One of its members runs, and may have come some way."""
    event = TaskEvent(task_id, TaskState.PROGRESS, created_at=1.0, root_id=workflow_id, percent=percent)
    store.publish([TaskWrite(user_id, event, membership=Membership("0:3", is_planned=True))])


def _write(store: Store, user_id: str, event: TaskEvent, *, pinned: bool = False) -> None:
    store.publish([TaskWrite(user_id, event, pinned=pinned)])
