"""The vocabulary: amounts, percent, errors, and the forms on the wire."""

from __future__ import annotations

import json
import math
from datetime import date, datetime, time, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kombu.utils import json as kombu_json

from jobpush.errors import EventError, InvalidData
from jobpush.events import (
    CodedText,
    TaskEvent,
    TaskState,
    bounded_amounts,
    encode,
    encode_twice,
    error_text,
    percent_of,
)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


def test_percent_without_a_total_is_null() -> None:
    assert percent_of(5, None, TaskState.PROGRESS) is None


def test_success_is_always_a_hundred_percent() -> None:
    assert percent_of(1, 3, TaskState.SUCCESS) == 100.0
    assert percent_of(0, None, TaskState.SUCCESS) == 100.0


def test_percent_has_two_decimals() -> None:
    assert percent_of(1, 3, TaskState.PROGRESS) == 33.33


@pytest.mark.parametrize(
    ("current", "total", "bounded"),
    [
        (5, 10, (5, 10)),
        (11, 10, (10, 10)),
        (-1, 10, (0, 10)),
        (3, 0, (3, None)),
        (3, -7, (3, None)),
        (3, None, (3, None)),
    ],
)
def test_amounts_are_clamped_to_the_bar(
    current: float, total: float | None, bounded: tuple[float, float | None]
) -> None:
    assert bounded_amounts(current, total) == bounded


@pytest.mark.parametrize("amount", [math.nan, math.inf, -math.inf, "7", True, [], object()])
def test_invalid_amount_is_refused(amount: object) -> None:
    with pytest.raises(EventError, match="finite number"):
        bounded_amounts(amount, 10)  # type: ignore[arg-type]
    with pytest.raises(EventError, match="finite number"):
        bounded_amounts(1, amount)  # type: ignore[arg-type]


def test_error_text_is_its_first_line() -> None:
    assert error_text(ValueError("disk full\n  at /srv/secret.py")) == "disk full"


def test_error_without_text_uses_its_type() -> None:
    assert error_text(KeyboardInterrupt()) == "KeyboardInterrupt"


def test_long_error_is_cut_at_200_characters() -> None:
    text = error_text(ValueError("x" * 1000))

    assert len(text) == 200
    assert text.endswith("…")


def test_message_for_the_user_is_preferred() -> None:
    class NoVideo(Exception):
        user_message = "This file is no video."

    assert error_text(NoVideo("moov atom not found")) == "This file is no video."


@given(st.text(), st.dictionaries(st.text(), json_values))
def test_event_survives_a_round_trip_over_the_wire(title: str, data: dict[str, object]) -> None:
    event = TaskEvent("t", TaskState.PROGRESS, title=title, current=1, total=2.5, data=data, seq=3, at=4.5)

    assert TaskEvent.from_wire(json.loads(json.dumps(event.to_wire()))) == event


@given(st.text(), st.dictionaries(st.text(), json_values))
def test_stable_json_completed_by_the_script_is_the_event(title: str, data: dict[str, object]) -> None:
    event = TaskEvent("t", TaskState.STARTED, title=title, data=data, seq=7, at=1.5)

    head = '\\"seq\\":7,\\"state\\":\\"STARTED\\",\\"at\\":1.5,\\"attempt\\":1,'
    frame = f'{{"data":"{{{head}{event.volatile_json()},{event.stable_json()}}}"}}'

    assert json.loads(json.loads(frame.encode())["data"]) == json.loads(json.dumps(event.to_wire()))


@pytest.mark.parametrize("data", [{"x": math.nan}, {"x": object()}, {"x": {1, 2}}])
def test_data_without_a_json_form_is_refused(data: dict[str, object]) -> None:
    with pytest.raises(InvalidData):
        TaskEvent("t", TaskState.PROGRESS, data=data).stable_json()


def test_text_data_is_encoded_once_and_other_data_twice() -> None:
    assert encode_twice('{"a":1}') == encode_twice({"a": 1}) == '{\\"a\\":1}'


