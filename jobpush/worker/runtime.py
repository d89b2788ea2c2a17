"""What the worker side of one ``JobPush`` shares: its settings, store and publisher, each made on first use."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

from ..config import Config
from ..store import Store
from .publisher import Publisher


class Runtime:
    """Handed to all that is tracked by one ``JobPush``; nothing is read or connected before it is asked for."""

    def __init__(self, load_config: Callable[[], Config]) -> None:
        self._load_config = load_config

    @cached_property
    def config(self) -> Config:
        """The settings; from here on they don't change."""
        return self._load_config()

    @cached_property
    def store(self) -> Store:
        """The client of Redis; connects when it is used."""
        return Store(self.config)

    @cached_property
    def publisher(self) -> Publisher:
        """The publisher of this process; its thread starts when it is used."""
        return Publisher(self.store, self.config)
