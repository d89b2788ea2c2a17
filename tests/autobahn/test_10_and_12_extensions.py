"""Section 10: automatic fragmentation. Sections 12 and 13: compression, which the server declines."""

from __future__ import annotations

import pytest

from .cases import ANSWER, PROTOCOL_ERROR, TEXT, Case, assert_holds, connected, fragments, frame, message, pieces

OFFERS = [
    "permessage-deflate",
    "permessage-deflate; client_max_window_bits",
    "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
    "permessage-deflate; server_max_window_bits=9, permessage-deflate",
    "x-webkit-deflate-frame, permessage-deflate",
]


@pytest.mark.parametrize("size", [1_300, 1_461])
def test_long_message_in_one_fragment_per_packet(port: int, size: int) -> None:
    assert_holds(port, Case("10.1.1", fragments(pieces(message(65_536), size)), [ANSWER]))


@pytest.mark.parametrize("offer", OFFERS)
def test_compression_is_declined(port: int, offer: str) -> None:
    with connected(port, extensions=offer) as peer:
        assert peer.extensions == []
        assert peer.play(Case("12.1", [frame(TEXT, message())], [ANSWER]))[0] == ANSWER


def test_compressed_message_is_a_protocol_error_even_if_offered(port: int) -> None:
    with connected(port, extensions=OFFERS[0]) as peer:
        compressed = frame(TEXT, b"\xf2\x48\xcd\xc9\xc9\x07\x00", rsv=4)
        assert peer.play(Case("13.1", [compressed], [PROTOCOL_ERROR])) == [PROTOCOL_ERROR]
