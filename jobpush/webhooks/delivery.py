"""Deliver a batch of events to one endpoint: a single signed request."""

from __future__ import annotations

import time

from ..config import Config
from ..errors import JobPushError
from ..events import encode
from ..signing import sign
from ..store.webhooks import Delivery
from .addresses import ForbiddenAddress
from .endpoints import configured_endpoints

_GONE = 410


class DeliveryFailed(JobPushError):
    """An attempt to deliver failed; ``is_final``: it was the last one."""

    code = "delivery_failed"

    def __init__(self, endpoint: str, reason: str, *, is_final: bool = False) -> None:
        self.reason = reason
        self.is_final = is_final
        super().__init__(f"webhook {endpoint} failed: {reason}")


def deliver(config: Config, delivery: Delivery) -> None:
    """
    Make one attempt, with a new time and signature: Pusher's SDKs refuse a body older than five minutes.

    Raises:
        DeliveryFailed: If the response is not a 2xx, or there is none.
        ConfigurationError: If a URL is invalid, or key or secret are not set although there is a URL.
    """
    import h11  # imported late: every worker imports this module, but few send HTTP requests

    from .post import post

    endpoint = next((one for one in configured_endpoints(config) if one.name == delivery.endpoint), None)
    if endpoint is None:
        # While settings are being rolled out, the next attempt may run on a worker that has it.
        raise DeliveryFailed(delivery.endpoint, "it is not among the JOBPUSH_WEBHOOK_URLS of this worker")
    try:
        body = encode({"time_ms": int(time.time() * 1000), "events": delivery.events})
        headers = [
            ("Content-Type", "application/json"),
            ("User-Agent", "jobpush"),
            ("X-Pusher-Key", config.key),
            ("X-Pusher-Signature", sign(config.secret, body)),
            ("Webhook-Id", delivery.id),
        ]
        status = post(
            endpoint,
            headers,
            body.encode(),
            connect_timeout=config.webhook_connect_timeout,
            timeout=config.webhook_timeout,
            allow_private=config.webhook_allow_private,
        )
    except ForbiddenAddress as exc:
        raise DeliveryFailed(delivery.endpoint, str(exc), is_final=True) from exc
    except (OSError, UnicodeError, h11.ProtocolError) as exc:  # UnicodeError: the host is not valid in IDNA
        raise DeliveryFailed(delivery.endpoint, str(exc) or type(exc).__name__) from exc
    if not 200 <= status < 300:
        raise DeliveryFailed(delivery.endpoint, f"it answered {status}", is_final=status == _GONE)
