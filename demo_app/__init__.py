"""
A video uploader, and the longest example of jobpush: it uses nothing but its public names.

Read it in this order:

- ``tasks.py``: a Celery task that encodes a video and says how far it is (``JobPush``, ``track``, ``progress``);
- ``app.py``: a Flask site with the gateway in it (``Gateway``), where a click becomes that task;
- ``templates/videos.html`` and ``static/demo.js``: the page with the live list (``<jobpush-tasks>``);
- ``chat.py`` and ``feed.py``, each with its page in ``templates/`` and ``static/``: two small examples of channels;
- ``video.py`` (ffmpeg), ``files.py`` (where videos are kept), ``sample.py`` and ``settings.py`` know nothing of
  jobpush.

``jobpush demo`` starts all of it with a Redis, a worker and a server; ``docker/compose.yml`` does the same in
containers. By hand, with a Redis on its usual port::

    export JOBPUSH_KEY=demo JOBPUSH_SECRET=... JOBPUSH_DEMO_DIR=/var/tmp/videos JOBPUSH_DEMO_SECRET=...
    celery -A demo_app.tasks worker
    gunicorn -c python:jobpush.gunicorn_conf 'demo_app.app:create_app()'
"""
