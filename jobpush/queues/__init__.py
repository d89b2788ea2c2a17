"""Adapters of job queues: each turns what its queue does with a task into task events."""
