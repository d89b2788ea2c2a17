"""Election of the worker that watches a queue of the broker."""

from __future__ import annotations

from .base import StoreClient


class QueueLeadership(StoreClient):
    """A leader per queue."""

    def lead(self, queue: str, worker_id: str, seconds: float) -> bool:
        """
        Become or stay the leader of a queue for this many seconds.

        Returns:
            Whether this worker is the leader; a leader stays in place while it keeps calling.
        """
        key, milliseconds = self.keys.queue_leader(queue), int(seconds * 1000)
        is_new, leader = self.run([("SET", key, worker_id, "NX", "PX", milliseconds), ("GET", key)])
        if is_new:
            return True
        return leader == worker_id.encode() and bool(self.run([("PEXPIRE", key, milliseconds)])[0])
