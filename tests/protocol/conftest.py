"""A shell around the protocol core that does what the hub does, and records it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from jobpush import signing
from jobpush.config import Config
from jobpush.protocol.actions import Action, ClientEvent, Close, Send, SignIn, SignOut, Subscribe, Unsubscribe, UserData
from jobpush.protocol.server import ServerProtocol

# The credentials and the socket of Pusher's printed examples.
KEY, SECRET, SOCKET_ID = "278d425bdf160c739803", "7ad3773142a6692b25b8", "1234.1234"
POSITION = "1700000000000-0"


class Shell:
    """
    Performs actions at once; ``messages`` are the frames that it was told to send.

    ``tasks`` are the ids of the tasks that belong to the user; ``members`` those that are in presence channels already.
    """

    def __init__(self, **settings: Any) -> None:
        config = Config(key=KEY, secret=SECRET, **settings)
        self.protocol = ServerProtocol(config, SOCKET_ID)
        self.now = 1000.0
        self.messages: list[dict[str, Any]] = []
        self.subscribes: list[Subscribe] = []
        self.leaves: list[Unsubscribe] = []
        self.channels: set[str] = set()
        self.client_events: list[ClientEvent] = []
        self.users: list[UserData] = []
        self.signed_out: list[SignOut] = []
        self.close: Close | None = None
        self.tasks: set[str] = set()
        self.members: dict[str, str] = {}
        self.cached: set[str] = set()

    def open(self, **options: Any) -> Shell:
        self.perform(self.protocol.open(self.now, **options))
        return self

    def send(self, event: str, data: object = None, channel: str | None = None) -> list[dict[str, Any]]:
        """What a client sends as JSON; returns the frames of the answer."""
        return self.send_text(json.dumps({"event": event, "data": data, "channel": channel}))

    def send_text(self, text: str) -> list[dict[str, Any]]:
        return self.perform(self.protocol.receive(text, self.now))

    def subscribe(self, channel: object, **members: object) -> list[dict[str, Any]]:
        return self.send("pusher:subscribe", {"channel": channel, **members})

    def subscribe_signed(self, channel: str, channel_data: str | None = None) -> list[dict[str, Any]]:
        auth = signing.channel_auth(KEY, SECRET, SOCKET_ID, channel, channel_data)
        return self.subscribe(channel, auth=auth, channel_data=channel_data)

    def sign_in(self, user_data: object) -> list[dict[str, Any]]:
        text = user_data if isinstance(user_data, str) else json.dumps(user_data)
        auth = signing.user_auth(KEY, SECRET, SOCKET_ID, text)
        return self.send("pusher:signin", {"auth": auth, "user_data": text})

    def pass_time(self, seconds: float) -> list[dict[str, Any]]:
        self.now += seconds
        return self.perform(self.protocol.tick(self.now))

    def perform(self, actions: list[Action]) -> list[dict[str, Any]]:
        before = len(self.messages)
        for action in actions:
            assert self.close is None, "nothing comes after a close"
            self._perform(action)
        return self.messages[before:]

    def _perform(self, action: Action) -> None:
        match action:
            case Send(text):
                self.messages.append(json.loads(text))
            case Subscribe():
                self.subscribes.append(action)
                self._join(action)
            case Unsubscribe(channel):
                self.leaves.append(action)
                self.channels.remove(channel)
            case SignOut():
                self.signed_out.append(action)
            case SignIn(user):
                self.users.append(user)
            case ClientEvent():
                self.client_events.append(action)
            case Close():
                self.close = action

    def _join(self, join: Subscribe) -> None:
        channel = join.channel
        assert channel not in self.channels, "nothing is joined twice"
        if join.owner_only and channel not in self.tasks:
            self.perform(self.protocol.refused(channel, "It is not your task"))
            return
        self.channels.add(channel)
        members = None
        if join.member is not None:
            members = {**self.members, join.member.user_id: join.member.user_info}
        has_cached = channel in self.cached
        self.perform(self.protocol.subscribed(channel, position=POSITION, members=members, has_cached=has_cached))


@pytest.fixture
def shell() -> Shell:
    """A connection of a stock client that has just been established."""
    return Shell().open()


@pytest.fixture
def make_shell() -> Callable[..., Shell]:
    """Makes connections with other settings, not opened yet."""
    return Shell
