"""Durations of the stages of tasks, by Celery's name of the task."""

from __future__ import annotations

from collections.abc import Mapping

from .base import StoreClient

#: Seconds that the durations outlive the last success.
_TTL = 30 * 86_400


class StageDurationStore(StoreClient):
    """Records the durations that :meth:`~jobpush.store.tasks.TaskStore.start` reads."""

    def record_durations(self, task_name: str, seconds: Mapping[str, float]) -> None:
        """Replace the recorded durations of a task's stages."""
        key = self.keys.stages(task_name)
        pairs = [item for name, value in seconds.items() for item in (name, f"{value:.3f}")]
        self.client.transact(key, ("DEL", key), ("HSET", key, *pairs), ("EXPIRE", key, _TTL))
