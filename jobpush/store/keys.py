"""
The names of all that jobpush keeps in Redis.

What belongs to a topic carries the topic as its hash tag, ``{user:42}``, so that a cluster keeps it in one slot
and one script may touch it all. No part of a name is ever used as a pattern.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..channels import Topic, escape_id


@dataclass(frozen=True, slots=True)
class Keys:
    """Keys below one prefix."""

    prefix: str

    def topic(self, topic: Topic) -> str:
        """Pub/sub channel of a topic."""
        return f"{self.prefix}:{{{topic}}}"

    def stream(self, topic: Topic) -> str:
        """History of a topic: a stream, bounded and expiring."""
        return f"{self.prefix}:{{{topic}}}:stream"

    def floor(self, topic: Topic) -> str:
        """Stream id after which the history of a topic holds every event."""
        return f"{self.prefix}:{{{topic}}}:floor"

    def connections(self, topic: Topic) -> str:
        """Hash of gateway id to the number of its connections that hear the topic."""
        return f"{self.prefix}:{{{topic}}}:connections"

    def revoked(self, topic: Topic) -> str:
        """Unix seconds at which a user's connection tokens were revoked; kept as long as a token can be valid."""
        return f"{self.prefix}:{{{topic}}}:revoked"

    def count_told(self, topic: Topic) -> str:
        """The subscription count that the readers of a topic were told last; it expires when they may hear another."""
        return f"{self.prefix}:{{{topic}}}:count-told"

    def members(self, topic: Topic) -> str:
        """Hash of a presence channel's user ids (as inside a JSON string) to gateways and ``user_info``."""
        return f"{self.prefix}:{{{topic}}}:members"

    def members_seq(self, topic: Topic) -> str:
        """Number of the last announcement about those members."""
        return f"{self.prefix}:{{{topic}}}:members-seq"

    def cache(self, topic: Topic) -> str:
        """Last event of a cache channel."""
        return f"{self.prefix}:{{{topic}}}:cache"

    def tasks(self, topic: Topic) -> str:
        """Sorted set of a user's task ids (escaped), by ``created_at``."""
        return f"{self.prefix}:{{{topic}}}:tasks"

    def task(self, topic: Topic, task_id: str) -> str:
        """Hash with the snapshot of a task."""
        return self.task_prefix(topic) + escape_id(task_id)

    def of_task(self, topic: Topic, task_id: str) -> tuple[str, ...]:
        """What a script needs that changes a task; see ``lifecycle.lua``."""
        return (
            self.task(topic, task_id),
            self.tasks(topic),
            self.topic(topic),
            self.stream(topic),
            self.floor(topic),
        )

    def task_prefix(self, topic: Topic) -> str:
        """What the keys of a user's tasks begin with."""
        return f"{self.prefix}:{{{topic}}}:task:"

    def workflow(self, topic: Topic, task_id: str) -> str:
        """Hash with what the members of a workflow have done, see ``workflow.lua``."""
        return self.task(topic, task_id) + ":workflow"

    def children(self, topic: Topic, task_id: str) -> str:
        """List of the ids (escaped) of a workflow's members, as they appeared."""
        return self.task(topic, task_id) + ":members"

    def owner(self, task_id: str) -> str:
        """The escaped id of the user whose task it is."""
        return f"{self.prefix}:owner:{escape_id(task_id)}"

    def stages(self, task_name: str) -> str:
        """Hash of the stages of a task to the seconds that they took in earlier runs; by Celery's name of the task."""
        return f"{self.prefix}:stages:{escape_id(task_name)}"

    def queue_leader(self, queue: str) -> str:
        """The worker that looks at a queue of the broker's, as long as it does."""
        return f"{self.prefix}:queue-leader:{escape_id(queue)}"

    @property
    def probe(self) -> str:
        """Written to find out whether Redis takes anything."""
        return f"{self.prefix}:probe"

    @property
    def gateways(self) -> str:
        """Sorted set of gateway ids, by the time at which their lease ends."""
        return f"{self.prefix}:gateways"

    @property
    def workers(self) -> str:
        """Sorted set of worker ids, by the time at which their lease ends."""
        return f"{self.prefix}:workers"

    def worker_claims(self, worker_id: str) -> str:
        """Set of the deliveries that a worker has, as :class:`~jobpush.store.worker_leases.Claim` writes them."""
        return self.worker_claims_prefix + worker_id

    @property
    def worker_claims_prefix(self) -> str:
        """What the keys of all those sets begin with."""
        return f"{self.prefix}:worker-claims:"

    @property
    def epoch(self) -> str:
        """Name of the time since Redis last lost data."""
        return f"{self.prefix}:epoch"

    def claims(self, gateway_id: str) -> str:
        """Set of what a gateway has said of its connections, to be taken back when it dies."""
        return self.claims_prefix + gateway_id

    @property
    def claims_prefix(self) -> str:
        """What the keys of all claims begin with."""
        return f"{self.prefix}:claims:"

    @property
    def channels(self) -> str:
        """Sorted set of the channels that somebody has joined; in the order of their names."""
        return f"{self.prefix}:channels"

    @property
    def users(self) -> str:
        """Sorted set of the users (escaped) who are online; in the order of their ids."""
        return f"{self.prefix}:users"

    @property
    def webhooks(self) -> str:
        """Stream of the events that other servers are to be told."""
        return f"{self.prefix}:webhooks"

    @property
    def cancels(self) -> str:
        """Stream of cancel requests, for the parents of the workers."""
        return f"{self.prefix}:cancels"

    @property
    def cancel(self) -> str:
        """Pub/sub channel of the same requests, for the processes that run the tasks."""
        return f"{self.prefix}:cancel"
