"""
The errors of jobpush.

JobPushError
├── ConfigurationError      a setting or a decorator is wrong: fails early, at start
│   ├── MissingSetting
│   └── UnknownArgument
├── EventError              an event is invalid and cannot be sent
│   ├── InvalidUserId
│   ├── InvalidChannelName
│   ├── InvalidEventName
│   └── InvalidData
├── StoreError              Redis refused a command or is unreachable
│   ├── CommandRefused      Redis answers, but refuses this one command, now and later
│   ├── MalformedMessage    a message or value in Redis that jobpush did not write
│   └── TaskNotFound
├── ProtocolError           a browser or server broke the Pusher protocol (leaves in protocol/codes.py)
├── TokenError              a connection token is refused (leaves in tokens.py)
└── DeliveryFailed          a webhook was not accepted (webhooks/delivery.py)

TaskCancelled               raised in a task that is cancelled; not an Exception, see there

Each error carries facts as attributes, and a ``code`` that stays the same when its sentence changes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar


class JobPushError(Exception):
    """Base of all errors that jobpush raises."""

    #: Stable name of the error, for logs and JSON.
    code: ClassVar[str] = "error"


class ConfigurationError(JobPushError):
    """A setting, a decorator or a missing program keeps jobpush from working."""

    code = "configuration"


class MissingSetting(ConfigurationError):
    """A setting without a default is not set."""

    code = "missing_setting"

    def __init__(self, name: str, hint: str) -> None:
        self.name = name
        super().__init__(f"{name} is not set; {hint}")


class UnknownArgument(ConfigurationError):
    """``track()`` names an argument that the task does not have."""

    code = "unknown_argument"

    def __init__(self, task: str, argument: str, arguments: Iterable[str]) -> None:
        self.task = task
        self.argument = argument
        self.arguments = tuple(arguments)
        known = ", ".join(self.arguments) or "none"
        super().__init__(f"task {task!r} has no argument {argument!r}; its arguments are: {known}")


class EventError(JobPushError):
    """An event is invalid and cannot be sent."""

    code = "invalid_event"


class InvalidUserId(EventError):
    """A user id is empty, too long, or neither text, an integer nor a UUID."""

    code = "invalid_user_id"

    def __init__(self, user_id: object, reason: str) -> None:
        self.user_id = user_id
        super().__init__(f"user id {_shortened(user_id)} {reason}")


class InvalidChannelName(EventError):
    """A channel name is outside Pusher's rules."""

    code = "invalid_channel_name"

    def __init__(self, channel: object, reason: str) -> None:
        self.channel = channel
        super().__init__(f"channel name {_shortened(channel)} {reason}")


class InvalidEventName(EventError):
    """An event name is empty, too long or reserved."""

    code = "invalid_event_name"

    def __init__(self, event: object, reason: str) -> None:
        self.event = event
        super().__init__(f"event name {_shortened(event)} {reason}")


class InvalidData(EventError):
    """The data of an event has no JSON form, or is too long."""

    code = "invalid_data"


class StoreError(JobPushError):
    """Redis refused, failed or did not answer in time."""

    code = "store"


class CommandRefused(StoreError):
    """Redis refuses this command, now and later; other commands work."""

    code = "command_refused"


class MalformedMessage(StoreError, ValueError):
    """A pub/sub message or a stored value does not have the form that jobpush writes; it is dropped."""

    code = "malformed_message"

    def __init__(self, payload: bytes) -> None:
        self.payload = payload
        super().__init__(f"not a message of jobpush: {_shortened(payload)}")


class TaskNotFound(StoreError):
    """No snapshot of this task is stored: never tracked, or expired."""

    code = "task_not_found"

    def __init__(self, task_id: str) -> None:
        self.task_id = task_id
        super().__init__(f"task {task_id!r} is not known; it was never tracked, or its snapshot has expired")


class ProtocolError(JobPushError):
    """A peer violated the Pusher protocol."""

    code = "protocol"


class TaskCancelled(BaseException):
    """
    Raised inside a task that its user has cancelled.

    A ``BaseException``, so that ``except Exception`` in task code does not swallow it while ``finally``
    runs. The ``track`` decorator catches it before it reaches Celery's pool.
    """

    def __init__(self, task_id: str) -> None:
        self.task_id = task_id
        super().__init__(f"task {task_id} was cancelled")


def _shortened(value: object, limit: int = 80) -> str:
    try:
        text = repr(value)
    except Exception:  # of an application's class, or an integer of more digits than Python writes
        text = f"<{type(value).__name__}>"
    return text if len(text) <= limit else f"{text[:limit]}…"
