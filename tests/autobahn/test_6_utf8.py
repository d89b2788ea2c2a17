"""Section 6: valid UTF-8 is accepted, and invalid UTF-8 closes the connection at its first invalid byte."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .cases import (
    ANSWER,
    NOT_JSON,
    NOT_UTF8,
    TEXT,
    Case,
    Received,
    assert_holds,
    connected,
    echo_request,
    fragments,
    frame,
    message,
    pieces,
)

GREEK = "κόσμε"
TEXT_OF_ALL_LENGTHS = "Hello-µ@ßöäüàá-UTF-8!! κόσμε €ﬁ 𝄞🂡"

# Sections of Markus Kuhn's UTF-8 decoder stress test, in hexadecimal.
VALID = {
    "6.5": GREEK.encode().hex(" "),
    "6.7.1": "00",
    "6.7.2": "c2 80",
    "6.7.3": "e0 a0 80",
    "6.7.4": "f0 90 80 80",
    "6.9.1": "7f",
    "6.9.2": "df bf",
    "6.9.3": "ef bf bf",
    "6.9.4": "f4 8f bf bf",
    "6.11.1": "ed 9f bf",
    "6.11.2": "ee 80 80",
    "6.11.3": "ef bf bd",
    "6.11.4": "f3 bf bf bf",
    # Noncharacters are valid UTF-8.
    **{f"6.22.{plane}": chr(plane << 16 | 0xFFFE).encode().hex(" ") for plane in range(17)},
    "6.23": "ef bf b9 ef bf ba ef bf bb ef bf bc ef bf bd",
}
INVALID = {
    "6.8.1": "f8 88 80 80 80",
    "6.8.2": "fc 84 80 80 80 80",
    "6.10.1": "f7 bf bf bf",
    "6.10.2": "fb bf bf bf bf",
    "6.10.3": "fd bf bf bf bf bf",
    "6.11.5": "f4 90 80 80",
    "6.12.1": "80",
    "6.12.2": "bf",
    **{f"6.12.{number + 1}": " ".join(["80 bf"] * number) for number in range(2, 7)},
    "6.12.8": " ".join(f"{byte:02x}" for byte in range(0x80, 0xC0)),
    "6.13.1": " 20 ".join(f"{byte:02x}" for byte in range(0xC0, 0xE0)),
    "6.13.2": " 20 ".join(f"{byte:02x}" for byte in range(0xE0, 0xF0)),
    "6.13.3": " 20 ".join(f"{byte:02x}" for byte in range(0xF0, 0xF8)),
    "6.13.4": " 20 ".join(f"{byte:02x}" for byte in range(0xF8, 0xFC)),
    "6.13.5": "fc 20 fd 20",
    "6.14.1": "c0",
    "6.14.2": "e0 80",
    "6.14.3": "f0 80 80",
    "6.14.4": "f8 80 80 80",
    "6.14.5": "fc 80 80 80 80",
    "6.14.6": "df",
    "6.14.7": "ef bf",
    "6.14.8": "f7 bf bf",
    "6.14.9": "fb bf bf bf",
    "6.14.10": "fd bf bf bf bf",
    "6.15": "c0 e0 80 f0 80 80 f8 80 80 80 fc 80 80 80 80 df ef bf f7 bf bf fb bf bf bf fd bf bf bf bf",
    "6.16.1": "fe",
    "6.16.2": "ff",
    "6.16.3": "fe fe ff ff",
    "6.17.1": "c0 af",
    "6.17.2": "e0 80 af",
    "6.17.3": "f0 80 80 af",
    "6.17.4": "f8 80 80 80 af",
    "6.17.5": "fc 80 80 80 80 af",
    "6.18.1": "c1 bf",
    "6.18.2": "e0 9f bf",
    "6.18.3": "f0 8f bf bf",
    "6.18.4": "f8 87 bf bf bf",
    "6.18.5": "fc 83 bf bf bf bf",
    "6.19.1": "c0 80",
    "6.19.2": "e0 80 80",
    "6.19.3": "f0 80 80 80",
    "6.19.4": "f8 80 80 80 80",
    "6.19.5": "fc 80 80 80 80 80",
    "6.20.1": "ed a0 80",
    "6.20.2": "ed ad bf",
    "6.20.3": "ed ae 80",
    "6.20.4": "ed af bf",
    "6.20.5": "ed b0 80",
    "6.20.6": "ed be 80",
    "6.20.7": "ed bf bf",
    "6.21.1": "ed a0 80 ed b0 80",
    "6.21.2": "ed a0 80 ed bf bf",
    "6.21.3": "ed ad bf ed b0 80",
    "6.21.4": "ed ad bf ed bf bf",
    "6.21.5": "ed ae 80 ed b0 80",
    "6.21.6": "ed ae 80 ed bf bf",
    "6.21.7": "ed af bf ed b0 80",
    "6.21.8": "ed af bf ed bf bf",
}


def prefixes() -> Iterator[Case]:
    """Yield the cases of 6.6: a text that ends within a character is invalid."""
    data = GREEK.encode()
    ends = {len(GREEK[:count].encode()) for count in range(len(GREEK) + 1)}
    for size in range(1, len(data) + 1):
        yield Case(f"6.6.{size}", [frame(TEXT, data[:size])], [NOT_JSON if size in ends else NOT_UTF8])


def sequences() -> Iterator[Case]:
    for table, received in ((VALID, NOT_JSON), (INVALID, NOT_UTF8)):
        for number, text in table.items():
            yield Case(f"{number} {text[:20]}", [frame(TEXT, bytes.fromhex(text))], [received])


ECHO: Received = ("echo", TEXT_OF_ALL_LENGTHS)
BROKEN = GREEK.encode() + b"\xed\xa0\x80edited"
CASES = [
    Case("6.1.1 empty", [frame(TEXT)], [NOT_JSON]),
    Case("6.1.2 three empty fragments", fragments([b"", b"", b""]), [NOT_JSON]),
    Case("6.1.3 empty around a text", fragments([b"", message(), b""]), [ANSWER]),
    Case("6.2.1 in one frame", [frame(TEXT, echo_request(TEXT_OF_ALL_LENGTHS))], [ECHO]),
    Case("6.2.2 cut between bytes", fragments(pieces(echo_request(TEXT_OF_ALL_LENGTHS), 7)), [ECHO]),
    Case("6.2.3 a frame for each byte", fragments(pieces(echo_request(TEXT_OF_ALL_LENGTHS))), [ECHO]),
    Case("6.2.4 a write for each byte", pieces(frame(TEXT, echo_request(TEXT_OF_ALL_LENGTHS))), [ECHO]),
    Case("6.3.1 broken, in one frame", [frame(TEXT, BROKEN)], [NOT_UTF8]),
    Case("6.3.2 broken, a frame for each byte", fragments(pieces(BROKEN)), [NOT_UTF8]),
    *prefixes(),
    *sequences(),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_utf8(port: int, case: Case) -> None:
    assert_holds(port, case)


BEYOND = GREEK.encode() + b"\xf4\x90"
EARLY = [
    Case(
        "6.4.1 in a fragment that is not the last",
        [frame(TEXT, GREEK.encode(), fin=False), frame(0, b"\xf4\x90", fin=False)],
        [NOT_UTF8],
    ),
    Case(
        "6.4.2 in half a character",
        [frame(TEXT, GREEK.encode() + b"\xf4", fin=False), frame(0, b"\x90", fin=False)],
        [NOT_UTF8],
    ),
    Case("6.4.3 in half a frame", [frame(TEXT, BEYOND, size=len(BEYOND) + 10)], [NOT_UTF8]),
    Case("6.4 half a surrogate pair in half a frame", [frame(TEXT, b"\xed\xa0", size=10)], [NOT_UTF8]),
    Case("6.4.4 in half a frame, byte by byte", pieces(frame(TEXT, BEYOND, size=len(BEYOND) + 10)), [NOT_UTF8]),
]


@pytest.mark.parametrize("case", EARLY, ids=lambda case: case.id)
def test_invalid_utf8_is_refused_before_the_message_ends(port: int, case: Case) -> None:
    """The end of the message is never sent."""
    with connected(port) as peer:
        assert peer.play(case) == [NOT_UTF8]
