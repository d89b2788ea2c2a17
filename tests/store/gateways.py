"""Gateways without sockets that make the statements a test asks for, and a recorder of what is published."""

from __future__ import annotations

import json
import uuid
from typing import Any, NamedTuple

import redis

from jobpush.channels import parse_channel
from jobpush.store import Store
from jobpush.store.keys import bucket_tags
from jobpush.store.presence import Presence
from jobpush.store.replies import Renewal, Roster, read_renewal, read_roster
from jobpush.store.scripts import Call


class Gateway:
    """One gateway process as Redis sees it."""

    def __init__(self, store: Store, gateway_id: str = "") -> None:
        self.store = store
        self.presence = Presence(store.config, gateway_id or uuid.uuid4().hex)
        self.epoch = self.renew().epoch

    def renew(self, epoch: str = "", *, seconds: float | None = None) -> Renewal:
        return read_renewal(self.run(self.presence.renew(epoch, seconds=seconds)))

    def occupy(self, channel: str, connections: int, *, is_quiet: bool = False) -> list[int]:
        return self.run(self.presence.occupy(parse_channel(channel).occupancy_topic, connections, is_quiet=is_quiet))

    def join(self, channel: str, user_id: str, user_info: str = "{}", **options: Any) -> int:
        return self.run(self.presence.join(channel, user_id, user_info, **options))

    def leave(self, channel: str, user_id: str) -> int:
        return self.run(self.presence.leave(channel, user_id))

    def roster(self, channel: str) -> Roster:
        return read_roster(self.run(self.presence.roster(channel)))

    def die(self) -> None:
        """Let the lease expire."""
        self.store.run([("ZADD", self.store.keys.gateways, 1, self.presence.gateway_id)])

    def reap(self) -> int:
        """Retract the statements of dead gateways; return their number."""
        self.store.run([("DEL", self.store.keys.reaper)])  # an elected reaper keeps its role for one lease
        count = 0
        for gateway in self.run(self.presence.find_dead()):
            gateway_id = gateway.decode()
            for tag in bucket_tags():
                while claims := self.run(self.presence.bury(gateway_id, tag)):
                    self.run(self.presence.retract(gateway_id, tag, claims))
                    count += len(claims)
            self.run(self.presence.forget_dead(gateway_id))
        return count

    def run(self, call: Call | None) -> Any:
        assert call is not None
        (reply,) = self.store.run([call])
        return reply


class Announcement(NamedTuple):
    """A message that was published on a topic."""

    topic: str
    event: str
    data: Any


class PubSubRecorder:
    """Receives everything published below the prefix ``jobpush``, and reads the webhook stream."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._pubsub = client.pubsub()
        self._pubsub.psubscribe("jobpush:{*")
        self._pubsub.get_message(timeout=5)
        #: ``seq`` of the announcements, in order of arrival.
        self.seqs: list[int] = []

    def close(self) -> None:
        self._pubsub.close()

    def published(self) -> list[Announcement]:
        """Return what was published on topics since the last call."""
        published = []
        self._client.publish("jobpush:{end}", "")
        while (message := self._pubsub.get_message(timeout=5))["channel"] != b"jobpush:{end}":
            if message["channel"].endswith(b":probe"):  # each new connection checks its right to publish
                continue
            header, _, members = message["data"].partition(b"\n")
            stream_id, task_id, seq, final, excluded = header.decode().split(" ")
            assert (stream_id, task_id, final, excluded) == ("-", "-", "1", "-")
            self.seqs.append(int(seq))
            frame = json.loads(b"{" + members + b"}")
            topic = message["channel"].decode().split(":", 3)[3]
            event = frame["event"].removeprefix("pusher_internal:")
            published.append(Announcement(topic, event, json.loads(frame["data"])))
        return published

    def webhooks(self) -> list[dict[str, Any]]:
        """Return the webhook events since the last call, and remove them."""
        entries = self._client.xrange("jobpush:{webhooks}:stream")
        if entries:
            self._client.xdel("jobpush:{webhooks}:stream", *(entry_id for entry_id, _ in entries))
        return [json.loads(fields[b"e"]) for _, fields in entries]
