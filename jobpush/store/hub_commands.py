"""What the gateway's hub asks of Redis: the words of its commands, to be sent over a non-blocking link."""

from __future__ import annotations

from collections.abc import Sequence

from ..channels import Topic, parse_channel, unescape_id
from ..config import Config
from .keys import Keys
from .scripts import Call, Command, Script, load

#: Before any event there can be: since this id, no history is whole.
NEVER = "0-0"


def stream_position(stream_id: bytes) -> tuple[int, int]:
    """A stream id as what it is compared by."""
    milliseconds, _, number = stream_id.partition(b"-")
    return int(milliseconds), int(number)


class HubCommands:
    """Commands and script calls below one prefix."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self.keys = Keys(config.prefix)

    @property
    def scripts(self) -> Sequence[Script]:
        """The scripts that the hub will call."""
        return (load("history"),)

    def history(self, channel: str, topic: Topic, since: str) -> Call:
        """
        What a channel's new reader needs first: ``[position, resumed, messages]``, see ``history.lua``.

        Args:
            channel: Name of the channel.
            topic: The topic that feeds it.
            since: Stream id of the last event that the reader has; empty for none.
        """
        keys = self.keys
        task_id = parse_channel(channel).task_id
        if task_id is not None:
            kind, source = "task", keys.task(topic, unescape_id(task_id))
        elif topic.startswith("user:"):
            kind, source = "user", keys.tasks(topic)
        else:
            kind, source = "channel", keys.cache(topic)
        arguments = (kind, since, keys.task_prefix(topic), self._config.history_ttl)
        return Call(load("history"), (keys.stream(topic), keys.floor(topic), source), arguments)

    def client_event(self, topic: Topic, task_id: str, members: str, socket_id: str) -> Command:
        """
        Publish what one client says to the others of a channel. It is for the moment: no history keeps it.

        Args:
            topic: The topic that feeds the channel.
            task_id: Escaped id, where the channel is a task's; ``-`` elsewhere.
            members: As :func:`jobpush.protocol.messages.event_members` makes them.
            socket_id: The sender's, who is not to hear it.
        """
        return "PUBLISH", self.keys.topic(topic), f"- {task_id} 0 1 {socket_id}\n{members}"

    def revoked_at(self, user_id: str) -> Command:
        """Ask since when tokens of a user (escaped id) are revoked: Unix seconds, or nothing."""
        return "GET", self.keys.revoked(Topic(f"user:{user_id}"))

    def owner(self, task_id: str) -> Command:
        """Ask for the escaped user id of a task's owner. The id of the task is escaped, as in channel names."""
        return "GET", self.keys.owner(unescape_id(task_id))
