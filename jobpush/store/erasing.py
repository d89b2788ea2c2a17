"""Erasure of everything that is kept of a user."""

from __future__ import annotations

from ..channels import unescape_id, user_topic
from .scripts import ERASE_TASKS
from .tasks import TaskStore

#: Tasks that one call of the script erases.
_TASKS_AT_ONCE = 100


class ErasingStore(TaskStore):
    """Erases users."""

    def erase(self, user_id: object) -> int:
        """
        Remove everything that is kept of a user: tasks, logs, workflows and their members, inbox, history and revoked
        tokens.

        The user's connections are not closed, see :meth:`~jobpush.store.directory.RedisDirectory.disconnect`. Their
        counts, memberships of presence channels included, leave Redis with them.

        Returns:
            The number of erased tasks.

        Raises:
            StoreError: If Redis does not answer within ``Config.publish_timeout`` seconds; call again then.
        """
        keys, topic = self.keys, user_topic(user_id)
        count = 0
        while True:
            (task_ids,) = self.run(
                [ERASE_TASKS([keys.tasks(topic)], task_prefix=keys.task_prefix(topic), limit=_TASKS_AT_ONCE)]
            )
            if not task_ids:
                break
            self.run([("DEL", keys.owner(unescape_id(task_id.decode()))) for task_id in task_ids])
            count += len(task_ids)
        names = (keys.stream(topic), keys.floor(topic), keys.cache(topic), keys.revoked(topic), *keys.inbox(topic))
        self.run([("DEL", *names)])
        return count
