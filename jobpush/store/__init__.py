"""The only room that knows Redis's keys and commands."""

from .cancels import CancelFeed
from .store import Notification, Published, Receipt, Store, TaskWrite
from .workflows import Membership, WorkflowPlan

__all__ = ["CancelFeed", "Membership", "Notification", "Published", "Receipt", "Store", "TaskWrite", "WorkflowPlan"]
