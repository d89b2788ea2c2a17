"""
Names of all keys and pub/sub channels in Redis.

Every name is ``<prefix>:{<tag>}:<kind>:<id>…``. Redis Cluster hashes the tag alone, so names with one tag share a slot.
The CRC16 of an id selects one of 256 buckets, whatever the kind: a user's topic, tasks, inbox and watch topic share a
bucket, and each script touches one bucket. The tags spread the buckets evenly over the slots. Global names have tags of
their own. Redis' pub/sub ignores databases, so pub/sub names contain the database number.
"""

from __future__ import annotations

from binascii import crc_hqx
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import product

from ..channels import Topic, escape_id, watch_topic
from ..config import Config
from .redis.topology import Topology

#: Version of the key names and stored formats; see :meth:`jobpush.store.base.RedisClient.check_layout`.
LAYOUT = 2
BUCKETS = 256
SLOTS = 16_384
_ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyz"

#: Tags of global names: longer than the tags of buckets.
_LIVE, _CANCELS, _WEBHOOKS = "live", "cancels", "webhooks"


def slot_of(name: str | bytes) -> int:
    """Return the Cluster slot of a key or channel. Source: Redis Cluster specification, "Hash tags"."""
    data = name.encode() if isinstance(name, str) else name
    tag, closing, _ = data.partition(b"{")[2].partition(b"}")
    return crc_hqx(tag if tag and closing else data, 0) % SLOTS


