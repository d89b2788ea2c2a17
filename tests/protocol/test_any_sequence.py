"""Whatever a client sends, in whatever order: nothing is raised, and no subscription leaks."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from jobpush import signing
from jobpush.protocol.actions import Send, UserData

from .conftest import KEY, SECRET, SOCKET_ID, Shell

CHANNELS = [
    "news",
    "cache-a",
    "private-a",
    "private-encrypted-cache-a",
    "presence-a",
    "presence-cache-b",
    "private-user-42",
    "private-task-mine",
    "private-task-theirs",
    "#server-to-user-42",
    "#server-to-user-43",
    "#odd",
    "a b",
    "",
]
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(CHANNELS),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.sampled_from(["channel", "auth", "channel_data", "user_data", "since", "id"]), inner)
        | st.dictionaries(st.text(), inner)
    ),
    max_leaves=8,
)
channels = st.sampled_from(CHANNELS)
user_ids = st.sampled_from(["42", "43", "", "a:b"]) | json_values


@st.composite
def subscriptions(draw: st.DrawFn) -> str:
    channel = draw(channels)
    channel_data = draw(
        st.none() | st.builds(lambda user_id: json.dumps({"user_id": user_id}), user_ids) | st.text(max_size=5)
    )
    request = {
        "channel": channel,
        "channel_data": channel_data,
        "since": draw(st.none() | st.just("5-0") | json_values),
    }
    try:
        right = signing.channel_auth(KEY, SECRET, SOCKET_ID, channel, channel_data or None)
    except UnicodeEncodeError:
        right = "half of a surrogate pair has no signature"
    request["auth"] = draw(st.just(right) | st.none() | json_values)
    return json.dumps({"event": "pusher:subscribe", "data": draw(st.sampled_from([request, json.dumps(request)]))})


@st.composite
def sign_ins(draw: st.DrawFn) -> str:
    user_data = json.dumps({"id": draw(user_ids), "user_info": draw(json_values), "watchlist": draw(json_values)})
    request = {"auth": signing.user_auth(KEY, SECRET, SOCKET_ID, user_data), "user_data": user_data}
    return json.dumps({"event": "pusher:signin", "data": request})


unsubscriptions = st.builds(
    lambda channel: json.dumps({"event": "pusher:unsubscribe", "data": {"channel": channel}}), channels
)
client_events = st.builds(
    lambda channel, data: json.dumps({"event": "client-a", "channel": channel, "data": data}), channels, json_values
)
events = st.sampled_from(["pusher:subscribe", "pusher:unsubscribe", "pusher:signin", "pusher:ping", "client-a", "x"])
anything = st.builds(
    lambda event, data, channel: json.dumps({"event": event, "data": data, "channel": channel}),
    events | json_values,
    json_values,
    json_values,
)
texts = (
    subscriptions() | sign_ins() | unsubscriptions | client_events | anything | st.text() | json_values.map(json.dumps)
)
steps = st.lists(texts | st.floats(0, 200), max_size=30)


def assert_balanced(shell: Shell) -> None:
    """What the shell has joined and not left is what the protocol believes, and nothing else."""
    assert set(shell.protocol.channels) == shell.channels
    assert len(shell.protocol._subscriptions) == len(shell.channels), "no join is under way for ever"


@given(steps, st.booleans(), st.booleans())
def test_any_sequence_of_messages_neither_raises_nor_leaks(
    steps: list[str | float], has_session: bool, is_our_client: bool
) -> None:
    shell = Shell(max_channels=5, max_watchlist=2)
    shell.tasks = {"private-task-mine"}
    shell.open(user=UserData("42") if has_session else None, announce_user=is_our_client)

    for step in steps:
        if isinstance(step, str):
            shell.send_text(step)
        else:
            shell.pass_time(step)
        assert_balanced(shell)

    for channel in list(shell.channels):
        shell.send("pusher:unsubscribe", {"channel": channel})
    if shell.close is None:
        assert shell.channels == set()
        assert_balanced(shell)


@given(st.lists(texts, max_size=10))
def test_sequence_gets_the_same_replies_on_every_connection(texts: list[str]) -> None:
    one, other = Shell().open(), Shell().open()

    assert [one.send_text(text) for text in texts] == [other.send_text(text) for text in texts]


@given(texts)
def test_every_message_to_a_client_is_json_with_an_event(text: str) -> None:
    shell = Shell().open()

    for action in shell.protocol.receive(text, 0.0):
        if isinstance(action, Send):
            assert isinstance(json.loads(action.text.decode())["event"], str)
