"""Tasks: publish, end, cancel and read them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

from ..channels import Topic, escape_id, task_channel, unescape_id, user_channel, user_topic
from ..config import Config
from ..errors import TaskNotFound
from ..events import TaskEvent
from ..lifecycle import TaskState
from .base import StoreClient
from .malformed import malformed
from .messages import read_task
from .records import Outcome, Published, TaskWrite
from .redis.errors import ShardUnavailable
from .scripts import Call, Command, Request
from .task_calls import TaskCalls
from .worker_leases import Claim, WorkerLeases

#: Entries that the stream of cancel requests keeps; a worker reads it within seconds.
_CANCELS_KEPT = 10_000
#: Tasks that one round trip reads.
_TASKS_AT_ONCE = 500


class TaskStore(StoreClient):
    """
    Snapshots of tasks.

    - One script stores a snapshot and publishes its event, so all readers see one order.
    - Live delivery is at most once; resuming from an event's ``id`` makes it exact while the history reaches back.
    - ``seq`` counts from 1 per task, and continues from the larger value of Redis and the publisher.
    - Within one attempt nothing overwrites SUCCESS, FAILURE or REVOKED: see :mod:`jobpush.lifecycle`.
    - Everything is bounded and expires: see :class:`jobpush.config.Config`.
    """

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self._calls = TaskCalls(config)
        self._leases = WorkerLeases(config)

    # -- change --------------------------------------------------------------------------------------

    def publish(self, writes: Sequence[TaskWrite], known: Mapping[str, int] = {}) -> list[Published]:
        """
        Store snapshots and publish their events, all in one round trip.

        Args:
            writes: The events.
            known: The last ``seq`` of each task that the publisher knows; Redis continues from it after a data loss.

        Returns:
            One :class:`Published` for each write, in order.

        Raises:
            InvalidData: If the data of an event has no JSON form; nothing was sent then.
            StoreError: If Redis does not answer within ``Config.publish_timeout`` seconds; any part may be stored.
        """
        results, _, _ = self._publish(writes, known, may_be_partial=False)
        return cast("list[Published]", results)

    def publish_each(
        self, writes: Sequence[TaskWrite], known: Mapping[str, int] = {}
    ) -> tuple[list[Published | ShardUnavailable], list[Request]]:
        """
        As :meth:`publish`, but an unreachable primary of a cluster affects only what it holds.

        Returns:
            A result for each write, in order; and the requests that remain, for :meth:`run`: the owners and claims of
            tasks are on other primaries than the tasks themselves.
        """
        results, left, _ = self._publish(writes, known)
        return results, left

    def start(
        self, write: TaskWrite, known: Mapping[str, int] = {}
    ) -> tuple[Published, dict[str, float], list[Request]]:
        """
        Publish that a task starts, and read the durations of its stages, in one round trip.

        Returns:
            The result of the write; the seconds that :meth:`record_durations` got for the task's name; and the requests
            that remain, see :meth:`publish_each`.
        """
        (published,), left, (stages,) = self._publish([write], known, [("HGETALL", self.keys.stages(write.event.name))])
        if isinstance(published, ShardUnavailable):
            raise published
        pairs = () if isinstance(stages, ShardUnavailable) else stages.items()
        durations = malformed.read(
            "durations of stages", pairs, lambda stored: (stored[0].decode(), float(stored[1])), write.event.name
        )
        return published, dict(durations), left

    def end(
        self,
        task_id: str,
        state: TaskState,
        *,
        error: str | None = None,
        delivery: str = "",
        run_at: float | None = None,
        user_id: str | None = None,
    ) -> Published:
        """
        End a task on behalf of its process; see :meth:`~jobpush.store.task_calls.TaskCalls.end` for the arguments.

        With its ``user_id``, the owner of the task need not be read, which another primary of a cluster may hold.

        Raises:
            TaskNotFound: If nothing is stored of it.
        """
        topic = user_topic(user_id or self.owner(task_id))
        call = self._calls.end(topic, task_id, state, error=error, delivery=delivery, run_at=run_at)
        (reply,) = self.run([call])
        if reply is None:
            raise TaskNotFound(task_id)
        return _read_published(reply)

    def publish_workflows(
        self, workflows: Iterable[tuple[str, str]], *, is_urgent: bool = False
    ) -> list[tuple[str, str]]:
        """
        Publish the pending changes of workflows.

        Args:
            workflows: Pairs of user id and task id.
            is_urgent: Whether workflows that were published a moment ago are published too.

        Returns:
            Those that are still pending, or on an unreachable primary of a cluster while others answer: call again.
        """
        pairs = list(workflows)
        calls = [
            self._calls.publish_workflow(user_topic(user), task_id, is_urgent=is_urgent) for user, task_id in pairs
        ]
        replies = self.run(calls, may_be_partial=True)
        return [workflow for workflow, is_pending in zip(pairs, replies, strict=True) if is_pending]

    def cancel(self, task_id: str) -> TaskState:
        """
        Cancel a task: publish it to its readers and to the workers.

        Returns:
            The state after it: REVOKED if it had not started; STARTED or PROGRESS if it runs and is being
            cancelled; its final state if it had ended.

        Raises:
            TaskNotFound: If nothing is stored of it.
        """
        topic = user_topic(self.owner(task_id))
        calls = [self._calls.cancel(topic, task_id), self._calls.publish_workflow(topic, task_id)]
        state, _ = self.run(calls)
        if state is None:
            raise TaskNotFound(task_id)
        after = TaskState(state.decode())
        if after is TaskState.REVOKED or not after.is_final:
            add = ("XADD", self.keys.cancels, "MAXLEN", "~", _CANCELS_KEPT, "*", "task_id", task_id)
            self.run([add, ("PUBLISH", self.keys.cancel, task_id)])
        return after

    # -- read ----------------------------------------------------------------------------------------

    def tasks(self, user_id: str, *, start: int = 0, limit: int | None = None) -> list[TaskEvent]:
        """
        Return a page of a user's tasks: running ones first, then waiting, then ended ones, each newest first.

        Args:
            user_id: The user.
            start: Tasks to leave out.
            limit: Tasks to read at most; ``None``: ``Config.tasks_per_page``.
        """
        call = self._calls.history(user_channel(user_id), user_topic(user_id), start=start, limit=limit)
        return self._snapshots([call])

    def all_tasks(self, user_id: str) -> Iterator[TaskEvent]:
        """Yield the snapshots of all tasks of a user, in the order of now; each once, whatever changes meanwhile."""
        topic = user_topic(user_id)
        (ids,) = self.run([("ZREVRANGE", self.keys.tasks(topic), 0, -1)])
        yield from self._snapshots_of(topic, ids)

    def task(self, task_id: str, *, user_id: str | None = None) -> TaskEvent:
        """
        Return the snapshot of one task; with its ``user_id``, the owner need not be read.

        Raises:
            TaskNotFound: If nothing is stored of it.
        """
        topic = user_topic(user_id or self.owner(task_id))
        events = self._snapshots([self._calls.history(task_channel(task_id), topic)])
        if not events:
            raise TaskNotFound(task_id)
        return events[0]

    def children(self, task_id: str, *, start: int = 0, limit: int | None = None) -> list[TaskEvent]:
        """
        Return the snapshots of a workflow's members: failed and lost ones first, then by their first events.

        Args:
            task_id: The workflow.
            start: Members to leave out.
            limit: Members to read at most; ``None``: all.

        Raises:
            TaskNotFound: If nothing is stored of the workflow.
        """
        topic = user_topic(self.owner(task_id))
        return list(self._snapshots_of(topic, self._ids_of_children(topic, task_id, start, limit)))

    def _snapshots_of(self, topic: Topic, ids: Iterable[bytes]) -> Iterator[TaskEvent]:
        channels = malformed.read("ids of tasks", ids, lambda task_id: task_channel(unescape_id(task_id.decode())))
        for first in range(0, len(channels), _TASKS_AT_ONCE):
            some = channels[first : first + _TASKS_AT_ONCE]
            yield from self._snapshots([self._calls.history(channel, topic) for channel in some])

    def _ids_of_children(self, topic: Topic, task_id: str, start: int, limit: int | None) -> list[bytes]:
        key, sums = self.keys.children(topic, task_id), self.keys.workflow(topic, task_id)
        end = None if limit is None else start + limit
        if limit is not None and limit <= 0:
            return []
        (counts,) = self.run([("HMGET", sums, "failed", "lost")])
        if all(count in (None, b"0") for count in counts):
            (ids,) = self.run([("LRANGE", key, start, -1 if end is None else end - 1)])
            return list(ids)
        (ids,) = self.run([("LRANGE", key, 0, -1)])
        statuses: list[bytes | None] = []
        for first in range(0, len(ids), _TASKS_AT_ONCE):
            names = [b"m:" + child for child in ids[first : first + _TASKS_AT_ONCE]]
            statuses += self.run([("HMGET", sums, *names)])[0]
        has_failed = {child: (status or b"")[:1] in (b"F", b"L") for child, status in zip(ids, statuses, strict=True)}
        return sorted(ids, key=lambda child: not has_failed[child])[start:end]

    def owner(self, task_id: str) -> str:
        """
        Return the user that owns a task.

        Raises:
            TaskNotFound: If nothing is stored of it.
        """
        (owner,) = self.run([("GET", self.keys.owner(task_id))])
        if owner is None:
            raise TaskNotFound(task_id)
        return unescape_id(owner.decode())

    def cancelled(self, tasks: Iterable[tuple[str, str]]) -> set[str]:
        """
        Return the ids of the tasks that are cancelled; without those on an unreachable primary while others answer.

        Args:
            tasks: Pairs of user id and task id.
        """
        pairs = list(tasks)
        keys = [self.keys.task(user_topic(user), task_id) for user, task_id in pairs]
        replies = self.run([("HEXISTS", key, "cancel") for key in keys], may_be_partial=True)
        return {task_id for (_, task_id), is_cancelled in zip(pairs, replies, strict=True) if is_cancelled == 1}

    # -- requests ------------------------------------------------------------------------------------

    def _publish(
        self,
        writes: Sequence[TaskWrite],
        known: Mapping[str, int],
        commands: Sequence[Command] = (),
        *,
        may_be_partial: bool = True,
    ) -> tuple[list[Published | ShardUnavailable], list[Request], list[Any]]:
        """
        Publish, and run ``commands`` in the same round trip.

        Returns:
            As :meth:`publish_each`, and the replies to the commands.
        """
        # A workflow's plan comes first: without it, its members' reports would treat the workflow as lost.
        before: list[Request] = [command for write in writes for command in self._calls.begin_workflow(write)]
        publish = [self._calls.publish(write, known.get(write.event.task_id, 0)) for write in writes]
        after: list[Request] = [*self._owner_requests(writes)]
        after += [command for write in writes for command in self._claim_commands(write)]
        replies = self.run([*before, *publish, *after, *commands], may_be_partial=may_be_partial)
        published = replies[len(before) : len(before) + len(publish)]
        last = len(replies) - len(commands)
        after_replies = zip(after, replies[last - len(after) : last], strict=True)
        left = [request for request, reply in after_replies if isinstance(reply, ShardUnavailable)]
        results = [reply if isinstance(reply, ShardUnavailable) else _read_published(reply) for reply in published]
        return results, left, replies[last:]

    def _owner_requests(self, writes: Sequence[TaskWrite]) -> list[Request]:
        """Keep the owners as long as the snapshots; with every event, since Redis may have lost its data."""
        requests: list[Request] = []
        workflows: dict[tuple[str, str], int] = {}
        for write in writes:
            ttl, owner = self._calls.snapshot_ttl(write), escape_id(str(write.user_id))
            requests.append(("SET", self.keys.owner(write.event.task_id), owner, "EX", ttl))
            if write.event.root_id is not None:
                workflow = (write.event.root_id, str(write.user_id))
                workflows[workflow] = max(ttl, workflows.get(workflow, 0))
        return requests + [self._calls.own(*workflow, ttl) for workflow, ttl in workflows.items()]

    def _claim_commands(self, write: TaskWrite) -> list[Command]:
        state = write.event.state
        if not write.worker or (state is TaskState.PROGRESS and not write.is_handed_over):
            return []
        claim = Claim.of(write.user_id, write.event.task_id, write.delivery)
        if state.is_final or state is TaskState.RETRY or write.is_handed_over:
            return [self._leases.drop(write.worker, claim)]
        return [self._leases.claim(write.worker, claim)]

    def _snapshots(self, calls: Sequence[Call]) -> list[TaskEvent]:
        """Read snapshots; skip those that this version cannot read."""
        messages = [message for _, _, found in self.run(calls) for message in found]
        return malformed.read("snapshots of tasks", messages, read_task)


def _read_published(reply: Sequence[int]) -> Published:
    status, seq, *flags = reply
    return Published(Outcome(status), seq, *map(bool, flags))
