"""What is told to other servers: events of channels and users, delivered as Celery tasks."""
