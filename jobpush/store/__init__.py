"""Keys, scripts and formats in Redis, and the clients that use them."""

from .cancels import CancelFeed
from .records import Notification, Outcome, Published, Receipt, TaskWrite
from .store import Store
from .workflows import Membership, WorkflowPlan

__all__ = [
    "CancelFeed",
    "Membership",
    "Notification",
    "Outcome",
    "Published",
    "Receipt",
    "Store",
    "TaskWrite",
    "WorkflowPlan",
]