@cache
def bucket_tags() -> Sequence[str]:
    """Return the tag of each bucket: the shortest with a slot in the bucket's 256th of all slots."""
    tags: dict[int, str] = {}
    for tag in (*_ALPHABET, *map("".join, product(_ALPHABET, repeat=2))):  # one of these is in each
        tags.setdefault(slot_of(tag) * BUCKETS // SLOTS, tag)
    return tuple(tags[bucket] for bucket in range(BUCKETS))


@lru_cache(maxsize=256)
def tag_of(name: str) -> str:
    """Return the tag of the bucket of an id or channel name."""
    return bucket_tags()[crc_hqx(name.encode(), 0) % BUCKETS]


def _topic_key(kind: str) -> Callable[[Keys, Topic], str]:
    """Return a method of :class:`Keys` that returns a topic's key of one kind."""

    def key(self: Keys, topic: Topic) -> str:
        return f"{self.prefix}:{{{_tag_of_topic(topic)}}}:{topic}:{kind}"

    return key


@dataclass(frozen=True)
class _GlobalKey:
    """An attribute of :class:`Keys`: a key that exists once below a prefix."""

    tag: str
    name: str

    def __get__(self, keys: Keys, owner: type[Keys]) -> str:
        return keys.bucket(self.tag) + self.name


@dataclass(frozen=True, slots=True)
class Keys:
    """Names below one prefix, for one database."""

    prefix: str
    database: int = 0
    #: Whether the buckets lie on several servers.
    is_cluster: bool = False

    @classmethod
    def of(cls, config: Config) -> Keys:
        """Return the names that a configuration selects."""
        if not config.redis_url:
            return cls(config.prefix)
        topology = Topology.parse(config.redis_url)
        return cls(config.prefix, topology.database, topology.is_cluster)

    # -- topics --------------------------------------------------------------------------------------

    def topic(self, topic: Topic) -> str:
        """Pub/sub channel of a topic."""
        return f"{self.prefix}:{{{_tag_of_topic(topic)}}}:{self.database}:{topic}"

    #: History of a topic: a stream, bounded and expiring.
    stream = _topic_key("stream")
    #: Stream id after which the history is complete, and the Redis run that it holds for; see ``stream.lua``.
    floor = _topic_key("floor")
    #: Hash of gateway id to the number of a user's connections that are subscribed to the user's channel.
    subscribed = _topic_key("subscribed")
    #: Hash of gateway id to the number of its connections that are subscribed to the topic.
    connections = _topic_key("connections")
    #: The last published subscription count. It expires when the next may be published.
    published_count = _topic_key("published-count")
    #: Hash of a presence channel's user ids (as inside a JSON string) to gateways and ``user_info``.
    members = _topic_key("members")
    #: Number of the last announcement about those members.
    members_seq = _topic_key("members-seq")
    #: Last event of a cache channel.
    cache = _topic_key("cache")
    #: Unix seconds at which the connection tokens of a user were revoked; it expires with the last of them.
    revoked = _topic_key("revoked")

    def inbox(self, topic: Topic) -> tuple[str, str]:
        """Stream of a user's kept notifications, and hash of their states."""
        name = self._of_topic(topic)
        return name + ":inbox", name + ":inbox-states"

    # -- tasks ---------------------------------------------------------------------------------------

    #: Sorted set of a user's task ids (escaped): ended, waiting and running ones, each by ``created_at``.
    tasks = _topic_key("tasks")

    def task(self, topic: Topic, task_id: str) -> str:
        """Hash with the snapshot of a task."""
        return self.task_prefix(topic) + escape_id(task_id)

    def task_prefix(self, topic: Topic) -> str:
        """Prefix of the keys of a user's tasks."""
        return self._of_topic(topic) + ":task:"

    def of_task(self, topic: Topic, task_id: str) -> tuple[str, ...]:
        """Keys of a script that changes a task: task, tasks, topic, stream, floor."""
        name = self._of_topic(topic)
        return (
            f"{name}:task:{escape_id(task_id)}",
            name + ":tasks",
            self.topic(topic),
            name + ":stream",
            name + ":floor",
        )

    def of_history(self, topic: Topic, task_id: str | None = None) -> tuple[str, str, str]:
        """
        Keys of a script that reads a history: stream, floor, and the source of snapshots.

        That is the task of this escaped id, otherwise a user's tasks, or the last event of a cache channel.
        """
        name = self._of_topic(topic)
        if task_id is not None:
            source = f"{name}:task:{task_id}"
        else:
            source = name + (":tasks" if topic.startswith("user:") else ":cache")
        return name + ":stream", name + ":floor", source

    def workflow(self, topic: Topic, task_id: str) -> str:
        """Hash with the sums over a workflow's members; see ``workflow.lua``."""
        return self.task(topic, task_id) + ":workflow"

    def children(self, topic: Topic, task_id: str) -> str:
        """List of the ids (escaped) of a workflow's members, in the order of their first events."""
        return self.task(topic, task_id) + ":members"

    def log(self, topic: Topic, task_id: str) -> tuple[str, str]:
        """Stream with the log of a task, and hash with its size."""
        name = self.task(topic, task_id)
        return name + ":log", name + ":log-state"

    def owner(self, task_id: str) -> str:
        """Escaped id of the user that owns a task."""
        return self._of("owner", task_id)

    def stages(self, task_name: str) -> str:
        """Hash of the stages of a task (by Celery's name) to their seconds in earlier runs."""
        return self._of("stages", task_name)

    def queue_leader(self, queue: str) -> str:
        """The worker that watches a queue of the broker."""
        return self._of("queue-leader", queue)

    # -- buckets -------------------------------------------------------------------------------------

    def bucket(self, tag: str) -> str:
        """Return what all names of a bucket begin with."""
        return f"{self.prefix}:{{{tag}}}:"

    def claims(self, tag: str, gateway_id: str) -> str:
        """Set of a gateway's statements in a bucket, to be retracted when the gateway dies."""
        return f"{self.prefix}:{{{tag}}}:claims:{gateway_id}"

    def tombstone(self, tag: str, gateway_id: str) -> str:
        """Exists while and after a dead gateway's statements in a bucket are retracted."""
        return f"{self.prefix}:{{{tag}}}:tombstone:{gateway_id}"

    def channels(self, tag: str) -> str:
        """Sorted set of a bucket's channels that have subscribers, in the order of their names."""
        return f"{self.prefix}:{{{tag}}}:channels"

    def users(self, tag: str) -> str:
        """Sorted set of a bucket's online users (escaped ids), in the order of their ids."""
        return f"{self.prefix}:{{{tag}}}:users"

    def of_online(self, tag: str, user_id: str) -> tuple[str, ...]:
        """Keys for the connections of a user: connections, users, watch, floor, subscribed."""
        bucket = self.bucket(tag)
        name = f"{bucket}user:{user_id}:"
        watch = f"{bucket}{self.database}:{watch_topic(user_id)}"
        return name + "connections", bucket + "users", watch, name + "floor", name + "subscribed"

    def of_occupancy(self, tag: str, channel: str) -> tuple[str, ...]:
        """Keys for the connections of a channel: connections, channels, topic, published_count, floor."""
        bucket = self.bucket(tag)
        topic = f"channel:{channel}"
        name = f"{bucket}{topic}:"
        return (
            name + "connections",
            bucket + "channels",
            f"{bucket}{self.database}:{topic}",
            name + "published-count",
            name + "floor",
        )

    def webhook_source(self, tag: str) -> str:
        """Stream to which the scripts of a bucket append events for webhooks; in a cluster one in the same slot."""
        return f"{self.prefix}:{{{tag}}}:webhooks" if self.is_cluster else self.webhooks

    # -- global --------------------------------------------------------------------------------------

    #: Version of the layout; see :data:`LAYOUT`.
    layout = _GlobalKey(_LIVE, "layout")
    #: Key for test writes that check whether Redis accepts writes.
    probe = _GlobalKey(_LIVE, "probe")
    #: Sorted set of gateway ids, by the end of their lease.
    gateways = _GlobalKey(_LIVE, "gateways")
    #: The gateway that retracts the statements of dead gateways.
    reaper = _GlobalKey(_LIVE, "reaper")
    #: Id of the time since Redis last lost data.
    epoch = _GlobalKey(_LIVE, "epoch")
    #: Sorted set of worker ids, by the end of their lease.
    workers = _GlobalKey(_LIVE, "workers")
    #: Stream of cancel requests, for the parents of the workers.
    cancels = _GlobalKey(_CANCELS, "stream")
    #: Stream of the events that webhooks receive.
    webhooks = _GlobalKey(_WEBHOOKS, "stream")
    #: The worker that moves the events of all buckets into that stream.
    webhook_collector = _GlobalKey(_WEBHOOKS, "collector")

    def worker_claims(self, worker_id: str) -> str:
        """Set of a worker's deliveries; see :class:`~jobpush.store.worker_leases.Claim`."""
        return self.bucket(f"worker-{worker_id}") + "claims"

    @property
    def cancel(self) -> str:
        """Pub/sub channel of the cancel requests, for the processes that run the tasks."""
        return self.bucket(_CANCELS) + f"{self.database}:cancel"

    def _of_topic(self, topic: Topic) -> str:
        return f"{self.prefix}:{{{_tag_of_topic(topic)}}}:{topic}"

    def _of(self, kind: str, name: str) -> str:
        escaped = escape_id(name)
        return f"{self.prefix}:{{{tag_of(escaped)}}}:{kind}:{escaped}"


@lru_cache(maxsize=256)
def _tag_of_topic(topic: Topic) -> str:
    return tag_of(topic.partition(":")[2])
