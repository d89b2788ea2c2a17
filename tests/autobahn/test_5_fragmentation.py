"""Section 5: fragmented messages, interleaved control frames, and unexpected continuations."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .cases import (
    ANSWER,
    CONTINUATION,
    PING,
    PONG,
    PROTOCOL_ERROR,
    TEXT,
    Case,
    Received,
    assert_holds,
    fragments,
    frame,
    message,
    pieces,
    ping,
)

GOOD = frame(TEXT, message())
HALVES = fragments(pieces(message(40), 20))
UNEXPECTED = [frame(CONTINUATION, b"more", fin=fin) for fin in (True, False)]


def three_ways(number: str, what: str, frames: list[bytes], receives: list[Received]) -> Iterator[Case]:
    """Yield cases that send the frames in one piece, frame by frame, and byte by byte."""
    whole = b"".join(frames)
    for way, sends in (("in one piece", [whole]), ("frame by frame", frames), ("byte by byte", pieces(whole))):
        yield Case(f"{number} {what}, {way}", sends, receives)


def five_parts() -> list[bytes]:
    parts = fragments(pieces(message(50), 10))
    return [parts[0], ping(b"1"), parts[1], parts[2], ping(b"2"), parts[3], parts[4]]


CASES = [
    Case("5.1 ping in fragments", [frame(PING, b"a", fin=False), frame(CONTINUATION, b"b")], [PROTOCOL_ERROR]),
    Case("5.2 pong in fragments", [frame(PONG, b"a", fin=False), frame(CONTINUATION, b"b")], [PROTOCOL_ERROR]),
    *three_ways("5.3-5", "text in two", HALVES, [ANSWER]),
    *three_ways("5.6-8", "ping between", [HALVES[0], ping(b"?"), HALVES[1]], [("pong", b"?"), ANSWER]),
    *three_ways("5.9-11", "unexpected final continuation", [UNEXPECTED[0], GOOD], [PROTOCOL_ERROR]),
    *three_ways("5.12-14", "unexpected continuation", [UNEXPECTED[1], GOOD], [PROTOCOL_ERROR]),
    *three_ways("5.15", "unexpected continuation later", [*HALVES, UNEXPECTED[1], GOOD], [ANSWER, PROTOCOL_ERROR]),
    Case("5.16 unexpected continuation, before a text in two", [UNEXPECTED[1], *HALVES] * 2, [PROTOCOL_ERROR]),
    Case("5.17 unexpected final continuation, before a text in two", [UNEXPECTED[0], *HALVES] * 2, [PROTOCOL_ERROR]),
    *three_ways("5.18", "text within a text", [frame(TEXT, b"a", fin=False), GOOD], [PROTOCOL_ERROR]),
    *three_ways("5.19-20", "pings in a text of five", five_parts(), [("pong", b"1"), ("pong", b"2"), ANSWER]),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_fragmentation(port: int, case: Case) -> None:
    assert_holds(port, case)
