"""What runs inside Celery: in the processes that publish tasks, that run them, and in the workers' parents."""
