"""The shared services of one ``JobPush``: settings, store, publisher and running tasks."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import ClassVar

from ..config import Config
from ..store import Store
from ..store.forks import register_after_fork
from .publisher import Publisher
from .running_task import Clock
from .running_tasks import RunningTasks


@dataclass(frozen=True)
class _Parts:
    store: Store
    publisher: Publisher
    running: RunningTasks


class Services:
    """Nothing is read or connected before its first use."""

    #: The clock of all stamps, rates and forecasts.
    clock: ClassVar[Clock] = time

    def __init__(self, load_config: Callable[[], Config]) -> None:
        self._load_config = load_config
        self._config: Config | None = None
        self._parts: _Parts | None = None
        #: The services of tests, by the URL of their Redis.
        self._parts_for_tests: dict[str, _Parts] = {}
        self.reset_after_fork()
        register_after_fork(self)

    def reset_after_fork(self) -> None:
        """Replace the lock, which the parent may hold; the services register themselves."""
        self._lock = threading.RLock()

    @property
    def config(self) -> Config:
        """The settings; they do not change after their first use."""
        with self._lock:
            if self._config is None:
                self._config = self._load_config()
            return self._config

    @property
    def store(self) -> Store:
        """The client of Redis; it connects on first use."""
        return self._get_parts().store

    @property
    def publisher(self) -> Publisher:
        """The publisher of this process; its thread starts on first use."""
        return self._get_parts().publisher

    @property
    def running(self) -> RunningTasks:
        """The tracked tasks that run in this process; its thread starts with the first."""
        return self._get_parts().running

    def published_at(self) -> float:
        """
        Return the time for the stamp of a task that is published now, in Unix seconds.

        It is Redis' time, since stamps of several hosts are compared; this machine's before the first connection.
        """
        return self.clock.time() + self.store.client.clock_offset

    def flush(self) -> None:
        """Wait until everything is published; see :meth:`Publisher.flush`."""
        if self._parts is not None:
            self._parts.publisher.flush()

    def close(self) -> None:
        """End the threads soon. What is not yet published is lost; :meth:`flush` before."""
        if self._parts is not None:
            self._parts.running.close()
            self._parts.publisher.close()

    @contextmanager
    def publishing_to(self, redis_url: str) -> Iterator[None]:
        """For tests: publish to another Redis for a while."""
        with self._lock:
            before = self._config, self._parts
            self._config = replace(self._load_config(), redis_url=redis_url)
            self._parts = self._parts_for_tests.get(redis_url)  # its threads do not end, so the next test reuses it
        try:
            yield
        finally:
            with self._lock:
                if self._parts is not None:
                    self._parts_for_tests[redis_url] = self._parts
                self._config, self._parts = before

    def _get_parts(self) -> _Parts:
        with self._lock:
            if self._parts is None:
                config = self.config
                store = Store(config)
                running = RunningTasks(store, config)
                publisher = Publisher(store, config, on_cancelled=running.cancel)
                running.on_reconnect = publisher.resend_final_writes
                self._parts = _Parts(store, publisher, running)
            return self._parts
