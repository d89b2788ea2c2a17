"""Whose task it is and what it is called: told by the publisher, carried by the headers of Celery's message."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ..events import TaskEvent, TaskState, shortened
from ..store import Membership, TaskWrite

#: States in which a task may wait for its time.
_WAITING = frozenset({TaskState.PENDING, TaskState.RECEIVED, TaskState.RETRY})

#: Characters of a title; it travels with every event.
MAX_TITLE_LENGTH = 200

#: Headers of a message. Prefixed and at its top level: nested ones make Celery reject it (celery #9174).
USER_HEADER = "jobpush_user"
TITLE_HEADER = "jobpush_title"
#: Unix seconds; below 0 if the task ``is_again``.
CREATED_HEADER = "jobpush_created"
#: Set by the worker that receives the message, for its own processes.
DELIVERY_HEADER = "jobpush_delivery"
WORKER_HEADER = "jobpush_worker"
#: Of a member of a workflow: the workflow's id, its branch there, whether it was counted when the workflow began, and
#: what it weighs.
ROOT_HEADER = "jobpush_root"
BRANCH_HEADER = "jobpush_branch"
PLANNED_HEADER = "jobpush_planned"
WEIGHT_HEADER = "jobpush_weight"


def new_delivery() -> str:
    """A name for one stay of a message with one worker, see :mod:`jobpush.lifecycle`."""
    return secrets.token_hex(8)


@dataclass(frozen=True, slots=True)
class TaskIdentity:
    """
    One attempt of a task, as every process that meets it knows it.

    Args:
        task_id: Celery's id.
        user_id: Whose screen it is on.
        name: Celery's name of the task.
        title: What the user reads.
        created_at: Unix seconds of the first publishing; tells a task that is published anew under its old id.
        attempt: 1, then one more with each retry.
        eta: Unix seconds before which it does not run; ``None``: at once.
        max_attempts: How many there may be; ``None``: no limit, or not known here.
        delivery: Which stay of its message with a worker this is; empty where it is only published.
        worker: Which worker has the message; empty where none has.
        parent_id: The task that published it; ``None``: none did.
        group_id: Celery's id of the group it is in; ``None``: it is in none.
        root_id: The workflow that it is a member of; ``None``: it has a bar of its own.
        membership: Its place there.
        is_again: Whether its publisher did not say when, and the broker delivers it again: ``created_at`` is when that
            was then, and the task is the one that the store knows, if it does.
    """

    task_id: str
    user_id: str
    name: str
    title: str
    created_at: float
    attempt: int = 1
    eta: float | None = None
    max_attempts: int | None = None
    delivery: str = ""
    worker: str = ""
    parent_id: str | None = None
    group_id: str | None = None
    root_id: str | None = None
    membership: Membership | None = None
    is_again: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "title", shortened(self.title, MAX_TITLE_LENGTH))  # wherever it came from

    def event(self, state: TaskState, *, error: str | None = None, **progress: Any) -> TaskEvent:
        """An event of this attempt that happens now; ``progress`` are members that only the running task knows."""
        now = time.time()
        return TaskEvent(
            task_id=self.task_id,
            state=state,
            name=self.name,
            title=self.title,
            attempt=self.attempt,
            max_attempts=self.max_attempts,
            run_at=self.eta if self.eta is not None and self.eta > now and state in _WAITING else None,
            created_at=self.created_at,
            at=now,
            error=error,
            root_id=self.root_id,
            parent_id=self.parent_id,
            group_id=self.group_id,
            **progress,
        )

    def write(self, event: TaskEvent, *, task_ttl: int, is_handed_over: bool = False) -> TaskWrite:
        """
        What the store is to keep of ``event``.

        Args:
            event: An event of this task.
            task_ttl: Seconds that an unfinished task is kept; the time until its ``eta`` comes on top.
            is_handed_over: See :class:`TaskWrite`.
        """
        delay = int(max(0.0, self.eta - time.time())) if self.eta else 0
        ttl = None if event.state.is_final else task_ttl + delay
        pinned = event.state is not TaskState.PROGRESS
        return TaskWrite(
            self.user_id,
            event,
            pinned=pinned,
            ttl=ttl,
            delivery=self.delivery,
            worker=self.worker,
            is_handed_over=is_handed_over,
            membership=self.membership,
            is_again=self.is_again,
        )

    def to_headers(self) -> dict[str, Any]:
        """What it hands on to the tasks that it publishes, and more."""
        headers: dict[str, Any] = {}
        self.stamp(headers)
        return headers

    def stamp(self, headers: MutableMapping[str, Any]) -> None:
        """Write into the headers of a message what the worker has to know."""
        headers[USER_HEADER] = self.user_id
        headers[TITLE_HEADER] = self.title
        headers[CREATED_HEADER] = -self.created_at if self.is_again else self.created_at
        if self.root_id is None:
            headers.pop(ROOT_HEADER, None)
        else:
            headers[ROOT_HEADER] = self.root_id
            headers[BRANCH_HEADER] = self.membership.branch if self.membership is not None else ""

    def stamp_delivery(self, headers: MutableMapping[str, Any]) -> None:
        """Write into a received message what the process that runs the task has to know besides."""
        headers[DELIVERY_HEADER] = self.delivery
        headers[WORKER_HEADER] = self.worker


def delivery_of(request: Any) -> str:
    """The delivery that a request of Celery's belongs to, in any process of its worker; empty if it is not known."""
    return str(vars(request).get(DELIVERY_HEADER) or "")


