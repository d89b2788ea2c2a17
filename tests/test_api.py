"""Notifications, questions and signatures: what an application calls itself."""

from __future__ import annotations

import json
import textwrap
from typing import Any

import pytest
import redis
from django.utils.functional import SimpleLazyObject

from jobpush import (
    ConfigurationError,
    EventError,
    InvalidChannelName,
    InvalidData,
    InvalidEventName,
    InvalidUserId,
    JobPush,
    MissingSetting,
    StoreError,
    TaskNotFound,
)
from jobpush.channels import Topic, user_topic
from jobpush.events import TaskEvent, TaskState
from jobpush.store import Membership, Store, TaskWrite, WorkflowPlan
from jobpush.store.directory import ChannelInfo
from jobpush.store.keys import Keys
from jobpush.store.task_logs import LogEntry
from jobpush.testing import PATIENCE
from tests.store.gateways import Gateway

#: The example of Pusher's documentation, "Auth signatures".
KEY, SECRET = "278d425bdf160c739803", "7ad3773142a6692b25b8"


@pytest.fixture
def jobpush(redis_url: str) -> JobPush:
    return JobPush(redis_url=redis_url, key=KEY, secret=SECRET, publish_timeout=PATIENCE)


def test_notify_reaches_each_user_once(jobpush: JobPush, redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        receipt = jobpush.notify(["42", 7, "42"], "greeting", {"text": "hello"})

        assert set(receipt.ids) == {"#server-to-user-42", "#server-to-user-7"}
        assert receipt.connections == 0
        ((_, entry),) = client.xrange(Keys("jobpush").stream(user_topic("42")))
        assert b'"event":"greeting"' in entry[b"m"]


def test_trigger_excludes_the_given_socket(jobpush: JobPush, redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        jobpush.trigger("news", "headline", "text", exclude="1.2")

        ((_, entry),) = client.xrange(Keys("jobpush").stream(Topic("channel:news")))
        assert entry[b"h"].split(b" ")[3] == b"1.2"


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda jobpush: jobpush.notify("", "event"), InvalidUserId),
        (lambda jobpush: jobpush.notify({"id": "42"}, "event"), InvalidUserId),
        (lambda jobpush: jobpush.notify(SimpleLazyObject(object), "event"), InvalidUserId),
        (lambda jobpush: jobpush.notify("42", "pusher:event"), InvalidEventName),
        (lambda jobpush: jobpush.notify("42", ""), InvalidEventName),
        (lambda jobpush: jobpush.notify("42", "event", object()), InvalidData),
        (lambda jobpush: jobpush.notify("42", "event", "x" * 10_241), InvalidData),
        (lambda jobpush: jobpush.trigger("no spaces", "event"), InvalidChannelName),
        (lambda jobpush: jobpush.trigger(["fine", "no/slash"], "event"), InvalidChannelName),
        (lambda jobpush: jobpush.trigger("news", "event", exclude="1.2\n"), EventError),
        (lambda jobpush: jobpush.cancel("nobody knows"), TaskNotFound),
        (lambda jobpush: jobpush.is_online(""), InvalidUserId),
        (lambda jobpush: jobpush.disconnect(None), InvalidUserId),
        (lambda jobpush: jobpush.users_in("no spaces"), InvalidChannelName),
    ],
)
def test_invalid_trigger_is_refused_with_the_reason(jobpush: JobPush, call: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        call(jobpush)


def test_presence_questions_cover_all_gateways(jobpush: JobPush, store: Store) -> None:
    gateways = [Gateway(store) for _ in range(2)]
    for gateway in gateways:
        gateway.run(gateway.presence.occupy(user_topic("a:b"), 2))
        gateway.occupy("presence-room", 1)
    gateways[0].join("presence-room", "=u=a=3Ab")
    gateways[1].join("presence-room", "7")
    gateways[1].occupy("news", 3)

    assert (jobpush.is_online("a:b"), jobpush.is_online(7)) == (True, False)
    assert list(jobpush.online_users()) == ["a:b"]
    assert sorted(jobpush.users_in("presence-room")) == ["7", "a:b"]
    assert jobpush.users_in("news") == []
    assert jobpush.channels() == {"news": ChannelInfo(3, 0), "presence-room": ChannelInfo(2, 2)}
    assert list(jobpush.channels(prefix="presence-")) == ["presence-room"]


def test_disconnect_sends_its_command_to_the_gateways_of_the_user_only(jobpush: JobPush, store: Store) -> None:
    gateway = Gateway(store)
    gateway.run(gateway.presence.occupy(user_topic("42"), 3))

    with redis.Redis.from_url(store.config.redis_url) as client, client.pubsub() as pubsub:
        pubsub.subscribe(*(Keys("jobpush").topic(user_topic(user)) for user in ("42", "7")))
        for _ in range(2):
            pubsub.get_message(timeout=5)

        counts = jobpush.disconnect("42"), jobpush.disconnect(7)
        commands = [pubsub.get_message(timeout=5)["data"] for _ in range(2)]

    assert counts == (3, 0)
    assert [json.loads(command.partition(b"\n")[2])["user"] for command in commands] == ["42", "7"]


def test_user_without_tasks_has_an_empty_list(jobpush: JobPush) -> None:
    assert jobpush.tasks("42") == []


def test_kept_notification_is_in_the_inbox_of_each_user_once(jobpush: JobPush, store: Store) -> None:
    jobpush.notify(["42", 7, "42"], "order", {"n": 1}, keep=True, title="Order " + "x" * 300, url="/orders/1")
    jobpush.notify("42", "greeting", "not kept")

    for user in ("42", "7"):
        (item,) = store.inbox(user)
        assert (item.event, item.data, item.url, item.read) == ("order", {"n": 1}, "/orders/1", False)
        assert len(item.title) == 200


@pytest.mark.parametrize(
    "options",
    [
        {"keep": True, "url": "javascript:alert(1)"},
        {"keep": True, "url": " javascript:alert(1)"},
        {"keep": True, "url": "data:text/html,x"},
        {"keep": True, "url": "/a\\nb"},
        {"keep": True, "url": 7},
        {"title": "without keep"},
        {"url": "/without/keep"},
    ],
)
def test_inbox_refuses_an_unsafe_link(jobpush: JobPush, store: Store, options: dict[str, Any]) -> None:
    with pytest.raises(EventError):
        jobpush.notify("42", "order", **options)
    assert store.inbox("42") == []


def test_erasing_a_user_removes_all_tasks_logs_and_history(jobpush: JobPush, store: Store) -> None:
    membership = Membership("0:1", is_planned=True)
    for user in ("42", "7"):
        writes = [
            TaskWrite(user, TaskEvent(f"task-{user}", TaskState.STARTED, name="encode"), pinned=True),
            TaskWrite(user, TaskEvent(f"flow-{user}", TaskState.PENDING), pinned=True, plan=WorkflowPlan(1, 1.0)),
            TaskWrite(
                user, TaskEvent(f"part-{user}", TaskState.STARTED, root_id=f"flow-{user}"), membership=membership
            ),
        ]
        store.publish(writes)
        store.append_log(user, f"task-{user}", [LogEntry("a line of text", "info", 1.0)])
        jobpush.notify(user, "greeting", "hello")

    erased = jobpush.erase("42")

    assert erased == 3
    assert jobpush.tasks("42") == []
    with redis.Redis.from_url(store.config.redis_url) as client:
        names = {key.decode() for key in client.scan_iter("*")}
    of_user = {name for name in names if name.endswith("-42") or "user:42" in name or "-42:" in name}
    assert {name.rpartition(":")[2] for name in of_user} <= {"revoked", "floor"}  # neither is about the user
    assert {task.task_id for task in jobpush.tasks("7")} == {"task-7", "flow-7"}
    assert store.task_log("task-7").entries
    assert jobpush.erase("42") == 0


def test_unreachable_redis_raises_for_queries() -> None:
    with pytest.raises(StoreError):
        JobPush(redis_url="unix:///nowhere/redis.sock").notify("42", "event")


def test_channel_authorization_matches_the_pusher_documentation(jobpush: JobPush) -> None:
    assert jobpush.authorize_channel("1234.1234", "private-foobar") == {
        "auth": f"{KEY}:58df8b0c36d6982b82c3ecf6b4662e34fe8c25bba48f5369f135bf843651c3a4"
    }


def test_presence_channel_is_authorized_with_its_member(jobpush: JobPush) -> None:
    answer = jobpush.authorize_channel("1.2", "presence-room", {"user_id": 10, "user_info": {"name": "Ada"}})

    assert json.loads(answer["channel_data"]) == {"user_id": "10", "user_info": {"name": "Ada"}}
    assert answer["auth"].startswith(f"{KEY}:")


def test_user_is_authenticated_under_its_escaped_id(jobpush: JobPush) -> None:
    answer = jobpush.authenticate_user("1.2", {"id": "a:b", "name": "Ada"})

    assert json.loads(answer["user_data"]) == {"id": "=u=a=3Ab", "name": "Ada", "escaped": True}
    assert answer["auth"].startswith(f"{KEY}:")


def test_watchlist_has_escaped_ids(jobpush: JobPush) -> None:
    answer = jobpush.authenticate_user("1.2", {"id": 42, "watchlist": [7, "a:b"]})

    assert json.loads(answer["user_data"]) == {"id": "42", "watchlist": ["7", "=u=a=3Ab"], "escaped": True}


@pytest.mark.parametrize("socket_id", ["", "1", "1.2.3", "a.b", "1.2\n", "1.2:private-x", "١.٢", None, 1.2])
def test_invalid_socket_id_is_never_signed(jobpush: JobPush, socket_id: Any) -> None:
    with pytest.raises(EventError, match="socket_id looks like"):
        jobpush.authorize_channel(socket_id, "private-foobar")
    with pytest.raises(EventError, match="socket_id looks like"):
        jobpush.authenticate_user(socket_id, {"id": "42"})


@pytest.mark.parametrize(
    "user_data", [{}, {"id": None}, {"id": ""}, {"id": True}, {"id": "x" * 129}, {"id": "1", "watchlist": [""]}]
)
def test_user_without_an_id_is_never_signed(jobpush: JobPush, user_data: dict[str, Any]) -> None:
    with pytest.raises(InvalidUserId):
        jobpush.authenticate_user("1.2", user_data)


def test_presence_without_a_user_is_never_signed(jobpush: JobPush) -> None:
    with pytest.raises(InvalidUserId):
        jobpush.authorize_channel("1.2", "presence-room")


def test_nothing_is_signed_without_a_secret(redis_url: str) -> None:
    with pytest.raises(MissingSetting, match="JOBPUSH_SECRET"):
        JobPush(redis_url=redis_url, key=KEY).authorize_channel("1.2", "private-foobar")


def test_unknown_setting_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="redis_uri"):
        JobPush(redis_uri="redis://localhost")


def test_example_of_the_docstring_runs(redis_url: str) -> None:
    _, _, block = (JobPush.__doc__ or "").partition("Example::\n")
    broker_url = redis_url.replace("unix://", "redis+socket://").replace("?db=", "?virtual_host=")
    names: dict[str, Any] = {"__name__": "example"}

    exec(textwrap.dedent(block).replace("redis://localhost", broker_url), names)  # noqa: S102 - it is ours

    assert [event.title for event in names["jobpush"].tasks("42")] == ["Encode cat.mov"]
    names["celery_app"].close()
