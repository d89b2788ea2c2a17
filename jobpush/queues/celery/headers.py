"""The headers by which Celery's messages carry the identity of a task."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping, MutableMapping
from datetime import datetime
from typing import Any, Literal

from ...channels import checked_user_id
from ...errors import InvalidUserId
from ...reporting.identity import TaskIdentity
from ...store import Membership
from ...store.malformed import malformed

#: Headers of a message. Prefixed and top-level: Celery rejects messages with nested ones (celery #9174).
USER_HEADER = "jobpush_user"
TITLE_HEADER = "jobpush_title"
#: Unix seconds; below 0 if the task ``is_again``.
CREATED_HEADER = "jobpush_created"
#: Set by the worker that receives the message, for its own processes.
DELIVERY_HEADER = "jobpush_delivery"
WORKER_HEADER = "jobpush_worker"
#: For a workflow's member: the workflow's id, its branch, whether the plan counts it, and its weight.
ROOT_HEADER = "jobpush_root"
BRANCH_HEADER = "jobpush_branch"
PLANNED_HEADER = "jobpush_planned"
WEIGHT_HEADER = "jobpush_weight"


def stamp(identity: TaskIdentity, headers: MutableMapping[str, Any]) -> None:
    """Write the identity of a task into the headers of its message, for the worker."""
    headers[USER_HEADER] = identity.user_id
    headers[TITLE_HEADER] = identity.title
    headers[CREATED_HEADER] = -identity.created_at if identity.is_again else identity.created_at
    if identity.root_id is None:
        headers.pop(ROOT_HEADER, None)
    else:
        headers[ROOT_HEADER] = identity.root_id
        headers[BRANCH_HEADER] = identity.membership.branch if identity.membership is not None else ""


def to_headers(identity: TaskIdentity) -> dict[str, Any]:
    """Return the headers that a task passes on to the tasks that it publishes."""
    headers: dict[str, Any] = {}
    stamp(identity, headers)
    return headers


def stamp_delivery(identity: TaskIdentity, headers: MutableMapping[str, Any]) -> None:
    """Write the delivery into a received message, for the process that runs the task."""
    headers[DELIVERY_HEADER] = identity.delivery
    headers[WORKER_HEADER] = identity.worker


def delivery_of(request: Any) -> str:
    """Return the delivery of a request, in any process of its worker; empty if it is not known."""
    return str(vars(request).get(DELIVERY_HEADER) or "")


def read_headers(headers: Mapping[str, Any], task: Any = None) -> TaskIdentity | None:
    """
    Return the task of a stamped message; ``None`` if the message is not stamped.

    A message of protocol 1 has no id there; other programs may write headers that are none of ours.

    Args:
        headers: Of a message of Celery's protocol 2, or the worker's ``request_dict``, which is the same.
        task: The Celery task, if its code is available.
    """
    if headers.get(CREATED_HEADER) is None or not headers.get(USER_HEADER) or "id" not in headers:
        return None
    try:
        created = float(headers[CREATED_HEADER])
        return TaskIdentity(
            task_id=str(headers["id"]),
            user_id=checked_user_id(headers[USER_HEADER]),
            name=str(headers["task"]),
            title=str(headers.get(TITLE_HEADER) or headers["task"]),
            created_at=abs(created),
            attempt=int(headers.get("retries") or 0) + 1,
            eta=time_of(headers, "eta"),
            max_attempts=max_attempts_of(task),
            delivery=str(headers.get(DELIVERY_HEADER) or ""),
            worker=str(headers.get(WORKER_HEADER) or ""),
            is_again=created < 0,
            **relations_of(headers),
        )
    except (ValueError, KeyError, TypeError, OverflowError, InvalidUserId) as exc:
        malformed.report("headers of messages", exc)
        return None


def as_protocol_2(headers: MutableMapping[str, Any], body: Mapping[str, Any]) -> ChainMap[str, Any]:
    """Return the headers that a message of Celery's protocol 1 has for a worker: they include fields of its body."""
    return ChainMap(headers, {**body, "group": body.get("taskset")})


def relations_of(headers: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parent, group and workflow of a message's task, by the names of :class:`TaskIdentity`."""
    parent, group, root = headers.get("parent_id"), headers.get("group"), headers.get(ROOT_HEADER)
    relations: dict[str, Any] = {
        # In Celery, a task itself publishes its retry and its replacement.
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
    Copy the user and the workflow of a task to a message that it publishes; Celery copies neither.

    Args:
        headers: Of the message to be published. Values that are set already stay.
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
    """Return the number of attempts that a task allows; ``None`` if it has no limit, or its code is not available."""
    if task is None:
        return None
    max_retries = getattr(task, "retry_kwargs", {}).get("max_retries", task.max_retries)
    return None if max_retries is None else max_retries + 1


def time_of(headers: Mapping[str, Any], name: Literal["eta", "expires"]) -> float | None:
    """
    Return the Unix seconds before which a task does not run, or after which it no longer starts; ``None``: no limit.

    Celery writes ISO 8601 with an offset; other clients' formats are ignored.
    """
    text = headers.get(name)
    try:
        return datetime.fromisoformat(str(text)).timestamp() if text else None
    except ValueError:
        return None