def read_headers(headers: Mapping[str, Any], task: Any = None) -> TaskIdentity | None:
    """
    The task that a message is about, as its publisher stamped it; ``None`` if the message is not stamped.

    Args:
        headers: Of a message of Celery's protocol 2, or the worker's ``request_dict``, which is the same.
        task: The Celery task, where its code is here.
    """
    if headers.get(CREATED_HEADER) is None or not headers.get(USER_HEADER):
        return None
    return TaskIdentity(
        task_id=str(headers["id"]),
        user_id=str(headers[USER_HEADER]),
        name=str(headers["task"]),
        title=str(headers.get(TITLE_HEADER) or headers["task"]),
        created_at=abs(float(headers[CREATED_HEADER])),
        attempt=int(headers.get("retries") or 0) + 1,
        eta=eta_of(headers),
        max_attempts=max_attempts_of(task),
        delivery=str(headers.get(DELIVERY_HEADER) or ""),
        worker=str(headers.get(WORKER_HEADER) or ""),
        is_again=float(headers[CREATED_HEADER]) < 0,
        **relations_of(headers),
    )


def relations_of(headers: Mapping[str, Any]) -> dict[str, Any]:
    """What a message tells of a task's place among others, by the names of :class:`TaskIdentity`."""
    parent, group, root = headers.get("parent_id"), headers.get("group"), headers.get(ROOT_HEADER)
    relations: dict[str, Any] = {
        # Celery has a retry, and what a task is replaced by, published by the task itself.
        "parent_id": str(parent) if parent and parent != headers["id"] else None,
        "group_id": str(group) if group else None,
    }
    if root:
        weight = headers.get(WEIGHT_HEADER)
        branch, is_planned = str(headers.get(BRANCH_HEADER) or ""), bool(headers.get(PLANNED_HEADER))
        membership = Membership(branch, is_planned, None if weight is None else float(weight))
        relations.update(root_id=str(root), membership=membership)
    return relations


def inherit(headers: MutableMapping[str, Any], parent: Mapping[str, Any]) -> None:
    """
    Give what a task publishes its user, and its place in a workflow; Celery hands on neither.

    Args:
        headers: Of the message to be published. What they say themselves stays.
        parent: The headers of the task that publishes it.
    """
    user = parent.get(USER_HEADER)
    if not user:
        return
    if headers.get(USER_HEADER) is None:
        headers[USER_HEADER] = user
    if parent.get(ROOT_HEADER) and headers.get(ROOT_HEADER) is None and headers[USER_HEADER] == user:
        headers[ROOT_HEADER], headers[BRANCH_HEADER] = parent[ROOT_HEADER], parent.get(BRANCH_HEADER)


def max_attempts_of(task: Any) -> int | None:
    """How often a task may be tried, as it is declared; ``None``: no limit, or its code is not here."""
    if task is None:
        return None
    max_retries = getattr(task, "retry_kwargs", {}).get("max_retries", task.max_retries)
    return None if max_retries is None else max_retries + 1


def eta_of(headers: Mapping[str, Any]) -> float | None:
    """Unix seconds before which a published task does not run; ``None``: it runs at once."""
    # Celery writes ISO 8601 with an offset; what another client writes is not worth an error.
    try:
        eta = headers.get("eta")
        return datetime.fromisoformat(str(eta)).timestamp() if eta else None
    except ValueError:
        return None
