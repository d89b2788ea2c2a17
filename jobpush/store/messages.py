"""The messages that the scripts publish; ``lib.lua`` describes their form."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from ..errors import MalformedMessage
from ..events import TaskEvent, decode

#: Takes the place of the task id in a message for the gateways; see :meth:`RedisDirectory.disconnect`.
COMMAND = b"!"

#: Place, task id, seq, pinned, excluded socket; further fields belong to newer versions.
_HEADER = re.compile(rb"(-|\*|\d{1,20}-\d{1,20}) (\S+) (\d{1,20}) (\d) (\S+)(?: [^\n]*)?\n")


class Message(NamedTuple):
    """A published message: a header for the hub, and members of a frame that the hub does not read."""

    #: Its place in the history; ``None`` for an event outside the history.
    stream_id: bytes | None
    #: Escaped id of its task, ``b"-"`` for none.
    task_id: bytes
    #: ``seq`` of a snapshot, or of an announcement about members of a presence channel; otherwise 0.
    seq: int
    #: Whether it is a snapshot of that task, which replaces all older ones.
    is_snapshot: bool
    #: Whether no newer snapshot may replace it.
    pinned: bool
    #: Socket id of the connection that does not receive it, ``b"-"`` for none.
    excluded: bytes
    members: bytes
    #: Whether only its task's own channel carries it: a workflow member's event, or a client event on that channel.
    is_for_task_alone: bool


def read_message(payload: bytes) -> Message:
    """
    Split a message. Unknown fields at the end of its header are ignored.

    Raises:
        MalformedMessage: If it has another form.
    """
    header = _HEADER.match(payload)
    if header is None:
        raise MalformedMessage(payload)
    place, task_id, seq, pinned, excluded = header.groups()
    is_snapshot = task_id != b"-" and seq != b"0"
    fields = (
        None if place == b"-" or place == b"*" else place,
        task_id,
        int(seq),
        is_snapshot,
        not is_snapshot or pinned == b"1",
        excluded,
        payload[header.end() :],
        place == b"-" and task_id != b"-",
    )
    return tuple.__new__(Message, fields)  # faster than Message(*fields), for the hot path of the gateway


def read_event(members: bytes) -> tuple[str, Any]:
    """
    Return the name and the data of an event, from the members of its frame. Data that is not JSON is text.

    Raises:
        MalformedMessage: If the members have another form.
    """
    try:
        frame: dict[str, Any] = decode(b"{" + members + b"}")
    except ValueError:
        raise MalformedMessage(members) from None
    event, data = frame.get("event"), frame.get("data")
    if not isinstance(event, str) or not isinstance(data, str):
        raise MalformedMessage(members)
    try:
        return event, decode(data)
    except ValueError:
        return event, data


def read_task(payload: bytes) -> TaskEvent:
    """
    Return the event of a message about a task.

    Raises:
        MalformedMessage: If the message has another form.
        EventError: If the event is not about a task.
    """
    _, _, members = payload.partition(b"\n")
    return TaskEvent.from_wire(read_event(members)[1])


def is_frame(members: bytes) -> bool:
    """Return whether the members are those of a frame that browsers can read."""
    try:
        return isinstance(decode(b"{" + members + b"}").get("event"), str)
    except ValueError:
        return False
