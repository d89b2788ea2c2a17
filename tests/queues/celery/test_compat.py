"""Each internal of Celery, kombu and billiard that ``compat.py`` uses behaves as expected, and its check can fail."""

from __future__ import annotations

import signal
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import billiard.common
import celery.local
import kombu.transport.redis
import pytest
from billiard.einfo import ExceptionInfo
from celery import Celery, Task
from celery.concurrency import base, get_implementation, prefork
from celery.exceptions import Ignore
from celery.worker import control, state
from celery.worker.consumer import Consumer
from celery.worker.request import Request, create_request_cls

from jobpush.queues.celery import compat

app = Celery("contract", broker="memory://", set_as_current=False)


@app.task(name="contract.lazy", shared=False)
def lazy() -> None:
    """A task that stays lazy until it is used."""


class Calling(Task):
    """A base class that overrides ``__call__``, as many applications do."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return super().__call__(*args, **kwargs)


@app.task(name="contract.nested", base=Calling, bind=True, shared=False)
def nested(self: Any) -> Any:
    """Return both requests of the task, and the task that ``compat`` returns."""
    return compat.request_of(self), self.request, compat.current_task()


@app.task(name="contract.retried", autoretry_for=(OSError,), shared=False)
def retried(number: int) -> int:
    return number


def check_current_task() -> None:
    assert compat.current_task() is None
    first, second, task = nested.apply().result
    assert task is compat.unwrapped(nested)
    assert first is not second and first.id is not None


def check_lazy_task() -> None:
    fresh = Celery("fresh", set_as_current=False)
    made: list[Any] = []

    @fresh.task(name="fresh.task", shared=False)
    def task() -> None:
        pass

    assert compat.is_lazy(task)
    function = compat.lazy_function(task)
    assert function is None or function.__name__ == "task"
    compat.when_made(task, made.append)
    assert not made
    assert task.name == "fresh.task"
    assert made == [compat.unwrapped(task)] and not compat.is_lazy(task)


def check_function_of_autoretried() -> None:
    assert compat.function_of(retried).__code__.co_varnames == ("number",)


@contextmanager
def run(task: Any) -> Iterator[None]:
    """Prepare a task as a worker does before it calls the function."""
    task.push_request(id=uuid.uuid4().hex, called_directly=False, is_eager=False, delivery_info={})
    try:
        yield
    finally:
        task.pop_request()


def check_replacement() -> None:
    task = compat.unwrapped(nested)
    new = retried.si(1)
    with run(task), pytest.raises(Ignore) as caught:
        task.replace(new)
    assert compat.is_replacement(caught.value) and str(caught.value) == compat.REPLACED
    assert compat.replacement_of(caught.value) is new
    with pytest.raises(Ignore) as own:
        raise Ignore
    assert not compat.is_replacement(own.value)


def check_end_by_worker() -> None:
    handler = signal.getsignal(signal.SIGUSR2)
    try:
        with pytest.raises(SystemExit) as caught:
            billiard.common._shutdown_cleanup(signal.SIGUSR2, None)
    finally:
        signal.signal(signal.SIGUSR2, handler)
        billiard.common._should_have_exited[0] = False
    assert compat.is_raised_by_worker(caught.value)
    with pytest.raises(SystemExit) as own:
        raise SystemExit
    assert not compat.is_raised_by_worker(own.value)


def make_request(pool: Any) -> Any:
    """Return a request as the consumer creates it for a message."""
    kind = create_request_cls(Request, compat.unwrapped(retried), pool, "worker@host", None, app=app)
    headers = {"id": uuid.uuid4().hex, "task": "contract.retried", "retries": 0, "root_id": None, "parent_id": None}
    message = SimpleNamespace(
        headers=headers,
        body=b"[[1], {}, {}]",
        payload=[[1], {}, {}],
        content_type="application/json",
        content_encoding="utf-8",
        delivery_info={},
        properties={},
        acknowledged=False,
    )
    return kind(message, app=app, task=compat.unwrapped(retried), hostname="worker@host")


def check_request_states() -> None:
    request = make_request(SimpleNamespace(apply_async=None))
    assert not compat.is_in_hand(request) and not compat.has_begun(request)
    state.reserved_requests.add(request)
    assert compat.is_in_hand(request) and request not in compat.active_requests()
    state.active_requests.add(request)
    state.reserved_requests.discard(request)
    assert compat.is_in_hand(request) and request in compat.active_requests()
    state.active_requests.discard(request)
    request.time_start = 1.0
    assert compat.has_begun(request)
    request.time_start, request.acknowledged = None, True
    assert compat.has_begun(request)


def check_result() -> None:
    calls: list[dict[str, Any]] = []
    results: list[BaseException | None] = []
    request = make_request(SimpleNamespace(apply_async=lambda *args, **options: calls.append(options)))
    compat.on_result(request, results.append)
    request.execute_using_pool(None)
    state.active_requests.add(request)
    calls[0]["callback"]((0, "1", 0.1))
    assert results == [None] and request not in state.active_requests
    with pytest.raises(ValueError) as caught:
        raise ValueError("broke")
    calls[0]["callback"]((1, ExceptionInfo((ValueError, caught.value, caught.tb)), 0.1))
    assert results[1] is caught.value


def check_pools() -> None:
    pool = prefork.TaskPool(1)
    pool.terminate_job = lambda pid, signal=None: None  # a running pool sets it on the instance
    assert compat.can_terminate(pool) and not compat.runs_tasks_itself(pool)
    for name in ("solo", "threads"):
        in_process = get_implementation(name)(1)
        assert compat.runs_tasks_itself(in_process) and not compat.can_terminate(in_process)


def check_revoke() -> None:
    ran: list[str] = []
    consumer = SimpleNamespace(app=app, hostname="worker@host", pool=SimpleNamespace(), hub=None)
    consumer._pending_operations = deque()
    consumer.call_soon = lambda *args, **kwargs: Consumer.call_soon(consumer, *args, **kwargs)
    request = make_request(SimpleNamespace(apply_async=None))
    request.terminate = lambda pool, signal: ran.append(request.id)
    state.requests[request.id] = request
    try:
        compat.revoke(consumer, [request.id], terminate=True)
        assert not ran  # it waits for the consumer's thread
        Consumer.perform_pending_operations(consumer)
    finally:
        del state.requests[request.id]
    assert ran == [request.id] and request.id in state.revoked


@pytest.fixture
def check_queue(redis_url: str) -> Callable[[], None]:
    address = redis_url.replace("unix://", "redis+socket://").replace("?db=", "?virtual_host=")

    def check() -> None:
        queue = uuid.uuid4().hex
        for options in ({}, {"global_keyprefix": "shop:"}):
            broker = Celery("broker", broker=address, set_as_current=False)
            broker.conf.broker_transport_options = options
            names = [broker.send_task("x", queue=queue, priority=priority).id for priority in (9, 0, 0)]
            with broker.connection_for_read() as connection:
                head = [message.decode() for message in compat.queue_head(connection.default_channel, queue, 2)]
            broker.close()
            assert names[1] in head[0] and names[2] in head[1] and len(head) == 2

    return check


#: The internals that compat.py uses: owner, attribute name, and the check that fails without it.
CONTRACT: list[tuple[Any, str, Callable[[], None]]] = [
    (celery.local.Proxy, "_get_current_object", check_current_task),
    (compat.unwrapped(nested), "request_stack", check_current_task),
    (celery.local.PromiseProxy, "__evaluated__", check_lazy_task),
    (celery.local.PromiseProxy, "__then__", check_lazy_task),
    (compat.unwrapped(retried), "__wrapped__", check_function_of_autoretried),
    (Task, "on_replace", check_replacement),
    (billiard.common, "_shutdown_cleanup", check_end_by_worker),
    (state, "reserved_requests", check_request_states),
    (state, "active_requests", check_request_states),
    (Request, "time_start", check_request_states),
    (Request, "acknowledged", check_request_states),
    (Request, "on_success", check_result),
    (compat, "ExceptionWithTraceback", check_result),
    (prefork, "TaskPool", check_pools),
    (base.BasePool, "terminate_job", check_pools),
    (control.Panel, "data", check_revoke),
    (Consumer, "call_soon", check_revoke),
]


@pytest.mark.parametrize("check", dict.fromkeys(check for _, _, check in CONTRACT), ids=lambda check: check.__name__)
def test_internals_behave(check: Callable[[], None]) -> None:
    check()


def test_redis_queues_can_be_read(check_queue: Callable[[], None]) -> None:
    check_queue()


@pytest.mark.parametrize(
    ("owner", "name", "check"), CONTRACT, ids=lambda value: value if isinstance(value, str) else ""
)
def test_check_fails_without_the_internal(
    owner: Any, name: str, check: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    if isinstance(owner, Task) and name not in vars(owner):
        monkeypatch.setattr(owner, name, None)
    else:
        monkeypatch.delattr(owner, name)
    if name == "on_success":  # otherwise each task's own request class defines it again
        monkeypatch.setitem(globals(), "create_request_cls", lambda base, *args, **kwargs: base)
    with pytest.raises((AssertionError, AttributeError, ImportError, NameError, TypeError)):
        check()


@pytest.mark.parametrize("name", ["_q_for_pri", "priority_steps", "global_keyprefix"])
def test_check_fails_without_the_internal_of_kombu(
    name: str, check_queue: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(kombu.transport.redis.Channel, name)
    with pytest.raises(AttributeError):
        check_queue()


def test_lazy_function_has_a_fallback() -> None:
    assert compat.lazy_function(object()) is None
