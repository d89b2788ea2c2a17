"""The messages that the scripts publish, taken apart; ``lib.lua`` tells their form."""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

from ..events import TaskEvent

#: Stands for the task id where a message is for the gateways; see :meth:`RedisDirectory.disconnect`.
COMMAND = b"!"

_STREAM_ID = re.compile(rb"\d{1,20}-\d{1,20}")


class Message(NamedTuple):
    """What the store publishes: a header that the hub reads, and members of a frame that it does not."""

    #: Its place in the history; ``None`` for what is in none.
    stream_id: bytes | None
    #: Escaped id of the task it is about, ``b"-"`` for none.
    task_id: bytes
    #: Of a snapshot; or of an announcement about the members of a presence channel. 0 for all else.
    seq: int
    #: Whether it is a snapshot of that task, which says all that older ones said.
    is_snapshot: bool
    #: Whether no newer snapshot may take its place.
    pinned: bool
    #: The connection that is not to hear it, ``b"-"`` for none.
    excluded: bytes
    members: bytes

    @property
    def is_for_task_alone(self) -> bool:
        """Whether only its task's own channel carries it: of a workflow's member, or said there by a client."""
        return self.stream_id is None and self.task_id != b"-"


def read_message(payload: bytes) -> Message:
    """
    Split a message.

    Raises:
        ValueError: If it is none.
    """
    header, _, members = payload.partition(b"\n")
    stream_id, task_id, seq, final, excluded = header.split(b" ")
    if stream_id != b"-" and not _STREAM_ID.fullmatch(stream_id):
        raise ValueError("no stream id")
    is_snapshot = task_id != b"-" and seq != b"0"
    fields = (
        None if stream_id == b"-" else stream_id,
        task_id,
        int(seq),
        is_snapshot,
        not is_snapshot or final == b"1",
        excluded,
        members,
    )
    return tuple.__new__(Message, fields)  # what a NamedTuple's own does by a detour; one for each event there is


def read_event(members: bytes) -> tuple[str, Any]:
    """
    The name and the data of an event, from the members of its frame. Data that is no JSON is text.

    Raises:
        ValueError: If they are no such members.
    """
    try:
        frame: dict[str, Any] = json.loads(b"{" + members + b"}")
    except RecursionError:
        raise ValueError("nested too deeply") from None
    event, data = frame.get("event"), frame.get("data")
    if not isinstance(event, str) or not isinstance(data, str):
        raise ValueError("an event has a name and data, both of them text")
    try:
        return event, json.loads(data)
    except (ValueError, RecursionError):
        return event, data


def read_task(payload: bytes) -> TaskEvent:
    """
    The event of a message about a task.

    Raises:
        ValueError: If it is no message of an event.
        EventError: If the event is no task's.
    """
    _, _, members = payload.partition(b"\n")
    return TaskEvent.from_wire(read_event(members)[1])
