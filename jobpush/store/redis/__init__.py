"""Access to Redis: connections, pipelines, pub/sub, and the classification of errors."""
