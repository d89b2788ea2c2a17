"""
The limit of plain CPython: the same as ``native/wall.c``, with one ``socket.send`` per frame.

    python wall.py 8001 1000 1 200
"""

import socket
import sys
import time


def accept_one(listener: socket.socket) -> socket.socket:
    """Return the next connection that requests a WebSocket."""
    while True:
        connection, _ = listener.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if connection.recv(4096):  # empty: a check whether the port is open
            connection.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
            return connection


def frame(seq: int, size: int) -> bytes:
    """Return the frame of one event."""
    payload = (b"~0.%d.%d~" % (seq, time.monotonic_ns())).ljust(size, b".")
    header = bytes([0x81, size]) if size < 126 else b"\x81\x7e" + size.to_bytes(2, "big")
    return header + payload


def main() -> None:
    """Send forever."""
    port, connections, frames, size = map(int, sys.argv[1:])
    listener = socket.create_server(("127.0.0.1", port), backlog=2048)
    sockets = [accept_one(listener) for _ in range(connections)]
    seq = 0
    while True:
        data = b"".join(frame(seq + number, size) for number in range(1, frames + 1))
        seq += frames
        for connection in sockets:
            sent = connection.send(data)
            if sent < len(data):
                connection.sendall(data[sent:])


main()
