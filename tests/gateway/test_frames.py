"""Received messages: the size limit holds for any pieces, and pieces use no more memory than their bytes."""

from __future__ import annotations

import tracemalloc

import pytest
from wsproto.frame_protocol import Opcode

from jobpush.gateway.frames import FrameReader, Oversized
from tests.autobahn.cases import CONTINUATION, TEXT, fragments, frame, message, pieces

LIMIT = 65_536


@pytest.mark.parametrize("size", [1, 7, 4_096, 16_384])
def test_longest_allowed_message_is_read_in_pieces_of_any_size(size: int) -> None:
    reader = FrameReader(LIMIT)

    received = [one for piece in pieces(frame(TEXT, message(LIMIT)), size) for one in reader.feed(piece)]

    assert received == [(Opcode.TEXT, message(LIMIT).decode())]
    assert reader.is_idle


def test_oversized_message_is_refused_by_its_header() -> None:
    reader = FrameReader(LIMIT)

    with pytest.raises(Oversized):
        list(reader.feed(frame(TEXT, size=LIMIT + 1)))


def test_sum_of_fragments_is_bounded_as_one_message() -> None:
    reader = FrameReader(LIMIT)
    list(reader.feed(frame(TEXT, b"*" * LIMIT, fin=False)))

    with pytest.raises(Oversized):
        list(reader.feed(frame(CONTINUATION, size=1)))


def test_endless_fragments_use_no_memory_beyond_their_bytes() -> None:
    reader = FrameReader(LIMIT)
    list(reader.feed(frame(TEXT, "ä".encode(), fin=False)))
    empty = frame(CONTINUATION, fin=False) * 1_000
    tiny = b"".join(fragments(pieces("äö".encode() * 1_000), opcode=CONTINUATION)[:-1])

    tracemalloc.start()
    for _ in range(50):
        list(reader.feed(empty))
    list(reader.feed(tiny))
    kept = tracemalloc.take_snapshot()
    tracemalloc.stop()

    # Of the reader's own code alone: threads that other tests have left would count as well.
    ours = kept.filter_traces([tracemalloc.Filter(True, name) for name in ("*/gateway/frames.py", "*/wsproto/*")])
    assert sum(trace.size for trace in ours.traces) < LIMIT
