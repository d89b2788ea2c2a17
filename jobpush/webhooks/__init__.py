"""Webhooks: events of channels and users, delivered to other servers by Celery tasks."""

from .celery_delivery import DELIVER, register_delivery
from .relay import WebhookRelay

__all__ = ["DELIVER", "WebhookRelay", "register_delivery"]
