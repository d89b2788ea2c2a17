"""Names of channels and topics, and the ids inside them."""

import enum
import uuid
from decimal import Decimal

import pytest
from django.utils.functional import SimpleLazyObject
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.local import LocalProxy

from jobpush import channels
from jobpush.errors import InvalidChannelName, InvalidEventName, InvalidUserId


@pytest.mark.parametrize("plain", ["42", "a-b_c=d@e,f.g;h", "d1c2-44"])
def test_ids_within_the_pusher_alphabet_are_not_escaped(plain) -> None:
    assert channels.escape_id(plain) == plain
    assert channels.unescape_id(plain) == plain


@pytest.mark.parametrize(
    ("text", "escaped"),
    [("a:b", "=u=a=3Ab"), ("ü", "=u==C3=BC"), ("", "=u="), ("=u=x", "=u==3Du=3Dx"), ("a#b c", "=u=a=23b=20c")],
)
def test_other_ids_are_escaped_as_hexadecimal_bytes(text, escaped) -> None:
    assert channels.escape_id(text) == escaped
    assert channels.unescape_id(escaped) == text


@given(st.text())
def test_every_id_is_restored_from_its_escaped_form(text) -> None:
    escaped = channels.escape_id(text)

    assert channels.unescape_id(escaped) == text
    if text and len(escaped) <= 180:
        assert channels.validate_channel(channels.SERVER_TO_USER + escaped)


@given(st.text(), st.text())
def test_escaped_ids_are_unique(one, other) -> None:
    assert (channels.escape_id(one) == channels.escape_id(other)) is (one == other)


@pytest.mark.parametrize("odd", ["=u==ZZ", "=u==C3"])
def test_id_that_only_looks_escaped_is_a_separate_id(odd) -> None:
    assert channels.unescape_id(odd) == odd


@pytest.mark.parametrize("user_id", ["", None, True, 1.5, [], "x" * 129, "é" * 30])
def test_invalid_user_ids_are_refused(user_id) -> None:
    with pytest.raises(InvalidUserId):
        channels.escape_user_id(user_id)


def test_channels_of_users_and_tasks() -> None:
    assert channels.user_channel(42) == "#server-to-user-42"
    assert channels.task_channel("d1:c2") == "private-task-=u=d1=3Ac2"


@pytest.mark.parametrize(
    ("channel", "topic"),
    [
        ("#server-to-user-42", "user:42"),
        ("private-user-42", "user:42"),
        ("private-task-d1c2", None),
        ("private-users", "channel:private-users"),
        ("news", "channel:news"),
    ],
)
def test_both_channels_of_a_user_share_one_topic(channel, topic) -> None:
    assert channels.parse_channel(channel).topic == topic


@pytest.mark.parametrize("channel", ["a", "presence-chat", "a" * 200, "-_=@,.;", "#server-to-user-42"])
def test_pusher_channel_names_are_valid(channel) -> None:
    assert channels.validate_channel(channel) == channel


@pytest.mark.parametrize(
    "channel",
    [
        "",
        "a" * 201,
        "a b",
        "a/b",
        "ü",
        "٣",
        "a\n",
        "#a",
        "#server-to-user-",
        "#private-a",
        "a#server-to-user-1",
        None,
        5,
    ],
)
def test_other_channel_names_are_refused(channel) -> None:
    with pytest.raises(InvalidChannelName):
        channels.validate_channel(channel)


@pytest.mark.parametrize("event", ["a", "client-typing", "jobpush:task", "App\\Events\\Sent", "e" * 200, "pusher-x"])
def test_pusher_event_names_are_valid(event) -> None:
    assert channels.validate_event(event) == event


@pytest.mark.parametrize("event", ["", None, 5, "e" * 201, "pusher:error", "pusher_internal:member_added"])
def test_other_event_names_are_refused(event) -> None:
    with pytest.raises(InvalidEventName):
        channels.validate_event(event)


@pytest.mark.parametrize(
    ("channel", "private", "presence", "encrypted", "cache"),
    [
        ("news", False, False, False, False),
        ("privateer", False, False, False, False),
        ("private-a", True, False, False, False),
        ("presence-a", True, True, False, False),
        ("private-encrypted-a", True, False, True, False),
        ("cache-a", False, False, False, True),
        ("private-cache-a", True, False, False, True),
        ("private-encrypted-cache-a", True, False, True, True),
        ("presence-cache-a", True, True, False, True),
        ("cached", False, False, False, False),
    ],
)
def test_kinds_of_channels(channel, private, presence, encrypted, cache) -> None:
    kind = channels.parse_channel(channel)

    found = (kind.is_private, kind.is_presence, kind.is_encrypted, kind.is_cache)
    assert found == (private, presence, encrypted, cache)


@pytest.mark.parametrize("name", ["=u=a=4", "=u=42", "=u==zz", "=u==c3=a9", "=u==FF"])
def test_id_that_escape_id_never_writes_is_a_separate_id(name: str) -> None:
    assert channels.unescape_id(name) == name


UUID = uuid.UUID("9c8fb6ab-62ab-4a3c-a7d2-0a8a1e0a5a01")


class Loud(str):
    def __str__(self) -> str:
        return self.upper()


class Role(str, enum.Enum):
    ADMIN = "admin"


class Number(enum.IntEnum):
    SEVEN = 7


class NumpyInteger:
    """As numpy's: no ``int``, but an index."""

    def __index__(self) -> int:
        return 42


class bool_:  # noqa: N801 - as numpy's
    def __index__(self) -> int:
        return 1


class Promise:
    """As the base of Django's lazy texts."""


class LazyText(Promise):
    def __str__(self) -> str:
        return "lazy"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("42", "42"),
        (42, "42"),
        (-1, "-1"),
        (UUID, str(UUID)),
        (Loud("a"), "a"),
        (Role.ADMIN, "admin"),
        (Number.SEVEN, "7"),
        (NumpyInteger(), "42"),
        (Decimal("42"), "42"),
        (Decimal("4.2E+1"), "42"),
        (LazyText(), "lazy"),
        (LocalProxy(lambda: "42"), "42"),
        (LocalProxy(lambda: 42), "42"),
        (LocalProxy(lambda: UUID), str(UUID)),
        (SimpleLazyObject(lambda: Decimal("42")), "42"),
    ],
)
def test_every_kind_of_id_is_converted_to_its_text(value, text) -> None:
    assert channels.id_text(value) == text
    assert channels.checked_user_id(value) == text
    assert type(channels.checked_user_id(value)) is str
    assert channels.user_channel(value) == f"#server-to-user-{text}"


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        bool_(),
        1.5,
        1.0,
        Decimal("4.2"),
        Decimal("NaN"),
        Decimal("Infinity"),
        b"42",
        [],
        ("42",),
        {"id": 1},
        object(),
        pytest.param(10**5_000, id="huge"),
        LocalProxy(lambda: True),
        LocalProxy(list),
    ],
)
def test_invalid_id_is_refused_with_a_code(value) -> None:
    assert channels.id_text(value) is None
    with pytest.raises(InvalidUserId) as refusal:
        channels.checked_user_id(value)
    assert refusal.value.code == "invalid_user_id"
