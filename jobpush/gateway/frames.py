"""WebSocket frames: built here, because many are sent; read by wsproto, because few are received."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from wsproto.frame_protocol import CloseReason, Frame, FrameDecoder, MessageDecoder, Opcode, ParseFailed

#: RFC 6455, 5.2: FIN and opcode in the first byte; a server does not mask.
_TEXT = 0x81
_CLOSE = 0x88
_PONG = 0x8A
#: RFC 6455, 5.5: payload of a control frame.
_MAX_CONTROL = 125
#: RFC 6455, 7.4: codes allowed in a close frame, in addition to 3000 to 4999.
_CLOSE_CODES = frozenset((1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014))

#: Parts of a message that are kept separately.
_MAX_PARTS = 64

#: Headers of the text frames up to 125 bytes, by size.
_SHORT_HEADERS = tuple(bytes((_TEXT, size)) for size in range(126))
#: The start of longer headers, before the size in two bytes.
_MEDIUM = bytes((_TEXT, 126))


def text_header(size: int) -> bytes:
    """Return the header of a text frame with this many bytes of payload."""
    if size < 126:
        return _SHORT_HEADERS[size]
    if size < 65_536:
        return _MEDIUM + size.to_bytes(2, "big")
    return struct.pack("!BBQ", _TEXT, 127, size)


def header_size(frame: bytes) -> int:
    """Return the size of the header of a frame from :func:`text_header`."""
    return {126: 4, 127: 10}.get(frame[1], 2)


def text_frame(text: bytes) -> bytes:
    """Return a text message as one frame."""
    return text_header(len(text)) + text


def close_frame(code: int | None, reason: str = "") -> bytes:
    """Return a close frame; without a code if the client's had none. Source: RFC 6455, 5.5.1."""
    if code is None:
        return bytes((_CLOSE, 0))
    text = reason.encode()[: _MAX_CONTROL - 2].decode(errors="ignore").encode()  # never cut within a character
    return bytes((_CLOSE, 2 + len(text))) + struct.pack("!H", code) + text


def pong_frame(payload: bytes) -> bytes:
    """Return the answer to a ping."""
    return bytes((_PONG, len(payload))) + payload


def close_code(payload: bytes) -> int | None:
    """
    Return the code in a client's close frame; ``None`` if there is none.

    Raises:
        ParseFailed: If the frame breaks RFC 6455, 5.5.1 or 7.4.
    """
    if not payload:
        return None
    if len(payload) == 1:
        raise ParseFailed("a close frame must have no payload, or two bytes or more")
    code = int.from_bytes(payload[:2], "big")
    if code not in _CLOSE_CODES and not 3000 <= code <= 4999:
        raise ParseFailed(f"{code} is not allowed in a close frame")
    try:
        payload[2:].decode()
    except UnicodeDecodeError as exc:
        raise ParseFailed(str(exc), CloseReason.INVALID_FRAME_PAYLOAD_DATA) from exc
    return code


class Oversized(Exception):
    """A message is longer than allowed; nothing after it can be read."""


class FrameReader:
    """
    Reads whole messages and control frames.

    It exists only while a message is incomplete: an idle connection has none.

    Args:
        max_message: Bytes that a message may have.
        now: Any clock's time.
    """

    __slots__ = ("_frames", "_max_message", "_messages", "_parts", "_size", "since")

    def __init__(self, max_message: int, now: float = 0.0) -> None:
        #: Since when a message is incomplete; the caller sets it.
        self.since = now
        self._frames = FrameDecoder(client=False)
        self._messages = MessageDecoder()
        self._parts: list[str | bytes] = []
        self._size = 0
        self._max_message = max_message

    @property
    def is_idle(self) -> bool:
        """Whether no message is incomplete."""
        return self._frames.header is None and not self._frames.buffer and self._messages.opcode is None

    @property
    def is_between_messages(self) -> bool:
        """Whether no message is incomplete, except for the header of its first frame."""
        return self._messages.opcode is None

    def feed(self, data: bytes) -> Iterator[tuple[Opcode, str | bytes]]:
        """
        Take bytes from the socket.

        Returns:
            Opcode and payload: text for TEXT, bytes for BINARY, PING, PONG and CLOSE.

        Raises:
            ParseFailed: If they break RFC 6455; its ``code`` is to be the close code.
            Oversized: As soon as the size of a message beyond the bound is known.
        """
        self._frames.receive_bytes(data)
        while (frame := self._frames.process_buffer()) is not None:
            if frame.opcode.iscontrol():
                yield frame.opcode, _payload(frame)
                continue
            self._size += len(frame.payload)
            self._ensure_room_for(0)
            frame = self._messages.process_frame(frame)
            self._ensure_text()
            self._keep(_payload(frame))
            if frame.message_finished:
                parts, self._parts, self._size = self._parts, [], 0
                yield frame.opcode, _joined(parts)
        header = self._frames.header
        if header is not None and not header.opcode.iscontrol():
            self._ensure_room_for(header.payload_len - self._frames.payload_consumed)

    def _ensure_room_for(self, announced: int) -> None:
        """Check the size of an announced or received part against the limit."""
        if self._size + announced > self._max_message:
            raise Oversized

    def _ensure_text(self) -> None:
        """
        Refuse half a surrogate pair, for which Python's decoder waits for a third byte although UTF-8 has no
        surrogates.
        """
        decoder = self._messages.decoder
        if decoder is not None:
            begun = decoder.getstate()[0]
            if len(begun) == 2 and begun[0] == 0xED and begun[1] > 0x9F:
                raise ParseFailed("half a surrogate pair in a text", CloseReason.INVALID_FRAME_PAYLOAD_DATA)

    def _keep(self, part: str | bytes) -> None:
        """Add a part of a message. Any number of empty or tiny parts must not use more memory than their bytes."""
        if part or not self._parts:
            self._parts.append(part)
        if len(self._parts) > _MAX_PARTS:
            self._parts = [_joined(self._parts)]


def _payload(frame: Frame) -> str | bytes:
    return frame.payload  # type: ignore[return-value]  # a tuple is in close frames that wsproto makes


def _joined(parts: list[str | bytes]) -> str | bytes:
    if len(parts) == 1:
        return parts[0]
    return parts[0][:0].join(parts)  # type: ignore[arg-type]  # one message is either all text or all bytes