@pytest.mark.parametrize(
    "wire",
    [
        None,
        [],
        {},
        {"task_id": "t"},
        {"task_id": "t", "state": "DONE"},
        {"state": "STARTED"},
        {"task_id": 7, "state": "STARTED"},
        {"task_id": "t", "state": "STARTED", "current": "much"},
        {"task_id": "t", "state": "STARTED", "current": True},
        {"task_id": "t", "state": "STARTED", "cancelling": 1},
        {"task_id": "t", "state": "STARTED", "data": []},
    ],
)
def test_invalid_event_is_refused_by_the_reader(wire: object) -> None:
    with pytest.raises(EventError):
        TaskEvent.from_wire(wire)


def test_fields_of_a_later_version_are_ignored() -> None:
    event = TaskEvent.from_wire({"task_id": "t", "state": "STARTED", "colour": "red"})

    assert event == TaskEvent("t", TaskState.STARTED)


def test_states_of_an_attempt_are_ordered() -> None:
    order = ["PENDING", "RECEIVED", "STARTED", "PROGRESS", "RETRY", "LOST", "SUCCESS"]

    assert sorted(order, key=lambda name: TaskState(name).rank) == order
    assert [name for name in order if TaskState(name).is_final] == ["LOST", "SUCCESS"]


class Silent(Exception):
    """An exception of an application with a failing ``__str__``."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


def test_error_with_a_failing_str_uses_its_type() -> None:
    assert error_text(Silent()) == "Silent"


class WithJson:
    def __json__(self) -> dict[str, int]:
        return {"a": 1}


class Registered:
    """Of an application, which has taught kombu to serialize it."""


class NumpyScalar:
    dtype, shape = "int64", ()

    def item(self) -> int:
        return 7


kombu_json.register_type(Registered, "registered", lambda value: "plain", lambda text: text)


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (UUID(int=1), str(UUID(int=1))),
        (Decimal("0.10"), "0.10"),
        (datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc), "2026-01-02T03:04:05+00:00"),
        (date(2026, 1, 2), "2026-01-02"),
        (time(3, 4), "03:04:00"),
        (b"text", "text"),
        (b"\xff\x00", "/wA="),
        (WithJson(), {"a": 1}),
        (Registered(), "plain"),
        (NumpyScalar(), 7),
        ({"nested": [Decimal("1")]}, {"nested": ["1"]}),
        ((1, 2), [1, 2]),
    ],
)
def test_values_of_the_celery_serializer_have_a_json_form(value: Any, plain: Any) -> None:
    assert json.loads(encode(value)) == plain
    assert json.loads(json.loads(f'"{encode_twice({"x": value})}"')) == {"x": plain}


@pytest.mark.parametrize("value", [object(), {1, 2}, math.nan, math.inf, 1j, {(1, 2): 3}, Registered])
def test_other_values_are_refused(value: Any) -> None:
    with pytest.raises(InvalidData):
        encode({"x": value})


def test_a_text_of_jobpush_carries_its_code_and_one_of_the_application_none() -> None:
    message, error = CodedText("No worker for q", "no_worker:q"), CodedText("Too late", "expired")
    event = TaskEvent("t", TaskState.REVOKED, message=message, error=error)

    wire = json.loads(encode(event.to_wire()))

    assert (wire["message"], wire["message_code"]) == ("No worker for q", "no_worker:q")
    assert (wire["error"], wire["error_code"]) == ("Too late", "expired")
    assert TaskEvent.from_wire(wire) == event
    members = json.loads(json.loads(f'"{{{event.volatile_json()},{event.stable_json()}}}"'))
    assert (members["message_code"], members["error_code"]) == ("no_worker:q", "expired")
    assert (
        not {"message_code", "error_code"} & TaskEvent("t", TaskState.FAILURE, error="x", message="y").to_wire().keys()
    )


def test_an_error_may_have_a_coded_text() -> None:
    assert getattr(error_text(Exception(CodedText("Too late", "expired"))), "code", None) == "expired"
