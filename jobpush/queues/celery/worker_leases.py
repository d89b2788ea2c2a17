"""The lease of a worker, and its claims: one for each message it holds."""

from __future__ import annotations

import logging
import secrets
import threading
import time
import weakref
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from ...channels import unescape_id
from ...config import Config
from ...errors import StoreError
from ...events import CodedText
from ...lifecycle import TaskState
from ...reporting.identity import TaskIdentity, new_delivery
from ...reporting.records import Ending
from ...reporting.services import Services
from ...store import Store
from ...store.forks import register_after_fork
from ...store.redis.errors import ShardUnavailable
from ...store.scripts import Request
from ...store.worker_leases import Claim, WorkerLeases
from .compat import has_begun, is_in_hand
from .headers import read_headers
from .lease_sidecar import LeaseSidecar

logger = logging.getLogger(__name__)

#: Error text of a task that vanished from its worker without an end.
NOT_REPORTED = CodedText("The process of the task ended without reporting a result", "not_reported")
#: Error text of a task that was running when its worker was stopped.
WORKER_STOPPED = CodedText("The worker of the task was stopped", "worker_stopped")

#: Claims in one round trip.
_AT_ONCE = 200
#: Finished messages with an unchecked end. Beyond it the oldest are dropped, after a long outage of Redis. Without an
#: end they become LOST with the worker, or never.
MAX_OVER = 10_000


@dataclass(slots=True, eq=False)
class _Held:
    """A message that this worker holds until Celery's request for it is done."""

    claim: Claim
    request: weakref.ref[Any]
    was_reserved: bool = False
    #: Monotonic seconds at which it was found to be done; ``None``: not done.
    over_since: float | None = None
    #: How it ended, from its result; ``None``: it has not ended, or its result does not show it.
    ending: Ending | None = None
    #: Whether that end is published.
    has_published: bool = False
    #: Monotonic seconds at which the primary of its task last failed, in a cluster.
    failed_at: float = 0.0

    def is_over(self) -> bool:
        """
        Whether the worker is done with it.

        A request that waits for its ETA or a rate limit is not yet among Celery's reserved requests. One that started
        and ended since the last check is no longer there, but has begun, or is acknowledged.
        """
        request = self.request()
        if request is None:
            return True
        if is_in_hand(request):
            self.was_reserved = True
            return False
        return self.was_reserved or has_begun(request)


