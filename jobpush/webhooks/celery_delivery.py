"""
The Celery task that delivers a batch of events to one endpoint, and retries for a day.

Its arguments hold no secret: the endpoint is given by name, and the worker's settings have its URL and our secret.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any

from celery.exceptions import Reject

from ..config import Config
from ..store.webhooks import Delivery, Event, WebhookStore
from .delivery import DeliveryFailed, deliver

logger = logging.getLogger(__name__)

#: The task's name in Celery, for ``task_routes`` too.
DELIVER = "jobpush.deliver_webhook"


def register_delivery(app: Any, load_config: Callable[[], Config]) -> Any:
    """
    Add the task to a Celery application, in every process that makes the application.

    Args:
        app: The Celery application.
        load_config: Returns endpoints, secret and limits; called for each delivery.

    Returns:
        The task; its arguments are those of :class:`Delivery`; the ``id`` is the task's own.
    """

    def deliver_webhook(task: Any, endpoint: str, events: list[Event], since: float) -> None:
        config, delivery = load_config(), Delivery(task.request.id, endpoint, events, since)
        try:
            deliver(config, delivery)
        except DeliveryFailed as exc:
            _after_failure(task, delivery, exc, config)

    # Acknowledged late, and requeued if the worker dies: each event is delivered at least once.
    return app.task(
        deliver_webhook,
        bind=True,
        name=DELIVER,
        shared=False,
        max_retries=None,
        acks_late=True,
        reject_on_worker_lost=True,
        ignore_result=True,
    )


def backoff(retries: int, config: Config) -> float:
    """Return the seconds until the next attempt: doubled each time, half of it random to spread the load."""
    longest = min(config.webhook_max_countdown, config.webhook_retry_delay * 2 ** min(retries, 30))
    return random.uniform(longest / 2, longest)  # noqa: S311 - no secret


def _after_failure(task: Any, delivery: Delivery, failure: DeliveryFailed, config: Config) -> None:
    retries: int = task.request.retries
    left = delivery.since + config.webhook_give_up_after - time.time()
    if failure.is_final or left <= 0:
        logger.error("%s; given up after attempt %d, see: jobpush webhooks", failure, retries + 1)
        with closing(WebhookStore(config)) as store:
            store.give_up(delivery, reason=failure.reason, tries=retries + 1)
        return
    logger.warning("%s; attempt %d", failure, retries + 1)
    try:
        raise task.retry(exc=failure, countdown=min(backoff(retries, config), left))
    except Reject as exc:
        # The broker refused the retry, and Celery would drop the current message.
        raise Reject(exc.reason, requeue=True) from exc
