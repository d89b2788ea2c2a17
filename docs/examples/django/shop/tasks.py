import time

from celery import shared_task

from jobpush import progress
from jobpush.django import jobpush


@shared_task
@jobpush.track(user="user_id", title="Export {name}")
def export(user_id, name):
    for _ in progress.iter(range(200), message="exporting"):
        time.sleep(0.05)
