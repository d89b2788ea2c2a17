"""What a running task reports, and how it is published. Knows no queue."""
