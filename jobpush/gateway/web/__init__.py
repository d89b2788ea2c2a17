"""What answers requests, in the threads of the web server: routes, rights, limits, the way of a socket to the hub."""
