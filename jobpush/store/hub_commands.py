"""Commands and script calls of the gateway's hub, for a non-blocking connection."""

from __future__ import annotations

from ..channels import Topic, unescape_id
from .scripts import Command
from .task_calls import TaskCalls

#: An id before any event: no history is complete since it.
NEVER = "0-0"


def stream_position(stream_id: bytes) -> tuple[int, int]:
    """Return a stream id in a form that can be compared."""
    milliseconds, _, number = stream_id.partition(b"-")
    return int(milliseconds), int(number)


class HubCommands(TaskCalls):
    """Commands and script calls below one prefix."""

    def client_event(self, topic: Topic, task_id: str, members: str, socket_id: str) -> Command:
        """
        Publish a client event to the other clients of a channel. No history keeps it.

        Args:
            topic: The topic that feeds the channel.
            task_id: Escaped id for a task's channel; ``-`` for others.
            members: As :func:`jobpush.protocol.messages.event_members` makes them.
            socket_id: The sender's, which does not receive it.
        """
        return "PUBLISH", self.keys.topic(topic), f"- {task_id} 0 1 {socket_id}\n{members}"

    def revoked_at(self, user_id: str) -> Command:
        """Request the time since which tokens of a user (escaped id) are revoked: Unix seconds, or nothing."""
        return "GET", self.keys.revoked(Topic(f"user:{user_id}"))

    def owner(self, task_id: str) -> Command:
        """Request the escaped user id of a task's owner. The id of the task is escaped, as in channel names."""
        return "GET", self.keys.owner(unescape_id(task_id))
