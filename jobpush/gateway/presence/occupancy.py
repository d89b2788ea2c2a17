"""Counts that a process reports to Redis; pure data."""

from __future__ import annotations

from dataclasses import dataclass

from ...channels import Topic
from ...protocol.actions import Member


@dataclass(eq=False, slots=True)
class Occupancy:
    """
    The number of this process's connections that count for a topic, or for one member of its presence channel.

    Args:
        topic: As :attr:`jobpush.channels.ChannelKind.occupancy_topic` gives it.
        member: The member; ``None``: connections are counted.
    """

    topic: Topic
    member: Member | None
    number: int = 0
    #: For a user: connections in the last report that were subscribed to the user's channel.
    subscribed: int = 0
    #: Number of reports; only the reply to the last one counts.
    times: int = 0
    #: Number of the last report with a reply.
    answered: int = 0
    #: Whether Redis has confirmed a number above 0.
    is_published: bool = False
    #: Whether Redis may have received such a report, confirmed or not.
    may_be_known: bool = False
    #: Whether Redis has confirmed the member's place, so that the limit is not applied again.
    is_admitted: bool = False
    #: Whether the last connection was lost, so that its client may reconnect.
    is_lost: bool = False
    #: Whether the next report is not announced, because Redis has lost what was announced already.
    is_quiet: bool = False
    #: Whether the channel had no place for the member.
    is_refused: bool = False

    @property
    def key(self) -> tuple[Topic, str | None]:
        """Unique key of the count in this process."""
        return self.topic, None if self.member is None else self.member.user_id
