"""Counts that a process reports to Redis; pure data."""

from __future__ import annotations

from ...channels import Topic
from ...protocol.actions import Member


class Occupancy:
    """
    The number of this process's connections that count for a topic, or for one member of its presence channel.

    Args:
        topic: As :attr:`jobpush.channels.ChannelKind.occupancy_topic` gives it.
        member: The member; ``None``: connections are counted.
    """

    __slots__ = (
        "answered",
        "is_admitted",
        "is_lost",
        "is_published",
        "is_refused",
        "may_be_known",
        "member",
        "number",
        "subscribed",
        "times",
        "topic",
    )

    def __init__(self, topic: Topic, member: Member | None) -> None:
        self.topic = topic
        self.member = member
        self.number = 0
        #: Of a user's connections: those in the last report that were subscribed to the user's channel.
        self.subscribed = 0
        #: Number of reports; only the answer to the last one counts.
        self.times = 0
        #: The last one of them that was answered.
        self.answered = 0
        #: Whether Redis has confirmed a number above 0.
        self.is_published = False
        #: Whether Redis may have received such a report, confirmed or not.
        self.may_be_known = False
        #: Whether Redis has confirmed that the member has a place, so that the limit is not applied again.
        self.is_admitted = False
        #: Whether the last connection was lost, so that its client may come back.
        self.is_lost = False
        #: Whether the channel had no place for the member.
        self.is_refused = False

    @property
    def key(self) -> tuple[Topic, str | None]:
        """Unique key of the count in this process."""
        return self.topic, None if self.member is None else self.member.user_id
