"""Progress of running tasks, and how it is published. Knows no queue."""
