"""
What jobpush keeps in Redis, and what it promises about it.

- Storing the snapshot of a task and publishing its event are one step, seen by all in one order.
- Live delivery is at most once; resuming from an event's ``id`` makes it exact while the history reaches back.
- ``seq`` counts from 1 per task, and goes on from the larger of what Redis and the publisher know.
- Within one attempt of a task nothing overwrites SUCCESS, FAILURE or REVOKED: see :mod:`jobpush.lifecycle`.
- All is bounded and expires: see :class:`jobpush.config.Config`.

This client blocks; the gateway's hub speaks to the same keys through :mod:`jobpush.store.redis.pubsub_connection`.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from types import MappingProxyType
from typing import Any, NamedTuple

from ..channels import Topic, escape_id, parse_channel, unescape_id, user_topic
from ..config import Config
from ..errors import TaskNotFound
from ..events import LOG_EVENT, TaskEvent, TaskState, encode, encode_twice
from .endings import BARE_MOMENT, end_call
from .keys import Keys
from .live_gateways import LiveGateways, ask_live_gateways, read_live_gateways
from .messages import read_task
from .redis.client import RedisClient
from .scripts import Call, Command, load, load_of_task
from .worker_leases import Claim, WorkerLeases
from .workflows import Membership, WorkflowPlan, begin_commands, tell_call

#: Entries of the stream of cancel requests that are kept; a worker reads it within seconds.
_CANCELS_KEPT = 10_000
#: Members of a workflow that are read in one round trip.
_CHILDREN_AT_ONCE = 500
#: Seconds that what was learned of a task's stages outlives its last success.
_STAGES_TTL = 30 * 86_400


_NOTHING_KNOWN: Mapping[str, int] = MappingProxyType({})


class Outcome(IntEnum):
    """What the publish script did."""

    STORED = 1
    STALE = 0
    CANCELLED = -1


@dataclass(frozen=True, slots=True)
class TaskWrite:
    """
    One event to be stored.

    Args:
        user_id: Owner of the task.
        event: What happened; its ``seq`` is the last one that the publisher knows of (0: none).
        pinned: Whether readers must not skip it: the first and the last of an attempt.
        ttl: Seconds that the snapshot lives; ``None``: as configured.
        delivery: Which stay of the message with a worker says it, see :mod:`jobpush.lifecycle`; empty: not known.
        worker: Who has the message: it is claimed for it with RECEIVED and STARTED, and no longer with the end of the
            attempt; empty: nobody who could be found dead.
        is_handed_over: Whether the task has put another in its place, which goes on with its bar.
        membership: Its place in the workflow that the event names as ``root_id``; ``None``: as stored, or none.
        plan: What is known of the workflow that begins with the event; ``None``: it is an event like any other.
        is_again: Whether it belongs to the run that is stored, if one is, whatever its ``created_at`` says.
    """

    user_id: str
    event: TaskEvent
    pinned: bool = False
    ttl: int | None = None
    delivery: str = ""
    worker: str = ""
    is_handed_over: bool = False
    membership: Membership | None = None
    plan: WorkflowPlan | None = None
    is_again: bool = False


@dataclass(frozen=True, slots=True)
class Published:
    """
    What became of an event: its ``seq`` (the stored one's if it was refused), and whether a cancel was asked.

    ``has_untold_workflow``: the workflow told something a moment ago, so :meth:`Store.tell_workflows` is to tell this.
    """

    outcome: Outcome
    seq: int
    is_cancelled: bool
    has_untold_workflow: bool = False


@dataclass(frozen=True, slots=True)
class Receipt:
    """
    What a notification met.

    ``connections`` is how many were there to hear it, in all and by channel; ``ids`` are its stream ids by channel.
    """

    ids: Mapping[str, str]
    by_channel: Mapping[str, int]

    @property
    def connections(self) -> int:
        """Connections in all; one that hears two of the channels counts twice."""
        return sum(self.by_channel.values())


class Notification(NamedTuple):
    """
    One event for any number of channels; their names and the event's are validated already.

    ``data`` is text, or anything with a JSON form; ``exclude`` the ``socket_id`` that is not to hear it.
    """

    channels: Iterable[str]
    event: str
    data: object
    exclude: str | None = None


class Store:
    """The blocking client. Connects on first use; safe to use from threads and after a fork."""

    def __init__(self, config: Config) -> None:
        """
        Raises:
            ConfigurationError: If ``Config.redis_url`` is no address of a Redis.
        """
        self.config = config
        self.keys = Keys(config.prefix)
        self.client = RedisClient(config.redis_url, timeout=config.publish_timeout, probe=self.keys.probe)

    def close(self) -> None:
        """Close all connections."""
        self.client.close()

    def ping(self) -> None:
        """
        Ask whether Redis is there.

        Raises:
            StoreError: If it does not answer within ``Config.publish_timeout`` seconds.
        """
        self.run(commands=[("PING",)])

    def probe(self) -> None:
        """
        Ask whether Redis takes what is published: one that is full or a replica answers a PING, and nothing else.

        Raises:
            StoreError: If it does not, within ``Config.publish_timeout`` seconds.
        """
        self.run(commands=[("SET", self.keys.probe, "", "PX", 1)])

    def run(self, calls: Sequence[Call] = (), commands: Sequence[Command] = ()) -> list[Any]:
        """
        Run scripts, then plain commands, in one round trip; see :meth:`RedisClient.run`.

        Raises:
            StoreError: If one fails, or Redis does not answer within ``Config.publish_timeout`` seconds.
        """
        return self.client.run(calls, commands)

    # -- tasks ---------------------------------------------------------------------------------------

    def publish(self, writes: Sequence[TaskWrite], known: Mapping[str, int] = _NOTHING_KNOWN) -> list[Published]:
        """
        Store snapshots and publish their events, all in one round trip.

        Args:
            writes: The events.
            known: The last ``seq`` of each task that the publisher knows of, from which Redis goes on if it has
                forgotten.

        Returns:
            One :class:`Published` for each write, in order.

        Raises:
            InvalidData: If the data of an event has no JSON form; nothing was sent then.
            StoreError: If Redis does not answer within ``Config.publish_timeout`` seconds; any part may be stored.
        """
        return self._publish(writes, known)[0]

    def _publish(
        self, writes: Sequence[TaskWrite], known: Mapping[str, int], commands: Sequence[Command] = ()
    ) -> tuple[list[Published], list[Any]]:
        """Publish, and run ``commands`` on the same way; the replies to both."""
        calls = [self._publish_call(write, known.get(write.event.task_id, 0)) for write in writes]
        calls += self._workflow_owner_calls(writes)
        # With every event, for Redis may have come back empty, and it is to live as long as the snapshot.
        owners = [
            ("SET", self.keys.owner(w.event.task_id), escape_id(str(w.user_id)), "EX", self._ttl(w)) for w in writes
        ]
        claims = [command for write in writes for command in self._claim_commands(write)]
        begins = [command for write in writes for command in self._begin_commands(write)]
        replies = self.run(calls, [*begins, *owners, *claims, *commands])
        return [_published(reply) for reply in replies[: len(writes)]], replies[len(replies) - len(commands) :]

    def start(self, write: TaskWrite, known: Mapping[str, int] = _NOTHING_KNOWN) -> tuple[Published, dict[str, float]]:
        """
        Publish that a task starts, and ask how long its stages took before, in one round trip; ``known`` as above.

        Returns:
            What became of the event, and the seconds that :meth:`learn` was given for the task's name.

        Raises:
            StoreError: If Redis does not answer within ``Config.publish_timeout`` seconds.
        """
        (published,), (stages,) = self._publish([write], known, [("HGETALL", self.keys.stages(write.event.name))])
        return published, {name.decode(): float(seconds) for name, seconds in stages.items()}

    def lead(self, queue: str, worker_id: str, seconds: float) -> bool:
        """
        Be the one that looks at a queue, for so long from now on.

        Returns:
            Whether it is this worker; another one keeps it until it stops asking.
        """
        key, milliseconds = self.keys.queue_leader(queue), int(seconds * 1000)
        is_new, leader = self.run(commands=[("SET", key, worker_id, "NX", "PX", milliseconds), ("GET", key)])
        if is_new:
            return True
        return leader == worker_id.encode() and bool(self.run(commands=[("PEXPIRE", key, milliseconds)])[0])

    def learn(self, task_name: str, seconds: Mapping[str, float]) -> None:
        """Keep how long the stages of a task took, in place of what was kept of it."""
        key = self.keys.stages(task_name)
        pairs = [item for name, value in seconds.items() for item in (name, f"{value:.3f}")]
        self.client.transact(key, ("DEL", key), ("HSET", key, *pairs), ("EXPIRE", key, _STAGES_TTL))

    def end(
        self,
        task_id: str,
        state: TaskState,
        *,
        error: str | None = None,
        delivery: str = "",
        run_at: float | None = None,
    ) -> Published:
        """
        End a task on behalf of it: its event keeps all that was told last.

        Args:
            task_id: The task.
            state: A final one, or RETRY. LOST is only said of what is RECEIVED, STARTED or PROGRESS.
            error: What its user is told.
            delivery: Which stay of the message has ended; empty for a task that waits.
            run_at: Unix seconds at which the next attempt begins; ``None``: at once, or never.

        Raises:
            TaskNotFound: If nothing is stored of it.
            StoreError: If Redis does not answer within ``Config.publish_timeout`` seconds.
        """
        topic = user_topic(self.owner(task_id))
        call = end_call(self.config, topic, task_id, state, error=error, delivery=delivery, run_at=run_at)
        (reply,) = self.run([call])
        if reply is None:
            raise TaskNotFound(task_id)
        return _published(reply)

    def log(self, user_id: str, task_id: str, message: str, *, level: str, at: float) -> None:
        """Publish a line of a task's text: ``jobpush:log``, ``{"task_id", "level", "message", "at"}``."""
        data = {"task_id": task_id, "level": level, "message": message, "at": at}
        call = self._trigger_call(user_topic(user_id), LOG_EVENT, data, task_id=escape_id(task_id))
        self.run([call])

    def tasks(self, user_id: str) -> list[TaskEvent]:
        """The snapshots of a user's running and recent tasks, newest first."""
        topic = user_topic(user_id)
        events = self._snapshots(topic, "user", self.keys.tasks(topic))
        return sorted(events, key=lambda event: event.created_at, reverse=True)

    def task(self, task_id: str) -> TaskEvent:
        """
        The snapshot of one task.

        Raises:
            TaskNotFound: If nothing is stored of it.
        """
        topic = user_topic(self.owner(task_id))
        events = self._snapshots(topic, "task", self.keys.task(topic, task_id))
        if not events:
            raise TaskNotFound(task_id)
        return events[0]

    def children(self, task_id: str, *, start: int = 0, limit: int | None = None) -> list[TaskEvent]:
        """
        The snapshots of the members of a workflow, in the order in which they appeared.

        Args:
            task_id: Of the workflow.
            start: How many are left out.
            limit: How many are read at most; ``None``: all.

        Raises:
            TaskNotFound: If nothing is stored of the workflow.
        """
        topic = user_topic(self.owner(task_id))
        events: list[TaskEvent] = []
        while limit is None or limit > 0:
            size = _CHILDREN_AT_ONCE if limit is None else min(limit, _CHILDREN_AT_ONCE)
            (ids,) = self.run(commands=[("LRANGE", self.keys.children(topic, task_id), start, start + size - 1)])
            prefix = self.keys.task_prefix(topic)
            events += self._snapshots(topic, "task", *(prefix + child.decode() for child in ids))
            if len(ids) < size:
                break
            start, limit = start + size, None if limit is None else limit - size
        return events

    def tell_workflows(self, workflows: Iterable[tuple[str, str]], *, is_urgent: bool = False) -> list[tuple[str, str]]:
        """
        Have workflows tell what they have left to tell.

        Args:
            workflows: Pairs of user id and task id.
            is_urgent: Whether those are to tell it too that told something a moment ago, at somebody else's asking.

        Returns:
            Those that still have something to tell: ask again.

        Raises:
            StoreError: If Redis does not answer within ``Config.publish_timeout`` seconds.
        """
        asked = list(workflows)
        calls = [tell_call(self.config, user_topic(user), task_id, is_urgent=is_urgent) for user, task_id in asked]
        return [workflow for workflow, is_untold in zip(asked, self.run(calls), strict=True) if is_untold]

    def owner(self, task_id: str) -> str:
        """
        The user whose task it is.

        Raises:
            TaskNotFound: If nothing is stored of it.
        """
        (owner,) = self.run(commands=[("GET", self.keys.owner(task_id))])
        if owner is None:
            raise TaskNotFound(task_id)
        return unescape_id(owner.decode())

    def cancel(self, task_id: str) -> TaskState:
        """
        Ask for the end of a task, tell its readers, and tell the workers.

        Returns:
            The state after it: REVOKED if it had not started; STARTED or PROGRESS if it runs and is being
            cancelled; its final state if it was too late.

        Raises:
            TaskNotFound: If nothing is stored of it.
        """
        topic = user_topic(self.owner(task_id))
        config = self.config
        arguments = (
            escape_id(task_id),
            repr(time.time()),
            BARE_MOMENT,
            config.final_ttl,
            config.history_size,
            config.history_ttl,
        )
        call = Call(load_of_task("cancel"), self.keys.of_task(topic, task_id), arguments)
        state, _ = self.run([call, tell_call(config, topic, task_id)])
        if state is None:
            raise TaskNotFound(task_id)
        after = TaskState(state.decode())
        if after is TaskState.REVOKED or not after.is_final:
            add = ("XADD", self.keys.cancels, "MAXLEN", "~", _CANCELS_KEPT, "*", "task_id", task_id)
            self.run(commands=[add, ("PUBLISH", self.keys.cancel, task_id)])
        return after

    def cancelled(self, tasks: Iterable[tuple[str, str]]) -> set[str]:
        """
        The ids of those tasks whose end somebody has asked for.

        Args:
            tasks: Pairs of user id and task id.

        Raises:
            StoreError: If Redis does not answer within ``Config.publish_timeout`` seconds.
        """
        pairs = list(tasks)
        commands = [("HEXISTS", self.keys.task(user_topic(user), task_id), "cancel") for user, task_id in pairs]
        replies = self.run(commands=commands)
        return {task_id for (_, task_id), is_cancelled in zip(pairs, replies, strict=True) if is_cancelled}

    # -- notifications -------------------------------------------------------------------------------

    def trigger(self, channels: Iterable[str], event: str, data: object, *, exclude: str | None = None) -> Receipt:
        """Publish one event to any number of channels; see :class:`Notification` and :meth:`trigger_batch`."""
        (receipt,) = self.trigger_batch([Notification(channels, event, data, exclude)])
        return receipt

    def trigger_batch(self, notifications: Sequence[Notification]) -> list[Receipt]:
        """
        Publish events in their order, all in one round trip.

        Returns:
            One :class:`Receipt` for each.

        Raises:
            InvalidData: If the data of one has no JSON form; nothing was published then.
            StoreError: If Redis does not answer within ``Config.publish_timeout`` seconds.
        """
        names = [list(dict.fromkeys(one.channels)) for one in notifications]
        calls = [
            self._channel_call(name, one.event, one.data, one.exclude)
            for one, channels in zip(notifications, names, strict=True)
            for name in channels
        ]
        *replies, live = self.run([*calls, ask_live_gateways(self.keys)])
        gateways, reply = read_live_gateways(live), iter(replies)
        return [_receipt(gateways, {name: next(reply) for name in channels}) for channels in names]

    # -- calls of the scripts ------------------------------------------------------------------------

    def _ttl(self, write: TaskWrite) -> int:
        if write.ttl is not None:
            return write.ttl
        return self.config.final_ttl if write.event.state.is_final else self.config.task_ttl

    def _begin_commands(self, write: TaskWrite) -> list[Command]:
        if write.plan is None:
            return []
        return begin_commands(self.config, user_topic(write.user_id), write.event, write.plan)

    def _workflow_owner_calls(self, writes: Sequence[TaskWrite]) -> list[Call]:
        """A workflow is found as long as its members speak, which renew all else that there is of it."""
        ttls: dict[tuple[str, str], int] = {}
        for write in writes:
            if write.event.root_id is not None:
                workflow = (write.event.root_id, write.user_id)
                ttls[workflow] = max(self._ttl(write), ttls.get(workflow, 0))
        return [
            Call(load("own"), [self.keys.owner(task_id)], (escape_id(str(user_id)), ttl))
            for (task_id, user_id), ttl in ttls.items()
        ]

    def _claim_commands(self, write: TaskWrite) -> list[Command]:
        state = write.event.state
        if not write.worker or (state is TaskState.PROGRESS and not write.is_handed_over):
            return []
        leases = WorkerLeases(self.config)
        claim = Claim.of(write.user_id, write.event.task_id, write.delivery)
        if state.is_final or state is TaskState.RETRY or write.is_handed_over:
            return [leases.drop(write.worker, claim)]
        return [leases.claim(write.worker, claim)]

    def _publish_call(self, write: TaskWrite, seq: int) -> Call:
        event, config = write.event, self.config
        arguments = (
            escape_id(event.task_id),
            event.state.value,
            event.state.rank,
            int(write.pinned or event.state.is_final),
            repr(float(-event.created_at if write.is_again else event.created_at)),
            event.attempt,
            write.delivery,
            int(write.is_handed_over),
            repr(float(event.at)),
            max(event.seq, seq),
            event.to_moment(),
            event.to_tail(),
            self._ttl(write),
            config.max_tasks,
            config.history_size,
            config.history_ttl,
            *_membership_of(write),
            BARE_MOMENT,
            config.final_ttl,
        )
        return Call(load_of_task("publish"), self.keys.of_task(user_topic(write.user_id), event.task_id), arguments)

    def _channel_call(self, channel: str, event: str, data: object, exclude: str | None) -> Call:
        kind = parse_channel(channel)
        topic = kind.topic or user_topic(self.owner(unescape_id(kind.task_id or "")))
        cache_ttl = self.config.cache_ttl if kind.is_cache else 0
        return self._trigger_call(topic, event, data, task_id=kind.task_id or "-", exclude=exclude, cache_ttl=cache_ttl)

    def _trigger_call(
        self,
        topic: Topic,
        event: str,
        data: object,
        *,
        task_id: str = "-",
        exclude: str | None = None,
        cache_ttl: int = 0,
    ) -> Call:
        keys, config = self.keys, self.config
        header = f"{task_id} 0 1 {exclude or '-'}"
        members = f'"event":{encode(event)},"data":"{encode_twice(data)}"'
        topic_keys = (
            keys.topic(topic),
            keys.stream(topic),
            keys.floor(topic),
            keys.connections(topic),
            keys.cache(topic),
        )
        return Call(load("trigger"), topic_keys, (header, members, config.history_size, config.history_ttl, cache_ttl))

    def _snapshots(self, topic: Topic, kind: str, *sources: str) -> list[TaskEvent]:
        names = (self.keys.stream(topic), self.keys.floor(topic))
        arguments = (kind, "", self.keys.task_prefix(topic), self.config.history_ttl)
        replies = self.run([Call(load("history"), (*names, source), arguments) for source in sources])
        return [read_task(message) for _, _, messages in replies for message in messages]


def _membership_of(write: TaskWrite) -> tuple[str, str]:
    """The id of its workflow, and its place in it; empty where it is in none, or stored already."""
    event, membership = write.event, write.membership
    if event.root_id is None or membership is None:
        return "", ""
    return escape_id(event.root_id), membership.to_argument(event.name)


def _published(reply: Sequence[int]) -> Published:
    status, seq, *flags = reply
    return Published(Outcome(status), seq, *map(bool, flags))


def _receipt(gateways: LiveGateways, replies: Mapping[str, Sequence[Any]]) -> Receipt:
    ids = {name: stream_id.decode() for name, (stream_id, _) in replies.items()}
    return Receipt(ids, {name: gateways.count(_pairs(counts)) for name, (_, counts) in replies.items()})


def _pairs(flat: Sequence[bytes]) -> dict[bytes, bytes]:
    """A hash as a script returns it."""
    return dict(zip(flat[::2], flat[1::2], strict=True))
