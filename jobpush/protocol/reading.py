"""Reading of a client's JSON; every error becomes :class:`~jobpush.protocol.codes.InvalidMessage`."""

from __future__ import annotations

import json
from typing import Any, NamedTuple, NoReturn

from .codes import InvalidMessage

#: In place of ``data`` where a message has none.
ABSENT = object()


class ClientMessage(NamedTuple):
    """A message as received; ``channel`` and ``data`` are not checked, ``None`` and :data:`ABSENT` where missing."""

    event: str
    channel: object
    data: object


def read_message(text: str) -> ClientMessage:
    """
    Read a text message.

    Raises:
        InvalidMessage: If it is no JSON object with an ``event`` that is text.
    """
    wire = read_json(text)
    if not isinstance(wire, dict):
        raise InvalidMessage("A message must be a JSON object")
    event = wire.get("event")
    if not isinstance(event, str):
        raise InvalidMessage('A message must have an "event" that is text')
    return ClientMessage(event, wire.get("channel"), wire.get("data", ABSENT))


def read_object(data: object) -> dict[str, Any]:
    """
    The object in a message's ``data``, which may be JSON text too ("double encoding").

    Raises:
        InvalidMessage: If it is neither.
    """
    if isinstance(data, str):
        data = read_json(data)
    if not isinstance(data, dict):
        raise InvalidMessage('The "data" of this message must be a JSON object')
    return data


def read_text(members: dict[str, Any], name: str) -> str | None:
    """
    A member that is text; ``None`` if it is missing, ``null`` or empty.

    Raises:
        InvalidMessage: If it is something else, or has no UTF-8 form, in which it is signed.
    """
    value = members.get(name)
    if value is None:
        return None
    if not isinstance(value, str):
        raise InvalidMessage(f'"{name}" must be text')
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidMessage(f'"{name}" has half of a surrogate pair') from None
    return value or None


def read_json(text: str) -> Any:
    """
    Any JSON value.

    Raises:
        InvalidMessage: If it is no JSON, nested too deeply, or has a number that Python does not read.
    """
    try:
        return _decoder.decode(text)
    except (ValueError, RecursionError):
        raise InvalidMessage("The message is not valid JSON") from None


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)


#: Python would let NaN and Infinity pass, which no browser reads.
_decoder = json.JSONDecoder(parse_constant=_refuse)
