"""The only room that knows Redis's keys and commands."""

from .cancels import CancelFeed
from .store import Outcome, Published, Receipt, Store, TaskWrite

__all__ = ["CancelFeed", "Outcome", "Published", "Receipt", "Store", "TaskWrite"]
