"""Back-end calls of scenarios. They use Pusher's Python SDK, except for features that only jobpush has."""

from __future__ import annotations

from typing import Any

import pusher

from jobpush.events import TaskEvent, TaskState
from jobpush.signing import sign
from jobpush.store import Store
from jobpush.store.records import TaskWrite

from .deployment import APP_ID, KEY, SECRET, Deployment

#: Pusher's end-to-end encryption: 32 bytes in base64, known to servers only.
MASTER_KEY = "ZUhQVldIZzduRkdZVkJzS2pPRkRYV1JyaWJJUjJiMGI="


def sdk(port: int) -> pusher.Pusher:
    """Return Pusher's Python SDK, configured for a gateway."""
    return pusher.Pusher(
        APP_ID, KEY, SECRET, host="127.0.0.1", port=port, ssl=False, encryption_master_key_base64=MASTER_KEY
    )


class Backend:
    """The calls; scenarios use the method names. Arguments and results are JSON values."""

    def __init__(self, deployment: Deployment) -> None:
        # Clients connect to the first entrance by default, so that events pass from one process to another.
        self._sdk = sdk(deployment.ports[1])
        self._store = Store(deployment.config)
        self._deployment = deployment

    def trigger(self, channels: str | list[str], event: str, data: Any, socket_id: str | None = None) -> Any:
        return self._sdk.trigger(channels, event, data, socket_id)

    def send_to_user(self, user_id: str, event: str, data: Any) -> Any:
        return self._sdk.send_to_user(user_id, event, data)

    def terminate_user_connections(self, user_id: str) -> Any:
        return self._sdk.terminate_user_connections(user_id)

    def publish_task(self, user_id: str, task_id: str, current: int) -> None:
        event = TaskEvent(task_id, TaskState.PROGRESS, current=current, total=100)
        self._store.publish([TaskWrite(user_id, event)])

    def sign(self, text: str) -> str:
        return sign(SECRET, text)

    def cut_connections(self) -> None:
        self._deployment.cut()

    def lose_gateway(self) -> None:
        self._deployment.lose_gateway()

    def close(self) -> None:
        self._store.close()
