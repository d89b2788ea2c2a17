"""The only room that knows Redis's keys and commands."""

from .store import Published, Receipt, Store, TaskWrite

__all__ = ["Published", "Receipt", "Store", "TaskWrite"]
