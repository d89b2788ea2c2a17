"""Frames that wait to be sent on one connection."""

from __future__ import annotations

import os
from collections.abc import Hashable

#: Bytes handed to the kernel in one call.
_CHUNK = 131_072


class Outbox:
    """
    Frames in order; a newer one can replace an older one that is not sent in part yet.

    It exists only while frames wait: an idle connection has none.
    """

    __slots__ = ("_frames", "_head", "_pinned", "allowance", "replaying", "size")

    def __init__(self) -> None:
        #: The rest of a partly sent frame; sent first and completely.
        self._head = b""
        self._frames: dict[Hashable, bytes] = {}
        self._pinned = 0
        #: Queued bytes.
        self.size = 0
        #: Bytes allowed beyond the bound: a history, which the client requested.
        self.allowance = 0
        #: Bytes of a history that waited when they were last counted.
        self.replaying = 0

    def count_replaying(self) -> int:
        """Count the bytes of a history that wait. Return the change since the last count."""
        before, self.replaying = self.replaying, min(self.size, self.allowance)
        return self.replaying - before

    def __contains__(self, key: Hashable) -> bool:
        """Return whether a frame of this key is queued, and would be replaced."""
        return key in self._frames

    def put(self, frame: bytes, channel: bytes | None = None) -> None:
        """Add a frame that is never replaced; it is dropped only with its channel."""
        self._pinned += 1
        self._frames[self._pinned if channel is None else (channel, self._pinned)] = frame
        self.size += len(frame)

    def put_history(self, frame: bytes, channel: bytes) -> None:
        """Add a frame of a history, which does not count as slow reading."""
        self.put(frame, channel)
        self.allowance += len(frame)

    def replace(self, key: Hashable, frame: bytes) -> None:
        """Replace the queued frame of the same key, which begins with the channel, or add one at the end."""
        self.size += len(frame) - len(self._frames.get(key, b""))
        self._frames[key] = frame

    def discard(self, key: Hashable) -> None:
        """Drop the frame of this key, if one waits: a newer one contains everything."""
        self.size -= len(self._frames.pop(key, b""))

    def drop_channel(self, channel: bytes) -> int:
        """Drop all frames of a channel. Return their number."""
        dropped = [key for key in self._frames if isinstance(key, tuple) and key[0] == channel]
        for key in dropped:
            self.size -= len(self._frames.pop(key))
        return len(dropped)

    def put_rest(self, frame: bytes) -> None:
        """Add the part of a frame that the socket did not take; the outbox is empty."""
        self._head = frame
        self.size = len(frame)

    def drop_frames(self) -> int:
        """Drop all frames except the rest of one that was sent in part. Return their number."""
        count = len(self._frames)
        self._frames.clear()
        self.size = len(self._head)
        return count

    def send(self, fd: int) -> bool:
        """
        Send as much as the socket takes.

        Returns:
            Whether everything is sent.

        Raises:
            OSError: If the connection is broken.
        """
        while self.size:
            keys, data = self._next_chunk()
            try:
                sent = os.write(fd, data)
            except BlockingIOError:
                return False
            if sent == self.size:  # nearly always
                self._frames.clear()
                self._head, self.size = b"", 0
                return True
            self._forget(keys, sent)
            if sent < len(data):
                return False
        return True

    def _next_chunk(self) -> tuple[list[Hashable], bytes]:
        keys: list[Hashable] = []
        parts = [self._head]
        size = len(self._head)
        for key, frame in self._frames.items():
            if size >= _CHUNK:
                break
            keys.append(key)
            parts.append(frame)
            size += len(frame)
        return keys, b"".join(parts)

    def _forget(self, keys: list[Hashable], sent: int) -> None:
        """Drop the sent bytes, and cut the frame in which sending ended."""
        self.size -= sent
        if sent < len(self._head):
            self._head = self._head[sent:]
            return
        sent -= len(self._head)
        self._head = b""
        for key in keys:
            if not sent:
                return
            frame = self._frames.pop(key)
            if sent < len(frame):
                self._head = frame[sent:]
                return
            sent -= len(frame)
