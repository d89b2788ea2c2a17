"""The gunicorn worker, and the handover of sockets from the server to the hub."""
