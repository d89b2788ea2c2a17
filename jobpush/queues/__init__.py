"""
Adapters of job queues: each turns what its queue does with a task into task events.

A new one is a package beside ``celery``. It reports through :mod:`jobpush.reporting`, and registers what other packages
need from it in :mod:`jobpush.reporting.queue_hooks`.
"""
