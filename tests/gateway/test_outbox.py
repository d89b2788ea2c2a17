"""The outbox of a slow connection."""

from __future__ import annotations

from jobpush.gateway.outbox import Outbox


def test_size_is_that_of_the_waiting_frames() -> None:
    outbox = Outbox()
    outbox.put(b"12345", b"news")
    outbox.replace((b"news", "task"), b"123")
    outbox.replace((b"news", "task"), b"1234")
    assert outbox.size == 9

    outbox.discard((b"news", "task"))
    assert outbox.size == 5
    outbox.discard((b"news", "task"))
    assert outbox.size == 5
    outbox.drop_channel(b"news")
    assert outbox.size == 0
