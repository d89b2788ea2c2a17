"""The server's side of the Pusher Channels protocol, 5 to 7: no sockets, no threads, no clock of its own."""
