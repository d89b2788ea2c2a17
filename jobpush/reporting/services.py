"""What the worker side of one ``JobPush`` shares: its settings, store and publisher, each made on first use."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ..config import Config
from ..store import Store
from ..store.forks import register_after_fork
from .publisher import Publisher
from .running_tasks import RunningTasks

if TYPE_CHECKING:
    from ..queues.celery.worker_leases import LeaseKeeper


class Services:
    """Handed to all that is tracked by one ``JobPush``; nothing is read or connected before it is asked for."""

    def __init__(self, load_config: Callable[[], Config]) -> None:
        self._load_config = load_config
        self._made_for_tests: dict[str, dict[str, Any]] = {}
        self.begin()
        register_after_fork(self)

    def begin(self) -> None:
        """Start with a lock that nobody holds; what is made already takes care of itself."""
        # cached_property has no lock of its own from Python 3.12 on, and tasks may begin in many threads at once.
        self._lock = threading.RLock()

    def flush(self) -> None:
        """Wait until all that was said is published; see :meth:`Publisher.flush`."""
        publisher = self.__dict__.get("_publisher")  # which need not have been made
        if publisher is not None:
            publisher.flush()

    @contextmanager
    def publishing_to(self, redis_url: str) -> Iterator[None]:
        """For tests: as if ``redis_url`` were configured, for a while."""
        load_config = self._load_config
        self._load_config = lambda: replace(load_config(), redis_url=redis_url)
        # What was made for the last test serves the next: it has threads, which don't end.
        before = self._exchange(self._made_for_tests.pop(redis_url, {}))
        try:
            yield
        finally:
            self._load_config = load_config
            self._made_for_tests[redis_url] = self._exchange(before)

    @property
    def config(self) -> Config:
        """The settings; from their first use on they don't change."""
        with self._lock:
            return self._config

    @property
    def store(self) -> Store:
        """The client of Redis; connects when it is used."""
        with self._lock:
            return self._store

    @property
    def publisher(self) -> Publisher:
        """The publisher of this process; its thread starts when it is used."""
        with self._lock:
            return self._publisher

    @property
    def running(self) -> RunningTasks:
        """The tracked tasks that run in this process; its thread starts with the first."""
        with self._lock:
            return self._running

    @property
    def leases(self) -> LeaseKeeper:
        """What the parent of a worker keeps, so that its death is found out."""
        with self._lock:
            return self._leases

    def _exchange(self, made: dict[str, Any]) -> dict[str, Any]:
        """Put what is ``made`` in the place of what was; that is returned. What is missing is made on its next use."""
        names = ("_config", "_store", "_publisher", "_running")
        with self._lock:
            before = {name: self.__dict__.pop(name) for name in names if name in self.__dict__}
            self.__dict__.update(made)
            return before

    @cached_property
    def _config(self) -> Config:
        return self._load_config()

    @cached_property
    def _store(self) -> Store:
        return Store(self._config)

    @cached_property
    def _publisher(self) -> Publisher:
        return Publisher(self._store, self._config, on_cancelled=self._running.cancel)

    @cached_property
    def _leases(self) -> LeaseKeeper:
        from ..queues.celery.worker_leases import (
            LeaseKeeper,  # which needs Celery; a program that only notifies has none
        )

        return LeaseKeeper(self._config)

    @cached_property
    def _running(self) -> RunningTasks:
        return RunningTasks(self._store, self._config)
