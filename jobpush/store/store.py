"""The blocking store: everything that workers and applications keep in Redis."""

from __future__ import annotations

from .erasing import ErasingStore
from .inbox import InboxStore
from .notifications import NotificationStore
from .queue_leadership import QueueLeadership
from .stage_durations import StageDurationStore
from .task_logs import TaskLogStore


class Store(NotificationStore, TaskLogStore, InboxStore, ErasingStore, StageDurationStore, QueueLeadership):
    """One client for all of it; the gateway's hub uses the same keys and scripts without blocking."""
