"""The gunicorn worker, and how a socket leaves the server for the hub."""
