"""
Task events: their fields, and their form on the wire.

Every task event is a whole snapshot of its task, so a reader may miss any of them but the newest.
"""

from __future__ import annotations

import base64
import json
import math
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any
from uuid import UUID

from .errors import EventError, InvalidData
from .lifecycle import TaskState as TaskState

#: Wire names of our own events.
TASK_EVENT = "jobpush:task"
LOG_EVENT = "jobpush:log"
#: Event of an inbox item that is the end of a task.
END_EVENT = "jobpush:end"
RESYNC_EVENT = "jobpush:resync"

#: Characters of a link.
MAX_URL_LENGTH = 2_048

#: Characters of an error that a user is shown.
MAX_ERROR_LENGTH = 200

#: Colours and other control sequences of terminals.
_SEQUENCES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")
#: Control characters, and the two that reorder all text after them.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202d\u202e]")


class CodedText(str):
    """
    A text for users with a stable ``code``, by which clients find the text in another language.

    A value that belongs in the text follows the code: ``no_worker:queue``.
    """

    code: str

    def __new__(cls, text: str, code: str = "") -> CodedText:
        self = super().__new__(cls, text)
        self.code = code
        return self

    def __str__(self) -> str:
        return self  # with its code


@dataclass(frozen=True, slots=True)
class TaskEvent:
    """
    A snapshot of one task. Times are Unix seconds, ``rate`` is units per second, ``eta`` seconds.

    ``seq`` is given by the store: 1 for the first event of a task, then one more each time; 0 is "not stored yet".
    ``run_at`` is when a waiting task will run: the next attempt of a RETRY, the ETA or countdown of PENDING and
    RECEIVED; ``None``: as soon as a worker is free. ``max_attempts`` is the number of allowed attempts; ``None``: no
    limit, or not known. ``ahead`` is the number of messages before a PENDING task in its queue at the last count;
    ``None``: unknown, as with most brokers, or too many to count. ``message_code`` and ``error_code`` are codes of
    texts that jobpush itself has written, for translation; empty for those of the application.
    """

    task_id: str
    state: TaskState
    name: str = ""
    title: str = ""
    current: float = 0
    total: float | None = None
    percent: float | None = None
    message: str = ""
    rate: float | None = None
    eta: float | None = None
    attempt: int = 1
    max_attempts: int | None = None
    run_at: float | None = None
    ahead: int | None = None
    created_at: float = 0.0
    started_at: float | None = None
    at: float = 0.0
    root_id: str | None = None
    parent_id: str | None = None
    group_id: str | None = None
    error: str | None = None
    data: Mapping[str, Any] = field(default_factory=dict)
    seq: int = 0
    cancelling: bool = False
    message_code: str = ""
    error_code: str = ""

    def __post_init__(self) -> None:
        for name in ("message", "error"):
            if isinstance(text := getattr(self, name), CodedText):
                object.__setattr__(self, f"{name}_code", text.code)

    def to_wire(self) -> dict[str, Any]:
        """What ``jobpush:task`` carries as its data: every field by its name; ``cancelling`` and codes only if set."""
        wire: dict[str, Any] = {"seq": self.seq, "state": self.state.value, "at": self.at, "attempt": self.attempt}
        wire.update(self._volatile())
        wire.update(self._stable())
        if self.cancelling:
            wire["cancelling"] = True
        return wire

    def stable_json(self) -> str:
        """
        Return the fields that the publish script appends to ``{"seq":…,"state":…,"at":…,"attempt":…`` and
        :meth:`volatile_json`, encoded twice.

        The script sets the first four itself, because it assigns ``seq`` and ``attempt``. It stores this text, so that
        it can build the event of a cancelled or lost task without parsing anything.

        Returns:
            JSON members without braces, escaped as the inside of a JSON string.

        Raises:
            InvalidData: If ``data`` has no JSON form (NaN and infinity have none).
        """
        return encode_twice(self._stable())[1:-1]

    def volatile_json(self) -> str:
        """Return the fields that hold only in this state, in the form of :meth:`stable_json`."""
        return encode_twice(self._volatile())[1:-1]

    @classmethod
    def from_wire(cls, wire: object) -> TaskEvent:
        """
        Read an event from an untrusted source: known fields are checked, unknown ones are dropped.

        Raises:
            EventError: If a member is missing or has another type than in :class:`TaskEvent`.
        """
        if not isinstance(wire, Mapping):
            raise EventError(f"a task event must be a JSON object, not {type(wire).__name__}")
        try:
            state = TaskState(wire.get("state"))
        except ValueError:
            raise EventError(f"{wire.get('state')!r} is not a state of a task") from None
        values = {name: wire[name] for name in _MEMBERS if name in wire}
        if "task_id" not in values:
            raise EventError("a task event must have a task_id")
        for name, value in values.items():
            if isinstance(value, bool) is not (name == "cancelling") or not isinstance(value, _MEMBERS[name]):
                raise EventError(f"{name} of a task event can't be {value!r}")
        return cls(state=state, **values)

    def _volatile(self) -> dict[str, Any]:
        wire = {"rate": self.rate, "eta": self.eta, "run_at": self.run_at, "ahead": self.ahead, "error": self.error}
        return wire | {"error_code": self.error_code} if self.error and self.error_code else wire

    def _stable(self) -> dict[str, Any]:
        code = {"message_code": self.message_code} if self.message_code and self.message else {}
        return {
            "task_id": self.task_id,
            "name": self.name,
            "title": self.title,
            "current": self.current,
            "total": self.total,
            "percent": self.percent,
            "message": self.message,
            **code,
            "max_attempts": self.max_attempts,
            "created_at": self.created_at,
            "started_at": self.started_at,
            "root_id": self.root_id,
            "parent_id": self.parent_id,
            "group_id": self.group_id,
            "data": self.data,
        }


