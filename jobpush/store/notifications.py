"""Events that are not about tasks: published to channels, and counted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..channels import parse_channel, unescape_id, user_topic
from ..events import encode, encode_twice
from .records import Notification, Receipt
from .replies import LiveGateways
from .scripts import TRIGGER, Call
from .tasks import TaskStore


class NotificationStore(TaskStore):
    """Publishes to any channel; a task's channel needs the task's owner."""

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
        """
        names = [list(dict.fromkeys(one.channels)) for one in notifications]
        calls = [
            self._trigger_call(name, one)
            for one, channels in zip(notifications, names, strict=True)
            for name in channels
        ]
        replies = self.run(calls)
        live = self.live_gateways(gateway for _, counts in replies for gateway in counts[::2])
        each = iter(replies)
        return [_receipt(live, {name: next(each) for name in channels}) for channels in names]

    def _trigger_call(self, channel: str, notification: Notification) -> Call:
        kind, keys, config = parse_channel(channel), self.keys, self.config
        topic = kind.topic or user_topic(self.owner(unescape_id(kind.task_id or "")))
        counts = keys.subscribed(topic) if topic.startswith("user:") else keys.connections(topic)
        event, data = encode(notification.event), encode_twice(notification.data)
        return TRIGGER(
            (keys.topic(topic), keys.stream(topic), keys.floor(topic), counts, keys.cache(topic)),
            header=f"{kind.task_id or '-'} 0 1 {notification.exclude or '-'}",
            members=f'"event":{event},"data":"{data}"',
            cache_ttl=config.cache_ttl if kind.is_cache else 0,
            history_size=config.history_size,
            history_ttl=config.history_ttl,
        )


def _receipt(live: LiveGateways, replies: Mapping[str, Sequence[Any]]) -> Receipt:
    ids = {name: stream_id.decode() for name, (stream_id, _) in replies.items()}
    by_channel = {
        name: live.count(dict(zip(counts[::2], counts[1::2], strict=True))) for name, (_, counts) in replies.items()
    }
    return Receipt(ids, by_channel)