class LeaseKeeper:
    """
    The thread in a worker's parent that keeps its lease alive, independent of its children.

    It also ends tasks if their process exited without publishing an end: with their result if the pool returned one,
    otherwise with LOST after ``lost_after`` seconds. A late event of the task replaces LOST.

    The pools ``solo``, ``threads`` and ``gevent`` have no children: a task may keep other threads (with gevent:
    greenlets) from running for a while. So for these a
    :class:`~jobpush.queues.celery.lease_sidecar.LeaseSidecar` keeps the lease too.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._leases = WorkerLeases(config)
        # A separate connection with a longer timeout than a task has: a slow Redis must not make the worker count as
        # dead.
        self._store = Store(replace(config, publish_timeout=max(config.publish_timeout, config.lost_after / 3)))
        self.reset_after_fork()
        register_after_fork(self)

    def reset_after_fork(self) -> None:
        """Start from nothing: in the child of a fork, the lease and its thread are the parent's."""
        self.worker_id = secrets.token_hex(8)
        self._lock = threading.Lock()
        self._held: dict[str, _Held] = {}
        self._newest: dict[str, str] = {}
        self._thread: threading.Thread | None = None
        self._sidecar: LeaseSidecar | None = None
        self._is_stopped = threading.Event()
        #: Monotonic seconds since which Redis answers; ``None``: it is not known to answer.
        self._reached_since: float | None = None
        #: Remaining repeats of publishing all claims: a gateway that found this worker dead may be removing them.
        self._times_to_assert = 0

    # -- the worker's side ---------------------------------------------------------------------------

    def start(self, *, runs_tasks: bool = False) -> None:
        """
        Begin the lease before the first message is taken: otherwise a death right after that would go unnoticed.
        Idempotent.

        Args:
            runs_tasks: Whether the tasks run in this very process.
        """
        with self._lock:
            if self._thread is not None:
                return
            self._thread = threading.Thread(target=self._run, name="jobpush-leases", daemon=True)
        with suppress(StoreError):  # Redis is unreachable; the thread retries
            self._renew()
        self._thread.start()
        if runs_tasks:
            try:
                self._sidecar = LeaseSidecar(self._config, self.worker_id)
            except OSError as exc:
                logger.warning("a task that lets nothing else run may be taken for lost: %s", exc)

    def take(self, request: Any, tracked: TaskIdentity) -> TaskIdentity:
        """
        Record a received message, which this worker holds until Celery is done with ``request``.

        Returns:
            The task with this delivery, for all its events. RECEIVED and STARTED claim the message, an end releases it.
        """
        tracked = replace(tracked, delivery=new_delivery(), worker=self.worker_id)
        claim = Claim.of(tracked.user_id, tracked.task_id, tracked.delivery)
        with self._lock:
            self._held[tracked.delivery] = _Held(claim, weakref.ref(request))
            self._newest[tracked.task_id] = tracked.delivery
        return tracked

    def tracked_of(self, task_id: str) -> TaskIdentity | None:
        """Return a task that this worker holds, as its message describes it; ``None`` if it holds none of that id."""
        held = self._held.get(self.delivery_of(task_id))
        request = held.request() if held is not None else None
        return read_headers(request.request_dict, request.task) if request is not None else None

    def delivery_of(self, task_id: str) -> str:
        """Return the newest delivery of a task that this worker holds or held a moment ago; empty if there is none."""
        return self._newest.get(task_id, "")

    def user_of(self, delivery: str) -> str | None:
        """Return the user of a delivery that this worker holds; ``None`` if it holds none of that id."""
        held = self._held.get(delivery)
        return None if held is None else unescape_id(held.claim.user_id)

    def record_end(self, ending: Ending) -> None:
        """
        Record how a delivery ended, in case its process cannot publish it.

        The process may exit first during an outage of Redis: by ``worker_max_tasks_per_child``, or because the worker
        stops.
        """
        held = self._held.get(ending.delivery)
        if held is not None:
            held.ending = ending

    def wait_for_redis(self) -> None:
        """Wait for Redis, ``lost_after`` seconds at most, if the end of a task may still have to be published."""
        deadline = time.monotonic() + self._config.lost_after
        while any(held.ending is not None for held in self._snapshot()) and time.monotonic() < deadline:
            try:
                self._renew()
                return
            except StoreError:
                time.sleep(min(self._config.retry_interval, self._leases.pause))

    def stop(self) -> None:
        """
        Publish running tasks as lost when the worker ends; Celery requeues those not yet started.

        A known result waits for the primary of its task, ``lost_after`` seconds at most.
        """
        self._is_stopped.set()
        if self._sidecar is not None:
            self._sidecar.close()
        deadline = time.monotonic() + self._config.lost_after
        try:
            left = self._end_all(self._snapshot(), WORKER_STOPPED, least=TaskState.STARTED)
            while any(held.ending and not held.has_published for held in left) and time.monotonic() < deadline:
                time.sleep(min(self._config.retry_interval, self._leases.pause))
                left = self._end_all(left, WORKER_STOPPED, least=TaskState.STARTED)
            if left:
                logger.warning("a part of Redis fails: %d tasks of this worker are LOST once it is back", len(left))
            else:
                self._store.run(self._leases.leave(self.worker_id), may_be_partial=True)
        except StoreError as exc:
            logger.warning("the end of this worker will be found out by its lease: %s", exc)
        self._store.close()

    # -- the thread's side ---------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._is_stopped.is_set():
            try:
                try:
                    self._renew()
                finally:  # finished messages pile up while Redis is unreachable
                    self._note_what_is_over()
                self._assert_claims()
                self._settle()
            except StoreError:
                self._reached_since = None  # the publisher logs it
            except Exception:  # a bug in jobpush; the lease matters most, and is renewed first
                logger.exception("the claims of this worker can't be looked after")
            self._is_stopped.wait(self._leases.pause)

    def _renew(self) -> None:
        # In a cluster the ends of tasks do not wait for the primary of the leases.
        was_held, _ = self._store.run(self._leases.hold(self.worker_id), may_be_partial=True)
        if self._reached_since is None:
            self._reached_since = time.monotonic()
        if not was_held:
            self._times_to_assert = 2

    def _assert_claims(self) -> None:
        """Publish all claims again: Redis was unreachable or returned empty, or a gateway found this worker dead."""
        if not self._times_to_assert:
            return
        claims, is_complete = [held.claim for held in self._snapshot() if not held.is_over()], True
        for start in range(0, len(claims), _AT_ONCE):
            some = claims[start : start + _AT_ONCE]
            requests: list[Request] = [*map(self._leases.regain, some), self._leases.claim(self.worker_id, *some)]
            is_complete &= not any(map(_has_failed, self._store.run(requests, may_be_partial=True)))
        self._times_to_assert -= is_complete

    def _note_what_is_over(self) -> None:
        """Record when messages were finished; keep the newest :data:`MAX_OVER`."""
        now = time.monotonic()
        over = []
        for held in self._snapshot():
            if held.over_since is None and held.is_over():
                held.over_since = now
            if held.over_since is not None:
                over.append((held.over_since, held.claim))
        if len(over) > MAX_OVER:
            over.sort(key=lambda one: one[0])
            self._forget([claim for _, claim in over[:-MAX_OVER]])

    def _settle(self) -> None:
        """
        Forget finished messages, and end those that still have their claim, since nothing else has ended them.

        Outages of Redis do not count: an event has the whole of ``lost_after`` once Redis is back.
        """
        now = time.monotonic()
        reached_since = now if self._reached_since is None else self._reached_since
        done = []
        for held in self._snapshot():
            # A known result is published earlier: its process has exited, or Redis would have it by now.
            patience = self._config.lost_after / (1 if held.ending is None else 3)
            reached_at = max(reached_since, held.failed_at)
            if held.over_since is not None and now - max(held.over_since, reached_at) >= patience:
                done.append(held)
        self._end_all(done, NOT_REPORTED, reached_since=reached_since)

    def _end_all(self, some: Sequence[_Held], error: str, **options: Any) -> list[_Held]:
        """Publish the ends of messages, and forget these; return those that wait for a primary of a cluster."""
        left: list[_Held] = []
        for start in range(0, len(some), _AT_ONCE):
            part = some[start : start + _AT_ONCE]
            waiting = self._end(part, error, **options)
            left += waiting
            claims = [held.claim for held in part if held not in waiting]
            if claims:
                self._store.run([self._leases.drop(self.worker_id, *claims)])
                self._forget(claims)
        return left

    def _end(
        self, some: Sequence[_Held], error: str, *, least: TaskState = TaskState.PENDING, reached_since: float = 0.0
    ) -> list[_Held]:
        """
        Publish the end of messages that still have their claim, or could not be claimed during an outage of Redis.

        Returns:
            Those to be tried again, because a primary of a cluster fails: the one of the task, or of the claims.
        """
        query = self._leases.are_claimed(self.worker_id, [held.claim for held in some])
        (are_claimed,) = self._store.run([query], may_be_partial=True)
        is_known = not _has_failed(are_claimed)
        calls = []
        for held, is_claimed in zip(some, are_claimed if is_known else [None] * len(some), strict=True):
            ending = held.ending
            if ending is None and is_claimed:
                calls.append((held, self._leases.lose(held.claim, error, least=least)))
            elif ending is not None and not held.has_published:
                if is_claimed != 0 or (held.over_since or 0.0) < max(reached_since, held.failed_at):
                    calls.append((held, self._leases.end(held.claim, ending.state, ending.error)))
        # In one round trip: the lease is not renewed meanwhile.
        replies = self._store.run([call for _, call in calls], may_be_partial=True)
        failed = [held for (held, _), reply in zip(calls, replies, strict=True) if _has_failed(reply)]
        for held, _ in calls:
            held.has_published = held not in failed
        for held in failed:
            held.failed_at = time.monotonic()
        return failed if is_known else list(some)

    def _forget(self, claims: Sequence[Claim]) -> None:
        with self._lock:
            for claim in claims:
                self._held.pop(claim.delivery, None)
            self._newest = {task: delivery for task, delivery in self._newest.items() if delivery in self._held}

    def _snapshot(self) -> list[_Held]:
        with self._lock:
            return list(self._held.values())


def _has_failed(reply: object) -> bool:
    """Return whether a reply stands for a primary of a cluster that fails."""
    return isinstance(reply, ShardUnavailable)


_keepers: weakref.WeakKeyDictionary[Services, LeaseKeeper] = weakref.WeakKeyDictionary()


def leases_of(services: Services) -> LeaseKeeper:
    """Return the lease keeper of the worker that runs in this process, made on first use."""
    keeper = _keepers.get(services)
    return _keepers.setdefault(services, LeaseKeeper(services.config)) if keeper is None else keeper
