"""What the worker side of one ``JobPush`` shares: its settings, store and publisher, each made on first use."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import cached_property

from ..config import Config
from ..store import Store
from .cancels import RunningTasks
from .forks import begin_in_children
from .publisher import Publisher


class Runtime:
    """Handed to all that is tracked by one ``JobPush``; nothing is read or connected before it is asked for."""

    def __init__(self, load_config: Callable[[], Config]) -> None:
        self._load_config = load_config
        self.begin()
        begin_in_children(self)

    def begin(self) -> None:
        """Start with a lock that nobody holds; what is made already takes care of itself."""
        # cached_property has no lock of its own from Python 3.12 on, and tasks may begin in many threads at once.
        self._lock = threading.RLock()

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
    def _running(self) -> RunningTasks:
        return RunningTasks(self._store, self._config)
