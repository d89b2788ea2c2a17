"""
The internals of Celery, kombu and billiard that this package uses. No other file uses any.

Known to work with Celery 5.4.0 to 5.7.0, kombu 5.3.4 to 5.7.0 and billiard 4.2.0 to 4.3.2. ``pyproject.toml`` excludes
newer minor versions until ``tests/queues/celery/test_compat.py``, which names and checks each of them, passes there.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator
from traceback import walk_tb
from types import SimpleNamespace
from typing import Any

import redis
from billiard.einfo import ExceptionWithTraceback
from celery import current_task as _current_task
from celery.local import PromiseProxy, Proxy

# -- tasks and their requests ------------------------------------------------------------------------


def current_task() -> Any:
    """Return the task that this thread runs; ``None`` outside of tasks."""
    return _current_task._get_current_object() if _current_task else None


def request_of(task: Any) -> Any:
    """
    Return the request of the task that Celery runs.

    ``Task.__call__`` pushes another one, outside of workers also where a base class calls ``super().__call__()``: a
    copy, or one without an id in Celery 5.4. The signals get only the first one.
    """
    stack = task.request_stack.stack
    newest = next((request for request in reversed(stack) if request.id is not None), task.request)
    return next((request for request in stack if request.id == newest.id), newest)


def is_lazy(target: Any) -> bool:
    """Whether ``target`` is a task that Celery creates on first use. Using it now would freeze the app's settings."""
    return isinstance(target, PromiseProxy) and not target.__evaluated__()


def when_made(lazy_task: Any, callback: Callable[[Any], None]) -> None:
    """Call back with a lazy task once Celery has created it."""
    lazy_task.__then__(lambda: callback(lazy_task._get_current_object()))


def lazy_function(lazy_task: Any) -> Callable[..., Any] | None:
    """Return the function of a lazy task; ``None`` if Celery keeps it elsewhere: then it is checked later."""
    try:
        function: Callable[..., Any] = object.__getattribute__(lazy_task, "_Proxy__args")[0]
    except (AttributeError, IndexError):
        return None
    return function


def unwrapped(target: Any) -> Any:
    """Return the task behind a proxy."""
    return target._get_current_object() if isinstance(target, Proxy) else target


def function_of(task: Any) -> Callable[..., Any]:
    """Return the function of a task, bound like the task; ``autoretry_for`` replaces ``run``."""
    function: Callable[..., Any] = getattr(task, "__wrapped__", task.run)
    return function


# -- exceptions --------------------------------------------------------------------------------------

#: The text of the ``Ignore`` that ``Task.replace()`` raises, as the parent of a worker receives it.
REPLACED = "Replaced by new task"


def is_replacement(exc: BaseException) -> bool:
    """Whether an ``Ignore`` comes from ``Task.replace()``."""
    return _modules(exc)[-1] == "celery.app.task"


def replacement_of(exc: BaseException) -> Any:
    """Return the signature that ``Task.replace()`` made before it raised; ``None`` if it is not found."""
    frames = [frame for frame, _ in walk_tb(exc.__traceback__) if frame.f_globals.get("__name__") == "celery.app.task"]
    return next((frame.f_locals["sig"] for frame in frames if "sig" in frame.f_locals), None)


def is_raised_by_worker(exc: BaseException) -> bool:
    """Whether the worker raised this inside the task, to terminate it or to exit."""
    if type(exc).__name__ == "GreenletExit":  # raised by the gevent pool; gevent need not be installed
        return True
    return "billiard.common" in _modules(exc)  # the SIGTERM handler of a pool process


def _modules(exc: BaseException) -> list[str]:
    """Return the names of the modules in the traceback; the last one raised the exception."""
    return [str(frame.f_globals.get("__name__")) for frame, _ in walk_tb(exc.__traceback__)]


# -- the parent process of a worker ------------------------------------------------------------------


def is_in_hand(request: Any) -> bool:
    """Whether a worker has reserved a request, or runs it. A running one stays active while the broker is away."""
    from celery.worker import state  # a program that only publishes has not loaded it

    return request in state.reserved_requests or request in state.active_requests


def has_begun(request: Any) -> bool:
    """Whether a request has started to run, or is acknowledged."""
    return request.time_start is not None or request.acknowledged


def active_requests() -> list[Any]:
    """Return the requests that run in this worker."""
    from celery.worker import state

    return list(state.active_requests)


def on_result(request: Any, callback: Callable[[BaseException | None], None]) -> None:
    """
    Call back when a pool process has returned the result of a request, with the exception that its task raised.

    The request looks up ``on_success`` when it is passed to the pool, so the instance can override it.
    """
    handler = weakref.WeakMethod(request.on_success)  # a cycle would delay its collection, see LeaseKeeper

    def on_success(result: Any, **kwargs: Any) -> Any:
        failed, value, _ = result
        exc = value.exception if failed else None
        callback(exc.exc if isinstance(exc, ExceptionWithTraceback) else exc)
        original = handler()  # the pool keeps the request alive through its other methods
        return original(result, **kwargs) if original is not None else None

    request.on_success = on_success


def runs_tasks_itself(pool: Any) -> bool:
    """Whether a pool runs its tasks in the worker's own process."""
    from celery.concurrency.prefork import TaskPool

    return not isinstance(pool, TaskPool)


def can_terminate(pool: Any) -> bool:
    """Whether a pool can terminate a task: threads, solo, and gevent before Celery 5.5 inherit a method that raises."""
    from celery.concurrency.base import BasePool

    return getattr(pool.terminate_job, "__func__", None) is not BasePool.terminate_job


def revoke(consumer: Any, task_ids: Iterable[str], *, terminate: bool = False) -> None:
    """
    Revoke tasks in this worker alone, as Celery's remote control command does, in the consumer's own thread.

    The command itself would be a broadcast, which every worker receives; this needs no broker and no remote control.
    """
    from celery.worker.control import Panel

    state = SimpleNamespace(app=consumer.app, consumer=consumer, hostname=consumer.hostname)
    consumer.call_soon(Panel.data["revoke"], state, list(task_ids), terminate=terminate)


# -- the Redis broker --------------------------------------------------------------------------------


def queue_head(channel: Any, queue: str, size: int) -> Iterator[bytes]:
    """
    Read the messages at the head of a queue of a Redis broker, about ``size`` of them, the next one first.

    Source: kombu/transport/redis.py: a list for each priority, the most urgent first, read from its right end. Kombu's
    own client adds ``global_keyprefix`` to the keys of the commands that kombu uses, and LRANGE is none of them.
    """
    client: Any = redis.Redis(connection_pool=channel.client.connection_pool)
    prefix = channel.global_keyprefix
    found = 0
    for priority in channel.priority_steps:
        messages = client.lrange(f"{prefix}{channel._q_for_pri(queue, priority)}", found - size, -1)
        yield from reversed(messages)
        found += len(messages)
        if found >= size:
            return
