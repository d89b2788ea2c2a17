"""The blocking store: everything that workers and applications keep in Redis."""

from __future__ import annotations

from .notifications import NotificationStore
from .queue_leadership import QueueLeadership
from .stage_durations import StageDurationStore
from .task_logs import TaskLogStore


class Store(NotificationStore, TaskLogStore, StageDurationStore, QueueLeadership):
    """One client for all of it; the gateway's hub uses the same keys and scripts without blocking."""
