"""
celery-progress as in its README: a page polls the state of a task twice a second.

    gunicorn --worker-class gthread --threads 4 celery_progress_site:app
"""

import os

import django
from celery import Celery
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.urls import include, path

celery_app = Celery("bench", broker="memory://", backend=os.environ["REDIS_URL"])
celery_app.set_default()

settings.configure(
    SECRET_KEY="benchmark", ROOT_URLCONF=__name__, INSTALLED_APPS=["celery_progress"], ALLOWED_HOSTS=["*"]
)
urlpatterns = [path("celery-progress/", include("celery_progress.urls"))]
django.setup()
app = get_wsgi_application()
