"""An application with nothing but webhooks, for a real worker; its settings come from the environment."""

from __future__ import annotations

import os

from celery import Celery

from jobpush import JobPush

celery_app = Celery("webhooks", broker=os.environ["BROKER_URL"])
jobpush = JobPush(celery_app)
