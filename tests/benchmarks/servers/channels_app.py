"""
Django Channels on uvicorn, with the faster of the two layers of channels_redis (pub/sub).

    uvicorn --loop uvloop channels_app:application

Events are published as by the layer's ``group_send``: one PUBLISH with the message in MessagePack.
"""

import os

import django
from django.conf import settings

settings.configure(
    SECRET_KEY="benchmark",
    INSTALLED_APPS=["channels"],
    ALLOWED_HOSTS=["*"],
    CHANNEL_LAYERS={
        "default": {
            "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
            "CONFIG": {"hosts": [os.environ["REDIS_URL"]]},
        }
    },
)
django.setup()

from channels.generic.websocket import AsyncWebsocketConsumer  # noqa: E402
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from django.core.asgi import get_asgi_application  # noqa: E402
from django.urls import path  # noqa: E402


class Subscriber(AsyncWebsocketConsumer):
    """A connection subscribed to one group."""

    async def connect(self) -> None:
        self.group = self.scope["url_route"]["kwargs"]["stream"]
        await self.channel_layer.group_add(self.group, self.channel_name)
        await self.accept()
        await self.send("ready")

    async def disconnect(self, code: int) -> None:
        await self.channel_layer.group_discard(self.group, self.channel_name)

    async def event(self, message: dict) -> None:
        """Send a message of the type "event" to the client."""
        await self.send(message["text"])


application = ProtocolTypeRouter(
    {"http": get_asgi_application(), "websocket": URLRouter([path("<stream>", Subscriber.as_asgi())])}
)
