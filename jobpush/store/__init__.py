"""The only room that knows Redis's keys and commands."""

from .store import Outcome, Published, Receipt, Store, TaskWrite

__all__ = ["Outcome", "Published", "Receipt", "Store", "TaskWrite"]