#: The types that a field may have on the wire, by its annotation.
_TYPES: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "str | None": (str, type(None)),
    "int": (int,),
    "int | None": (int, type(None)),
    "float": (int, float),
    "float | None": (int, float, type(None)),
    "bool": (bool,),
    "Mapping[str, Any]": (Mapping,),
}
_MEMBERS = {item.name: _TYPES[str(item.type)] for item in fields(TaskEvent) if item.name != "state"}


def percent_of(current: float, total: float | None, state: TaskState) -> float | None:
    """
    Return how much of a task is done, from 0 to 100 with two decimals; ``None`` if the total is unknown.

    SUCCESS is always 100.
    """
    if state is TaskState.SUCCESS:
        return 100.0
    if not total:
        return None
    return round(min(max(current / total, 0.0), 1.0) * 100, 2)


def bounded_amounts(current: float, total: float | None) -> tuple[float, float | None]:
    """
    Return amounts that make a valid bar.

    A total of 0 or less is unknown; ``current`` is kept within 0 and the total.

    Raises:
        EventError: If either is not a number, is NaN, or is infinite.
    """
    for amount in (current, total):
        if amount is None:
            continue
        if isinstance(amount, bool) or not isinstance(amount, (int, float)) or not math.isfinite(amount):
            raise EventError(f"{amount!r} is not an amount; give a finite number")
    if total is not None and total <= 0:
        total = None
    current = max(current, 0)
    return (current if total is None else min(current, total)), total


