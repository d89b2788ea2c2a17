"""Keys, scripts and formats in Redis, and the clients that use them."""

from .cancels import CancelFeed
from .records import Membership, Notification, Outcome, Published, Receipt, TaskWrite, WorkflowPlan
from .store import Store

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
