import time

from celery import Celery

from jobpush import JobPush, progress

celery_app = Celery("tasks", broker="redis://localhost:6379/0")
jobpush = JobPush(celery_app)


@celery_app.task
@jobpush.track(user="user_id", title="Export {name}")
def export(user_id, name):
    for _ in progress.iter(range(200), message="exporting"):
        time.sleep(0.05)
