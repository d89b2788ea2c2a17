"""Reading of a client's JSON; every error becomes :class:`~jobpush.protocol.codes.InvalidMessage`."""

from __future__ import annotations

import json
from typing import Any, NamedTuple, NoReturn

from .codes import InvalidMessage

#: Stands for the ``data`` of a message without any.
ABSENT = object()


class ClientMessage(NamedTuple):
    """A message as received; ``channel`` and ``data`` are unchecked; ``None`` and :data:`ABSENT` if missing."""

    event: str
    channel: object
    data: object


def read_message(text: str) -> ClientMessage:
    """
    Read a text message.

    Raises:
        InvalidMessage: If it is not a JSON object with a text ``event``.
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
    Return the object in a message's ``data``, which may also be JSON text ("double encoding").

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
    Return a text field; ``None`` if it is missing, ``null`` or empty.

    Raises:
        InvalidMessage: If it is not text, or has no UTF-8 form, which the signature needs.
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
    """Read any JSON value.

    Raises:
        InvalidMessage: If it is not JSON, is nested too deeply, or has a number that Python does not read.
    """
    try:
        return _decoder.decode(text)
    except (ValueError, RecursionError):
        raise InvalidMessage("The message is not valid JSON") from None


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)


#: Python would accept NaN and Infinity, which browsers do not.
_decoder = json.JSONDecoder(parse_constant=_refuse)
