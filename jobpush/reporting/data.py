"""The data that a task shows, in plain JSON types. Only values that can't be encoded are omitted."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from ..events import encode


def sendable_data(data: Mapping[str, Any], limit: int, warn: Callable[[str, object], None]) -> dict[str, Any]:
    """
    Return a copy that does not change any more.

    Args:
        data: The data that the task has reported.
        limit: Bytes of all values together, as JSON.
        warn: Receives each omitted part and the reason: ``warn("data 'url'", error)``.
    """
    if not data:
        return {}
    try:
        text = encode(data)
        if len(text) * 4 <= limit or len(text.encode()) <= limit:
            copy: dict[str, Any] = json.loads(text)
            return copy
    except Exception:  # noqa: S110 - one of the values; find out which
        pass
    return _without_unsendable(data, limit, warn)


def _without_unsendable(data: Mapping[str, Any], limit: int, warn: Callable[[str, object], None]) -> dict[str, Any]:
    sendable: dict[str, Any] = {}
    sizes: dict[str, int] = {}
    for key, value in data.items():
        try:
            text = encode({key: value})
            sendable.update(json.loads(text))
            sizes[key] = len(text.encode()) - 1  # the braces, minus a comma
        except Exception as exc:  # InvalidData, or a RuntimeError because the task changes the value meanwhile
            warn(_name_of(key), exc)
    while sizes and sum(sizes.values()) + 1 > limit:
        largest = max(sizes, key=lambda key: sizes[key])
        if sizes[largest] < limit and "result" in sizes:
            largest = "result"  # data already shown stays
        warn(_name_of(largest), f"{sizes.pop(largest)} bytes are too many; {limit} are allowed for all data of a task")
        del sendable[largest]
    return sendable


def _name_of(name: str) -> str:
    return "result" if name == "result" else f"data {name!r}"
