"""The blocking store: everything that workers and applications keep in Redis."""

from __future__ import annotations

from collections.abc import Mapping

from ..channels import unescape_id, user_topic
from .inbox import InboxStore
from .notifications import NotificationStore
from .scripts import ERASE_TASKS
from .task_logs import TaskLogStore

#: Seconds that the durations of stages outlive the last success.
_DURATIONS_TTL = 30 * 86_400
#: Tasks that one call of the script erases.
_TASKS_AT_ONCE = 100


class Store(NotificationStore, TaskLogStore, InboxStore):
    """One client for all of it; the gateway's hub uses the same keys and scripts without blocking."""

    def record_durations(self, task_name: str, seconds: Mapping[str, float]) -> None:
        """Replace the durations of a task's stages, by Celery's name of the task; :meth:`start` reads them."""
        key = self.keys.stages(task_name)
        pairs = [item for name, value in seconds.items() for item in (name, f"{value:.3f}")]
        self.run([("DEL", key), ("HSET", key, *pairs), ("EXPIRE", key, _DURATIONS_TTL)])

    def lead(self, queue: str, worker_id: str, seconds: float) -> bool:
        """
        Become or stay the worker that watches a queue of the broker, for this many seconds.

        Returns:
            Whether this worker is the leader; a leader stays in place while it keeps calling.
        """
        key, milliseconds = self.keys.queue_leader(queue), int(seconds * 1000)
        is_new, leader = self.run([("SET", key, worker_id, "NX", "PX", milliseconds), ("GET", key)])
        if is_new:
            return True
        return leader == worker_id.encode() and bool(self.run([("PEXPIRE", key, milliseconds)])[0])

    def erase(self, user_id: object) -> int:
        """
        Remove everything that is stored about a user: tasks, logs, workflows and their members, inbox, history and
        revoked tokens.

        The user's connections are not closed, see :meth:`~jobpush.store.directory.RedisDirectory.disconnect`. Their
        counts, memberships of presence channels included, leave Redis with them.

        Returns:
            The number of erased tasks.

        Raises:
            StoreError: If Redis does not answer within ``Config.publish_timeout`` seconds; call again then.
        """
        keys, topic = self.keys, user_topic(user_id)
        call = ERASE_TASKS([keys.tasks(topic)], task_prefix=keys.task_prefix(topic), limit=_TASKS_AT_ONCE)
        count = 0
        while task_ids := self.run([call])[0]:
            self.run([("DEL", keys.owner(unescape_id(task_id.decode()))) for task_id in task_ids])
            count += len(task_ids)
        names = (keys.stream(topic), keys.floor(topic), keys.cache(topic), keys.revoked(topic), *keys.inbox(topic))
        self.run([("DEL", *names)])
        return count
