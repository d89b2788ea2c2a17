"""RFC 6455, 5, read once more and in the plainest way: what the gateway's reader of frames is compared with."""

from __future__ import annotations

from collections.abc import Iterator

CONTINUATION, TEXT, BINARY = 0, 1, 2
_KNOWN = {CONTINUATION, TEXT, BINARY, 8, 9, 10}


class Broken(Exception):
    """The bytes break the rules."""


class TooLong(Exception):
    """A message is longer than allowed."""


def read_all(data: bytes, limit: int) -> Iterator[tuple[int, str | bytes]]:
    """
    All messages and control frames of a client.

    Raises:
        Broken: Behind those that come before a frame that breaks the rules.
        TooLong: Behind those that come before a message that is too long.
    """
    kind, text = None, b""
    while (frame := _read_frame(data)) is not None:
        fin, opcode, size, key, data = frame
        if opcode >= 8:
            if len(data) < size:
                return
            payload, data = _unmasked(data[:size], key), data[size:]
            yield opcode, payload
            continue
        if not data and size:
            _ensure_short(len(text) + size, limit)
            return
        if (kind is None) is (opcode == CONTINUATION):
            raise Broken("a message within a message, or the rest of none")
        kind = opcode if kind is None else kind
        _ensure_short(len(text) + size, limit)
        is_whole = len(data) >= size
        text += _unmasked(data[:size], key)
        data = data[size:]
        if kind == TEXT:
            _ensure_text(text, is_whole=is_whole and fin)
        if is_whole and fin:
            yield kind, text.decode() if kind == TEXT else text
            kind, text = None, b""


def _read_frame(data: bytes) -> tuple[bool, int, int, bytes, bytes] | None:
    """FIN, opcode, size, key, and the bytes behind the header; ``None`` if that is not whole."""
    if len(data) < 2:
        return None
    fin, reserved, opcode = bool(data[0] & 0x80), data[0] & 0x70, data[0] & 0x0F
    is_masked, size = data[1] & 0x80, data[1] & 0x7F
    if opcode not in _KNOWN or (opcode >= 8 and (not fin or size > 125)):
        raise Broken("no such frame")
    extended = {126: 2, 127: 8}.get(size, 0)
    if len(data) < 2 + extended:
        return None
    if extended:
        size = int.from_bytes(data[2 : 2 + extended], "big")
        if size < (126 if extended == 2 else 65_536) or size >> 63:
            raise Broken("a length in the wrong form")
    if reserved or not is_masked:
        raise Broken("reserved bits, or no mask")
    if len(data) < 6 + extended:
        return None
    return fin, opcode, size, data[2 + extended : 6 + extended], data[6 + extended :]


def _unmasked(payload: bytes, key: bytes) -> bytes:
    return bytes(byte ^ key[index % 4] for index, byte in enumerate(payload))


def _ensure_short(size: int, limit: int) -> None:
    if size > limit:
        raise TooLong(size)


def _ensure_text(text: bytes, *, is_whole: bool) -> None:
    """Whether it can be the beginning of a text in UTF-8. Source: RFC 3629, 4."""
    try:
        text.decode()
    except UnicodeDecodeError as exc:
        is_cut = exc.end == len(text) and exc.reason == "unexpected end of data"
        if is_whole or not is_cut:
            raise Broken("no UTF-8") from exc
