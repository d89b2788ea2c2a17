"""Import time of jobpush in a worker. Nothing else is imported here, because it could import jobpush first."""

from __future__ import annotations

import time


def measure() -> dict[str, float]:
    """Return the milliseconds of the import, an instance and one ``track()``, with Celery already loaded."""
    import celery
    import celery.app.trace
    import kombu.transport.redis  # noqa: F401

    app = celery.Celery("bench", broker="redis://")
    started = time.perf_counter()
    import jobpush

    instance = jobpush.JobPush(app)

    @app.task
    @instance.track(user="user_id")
    def task(user_id: str) -> None: ...

    return {"import": (time.perf_counter() - started) * 1e3}
