"""The only room that knows Redis's keys and commands."""

from .cancels import CancelFeed
from .store import Published, Receipt, Store, TaskWrite

__all__ = ["CancelFeed", "Published", "Receipt", "Store", "TaskWrite"]
