"""Section 2: pings get a pong with the same payload, unsolicited pongs are ignored."""

from __future__ import annotations

import pytest

from .cases import PONG, PROTOCOL_ERROR, Case, assert_holds, frame, pieces, ping

TEN = [b"payload-%d" % number for number in range(10)]
CASES = [
    Case("2.1 without payload", [ping()], [("pong", b"")]),
    Case("2.2 with text", [ping(b"Hello, world!")], [("pong", b"Hello, world!")]),
    Case(
        "2.3 with no UTF-8",
        [ping(b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff")],
        [("pong", b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff")],
    ),
    Case("2.4 of 125 bytes", [ping(b"\xfe" * 125)], [("pong", b"\xfe" * 125)]),
    Case("2.5 of 126 bytes", [ping(b"\xfe" * 126)], [PROTOCOL_ERROR]),
    Case("2.6 of 125 bytes, one by one", pieces(ping(b"\xfe" * 125)), [("pong", b"\xfe" * 125)]),
    Case("2.7 pong without payload", [frame(PONG)], []),
    Case("2.8 pong with payload", [frame(PONG, b"unsolicited")], []),
    Case("2.9 pong, then ping", [frame(PONG, b"unsolicited"), ping(b"asked")], [("pong", b"asked")]),
    Case("2.10 ten", [ping(payload) for payload in TEN], [("pong", payload) for payload in TEN]),
    Case("2.11 ten, one by one", pieces(b"".join(map(ping, TEN))), [("pong", payload) for payload in TEN]),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_pings_and_pongs(port: int, case: Case) -> None:
    assert_holds(port, case)
