"""Section 7: a close gets a reply with its code, nothing is sent or read after it, and the server disconnects."""

from __future__ import annotations

import pytest

from .cases import (
    ANSWER,
    CLOSE,
    CONTINUATION,
    NOT_UTF8,
    PROTOCOL_ERROR,
    TEXT,
    Case,
    assert_holds,
    close,
    connected,
    frame,
    message,
    ping,
)

GOOD = frame(TEXT, message())
BYE = ("close", 1000)
VALID = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999]
INVALID = [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535]
CASES = [
    Case("7.1.1 behind a text", [GOOD, close()], [ANSWER, BYE]),
    Case("7.1.2 twice", [close() + close()], [BYE]),
    Case("7.1.3 ping behind it", [close() + ping()], [BYE]),
    Case("7.1.4 text behind it", [close() + GOOD], [BYE]),
    Case("7.1.5 amid a text in two", [frame(TEXT, b"a", fin=False) + close() + frame(CONTINUATION, b"b")], [BYE]),
    Case("7.1.6 behind a long text", [frame(TEXT, message(65_536)), GOOD, close(), ping()], [ANSWER, ANSWER, BYE]),
    Case("7.3.1 without a code", [close(None)], [("close", None)]),
    Case("7.3.2 with half a code", [frame(CLOSE, b"a")], [PROTOCOL_ERROR]),
    Case("7.3.3 with a code", [close(1000)], [BYE]),
    Case("7.3.4 with a reason", [close(1000, b"Hello World!")], [BYE]),
    Case("7.3.5 with the longest reason", [close(1000, b"*" * 123)], [BYE]),
    Case("7.3.6 with a reason too long", [close(1000, b"*" * 124)], [PROTOCOL_ERROR]),
    Case("7.5.1 with a reason in invalid UTF-8", [close(1000, b"\xce\xba\xed\xa0\x80")], [NOT_UTF8]),
    *(Case(f"7.7 code {code}", [close(code)], [("close", code)]) for code in VALID),
    *(Case(f"7.9 code {code}", [close(code)], [PROTOCOL_ERROR]) for code in INVALID),
    *(Case(f"7.13 code {code} with a reason", [close(code, b"why")], [PROTOCOL_ERROR]) for code in INVALID[-2:]),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_closing(port: int, case: Case) -> None:
    assert_holds(port, case)


def test_server_disconnects_after_its_close_frame(port: int) -> None:
    """RFC 6455, 7.1.1: the server closes the TCP connection first."""
    with connected(port) as peer:
        assert peer.play(Case("", [close()], [BYE])) == [BYE]
        assert peer.is_at_end()


def test_client_with_a_protocol_error_is_disconnected_without_a_close_reply(port: int) -> None:
    with connected(port) as peer:
        assert peer.play(Case("", [frame(CONTINUATION)], [PROTOCOL_ERROR])) == [PROTOCOL_ERROR]
        assert peer.is_at_end()
