"""Celery: its signals, the decorator, workflows, cancelling, and the leases of workers."""
