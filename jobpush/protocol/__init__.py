"""The server's side of the Pusher Channels protocol, versions 5 to 7; without I/O, threads or clock."""
