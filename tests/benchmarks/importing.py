"""How long a worker waits for jobpush; nothing else may be imported here, for that would import it before."""

from __future__ import annotations

import time


def measure() -> dict[str, float]:
    """Milliseconds for the import, an object of it and one ``track()``, once Celery is there."""
    import celery
    import celery.app.trace
    import kombu.transport.redis  # noqa: F401

    app = celery.Celery("bench", broker="redis://")
    begun = time.perf_counter()
    import jobpush

    pushing = jobpush.JobPush(app)

    @app.task
    @pushing.track(user="user_id")
    def task(user_id: str) -> None: ...

    return {"import": (time.perf_counter() - begun) * 1e3}
