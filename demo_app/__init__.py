"""
A video uploader, the longest example of jobpush. It uses only public names.

Read it in this order:

- ``tasks.py``: a Celery task that encodes a video and reports its progress (``JobPush``, ``track``, ``progress``);
- ``app.py``: a Flask site with the gateway in it (``Gateway``), which publishes that task;
- ``templates/videos.html`` and ``static/demo.js``: the page with the live list (``<jobpush-tasks>``);
- ``chat.py`` and ``feed.py``, each with its page in ``templates/`` and ``static/``: two small examples of channels;
- ``video.py`` (ffmpeg), ``files.py`` (storage of videos), ``sample.py`` and ``settings.py`` know nothing of
  jobpush.

``jobpush demo`` starts all of it with a Redis, a worker and a server; ``docker/compose.yml`` does the same in
containers. By hand, with a Redis on its usual port::

    export JOBPUSH_KEY=demo JOBPUSH_SECRET=... JOBPUSH_DEMO_DIR=/var/tmp/videos JOBPUSH_DEMO_SECRET=...
    celery -A demo_app.tasks worker
    gunicorn -c python:jobpush.gunicorn_conf 'demo_app.app:create_app()'

The site answers at 127.0.0.1 and localhost only; ``JOBPUSH_DEMO_HOSTS`` lists its other names.
"""