def shortened(text: str, limit: int) -> str:
    """Return ``text`` with at most ``limit`` characters; an ellipsis replaces the rest."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def readable(text: str) -> str:
    """
    Return text without terminal colours, and with escapes for what would hide or reorder it.

    That is control characters, overrides of the direction, and lone surrogates.
    """
    if text.isprintable():
        return text
    text = _CONTROLS.sub(_escaped, _SEQUENCES.sub("", text.replace("\r\n", "\n")))
    return text.encode("utf-8", "backslashreplace").decode()


def text_for_users(text: str, limit: int) -> str:
    """Return readable text of at most ``limit`` characters, whatever its length; one with a code stays as it is."""
    return text if isinstance(text, CodedText) else shortened(readable(text[: limit + 1]), limit)


def _escaped(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def is_safe_url(url: object) -> bool:
    """Return whether a link may have this target: a path, ``https://…`` or ``http://…``; or empty text, for no link."""
    if not isinstance(url, str) or len(url) > MAX_URL_LENGTH or not url.isprintable():
        return False
    if any(character in url for character in ' \\"<>'):
        return False
    return not url or url.lower().startswith(("https://", "http://", "/", "?", "#"))


def error_text(exc: BaseException) -> str:
    """
    Return the text that a user sees for an exception: its ``user_message``, or the first line of its own text.

    At most 200 characters, never a traceback; the name of its type if it has no text, or its ``__str__`` fails.
    """
    try:
        text = str(getattr(exc, "user_message", "") or exc)
    except Exception:  # an error in the application's ``__str__`` must not hide the original one
        text = ""
    if isinstance(text, CodedText):
        return text
    text = text.strip()
    line = text.splitlines()[0].strip() if text else type(exc).__name__
    return text_for_users(line, MAX_ERROR_LENGTH)


def _plain(value: Any) -> Any:
    """
    Return a value without a JSON form as Celery's own serializer writes it, without the name of its type.

    Source: ``kombu.utils.json``; types that are registered there count too.
    """
    if isinstance(value, (datetime, date, time)):
        return value.isoformat()
    if isinstance(value, (Decimal, UUID)):
        return str(value)
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return base64.b64encode(value).decode()
    if hasattr(value, "__json__"):
        return value.__json__()
    if hasattr(value, "dtype") and getattr(value, "shape", None) == ():  # a scalar of numpy
        return value.item()
    if any(kind.__module__ == "django.utils.functional" and kind.__name__ == "Promise" for kind in type(value).__mro__):
        return str(value)
    kombu = sys.modules.get("kombu.utils.json")  # if it is not loaded, no type is registered
    if kombu is None:
        raise TypeError(f"{type(value).__name__} has no JSON form")
    plain = kombu.JSONEncoder().default(value)
    return plain["__value__"] if isinstance(plain, dict) and plain.keys() == {"__type__", "__value__"} else plain


#: Created once: ``json.dumps`` would create one for each call.
_encoder = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_plain)
_ascii_encoder = json.JSONEncoder(allow_nan=False, separators=(",", ":"), default=_plain)


def encode(data: object) -> str:
    """
    Return JSON in its wire form: compact, UTF-8, without NaN.

    Raises:
        InvalidData: If ``data`` has no JSON form.
    """
    try:
        text = _encoder.encode(data)
        text.encode()  # a lone surrogate has no UTF-8 form
    except UnicodeEncodeError:
        return _ascii_encoder.encode(data)
    except (TypeError, ValueError, RecursionError) as exc:
        raise InvalidData(f"the data of an event must have a JSON form: {exc}") from exc
    return text


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is no number of JSON")
    return number


#: Created once, as the encoders are.
_decoder = json.JSONDecoder(parse_constant=_finite, parse_float=_finite)


def decode(text: str | bytes) -> Any:
    """
    Read JSON that :func:`encode` can write again.

    Raises:
        ValueError: If it is no JSON in UTF-8, or has numbers that JSON has no form for.
    """
    try:
        return _decoder.decode(text if isinstance(text, str) else text.decode())
    except RecursionError:
        raise ValueError("the JSON is nested too deeply") from None


def encode_twice(data: object) -> str:
    """
    Return the content of the JSON string that carries the data of an event in Pusher's protocol.

    Text is taken as it is, everything else is encoded first. Source: Pusher Channels protocol, "Double encoding".
    """
    return encode(data if isinstance(data, str) else encode(data))[1:-1]
