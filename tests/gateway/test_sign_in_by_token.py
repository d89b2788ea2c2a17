"""Connection tokens on the socket: sign-in, refresh, revocation, and the end of rights."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import jwt
import pytest
import redis

from jobpush.config import Config
from jobpush.processes.embedded import EmbeddedRedis
from jobpush.store import Store
from jobpush.store.directory import RedisDirectory
from jobpush.tokens import make_token

from .client import Client, data_of, events_of
from .conftest import Serve, Site
from .publishing import start
from .site import KEY, SECRET

CONFIG = Config(key=KEY, secret=SECRET)


def signed(secret: str = SECRET, **claims: object) -> str:
    """A token made elsewhere."""
    return jwt.encode({"sub": "42", **claims}, secret.encode().ljust(64, b"\0"), algorithm="HS256")


def sign_in(client: Client, text: str) -> list[dict[str, Any]]:
    """All messages up to the answer."""
    client.send("jobpush:signin", {"token": text})
    return client.receive_until(lambda message: message["event"].startswith("jobpush:signin_"))


def code_of(client: Client, text: str) -> str:
    """The code with which a token is refused."""
    answer = sign_in(client, text)[-1]
    assert answer["event"] == "jobpush:signin_error", answer
    return str(data_of(answer)["code"])


def has_subscribed(message: dict[str, Any]) -> bool:
    return message["event"] == "pusher_internal:subscription_succeeded"


def test_token_as_first_message_signs_in_and_delivers_snapshots(site: Site, store: Store) -> None:
    start(store, "42", "one")
    client = site.connect(client="jobpush")

    messages = sign_in(client, make_token(CONFIG, "42", ttl=60))
    rest = client.receive_until(lambda message: message["event"] == "jobpush:task")

    assert events_of(messages) == ["pusher:connection_established", "jobpush:signin_success"]
    assert data_of(messages[-1])["user_id"] == "42"
    assert data_of(messages[-1])["expires_at"] == pytest.approx(time.time() + 60, abs=30)
    assert rest[0]["channel"] == "#server-to-user-42"
    assert data_of(rest[-1])["task_id"] == "one"
    assert RedisDirectory(store).is_online("42")


def test_rights_of_a_token_end_at_its_exp_and_return_with_a_new_token(site: Site, store: Store) -> None:
    client = site.connect()
    sign_in(client, make_token(CONFIG, "42", ttl=2, channels=["private-team"]))
    client.receive_until(has_subscribed)
    client.subscribe("private-team")
    client.subscribe("news")

    (signed_out,) = client.receive_until(lambda message: message["event"] == "jobpush:signed_out")
    receipts = [store.trigger([name], "hello", {}) for name in ("#server-to-user-42", "private-team", "news")]

    assert data_of(signed_out) == {"reason": "token_expired"}
    assert client.receive()["channel"] == "news"
    assert receipts[1].connections == 0
    assert client.subscribe("private-team")[-1]["event"] == "pusher:subscription_error"
    assert sign_in(client, make_token(CONFIG, "43"))[-1]["event"] == "jobpush:signin_success"


@pytest.mark.parametrize("end", ["disconnect", "sign_out"])
def test_tokens_issued_before_are_refused_afterwards(site: Site, store: Store, end: str) -> None:
    client, other = site.connect(), site.connect()
    old = make_token(CONFIG, "42")
    without_iat = signed(exp=time.time() + 60)
    sign_in(client, old)
    client.receive_until(has_subscribed)

    getattr(RedisDirectory(store), end)("42")

    if end == "disconnect":
        assert client.wait_for_close() == 4009
    else:
        assert data_of(client.receive()) == {"reason": "signed_out"}
        assert code_of(client, old) == "token_revoked"
    assert code_of(other, old) == "token_revoked"
    assert code_of(other, without_iat) == "token_revoked"
    assert sign_in(other, make_token(CONFIG, "42"))[-1]["event"] == "jobpush:signin_success"
    assert sign_in(site.connect(), make_token(CONFIG, "43"))[-1]["event"] == "jobpush:signin_success"


def test_token_shows_the_task_of_another_user(site: Site, store: Store) -> None:
    start(store, "7", "shared")
    start(store, "7", "private")
    client = site.connect()
    sign_in(client, make_token(CONFIG, "42", tasks=["shared"]))
    client.receive_until(has_subscribed)

    assert client.subscribe("private-task-shared")[-1]["event"] == "pusher_internal:subscription_succeeded"
    assert data_of(client.receive())["task_id"] == "shared"
    assert client.subscribe("private-task-private")[-1]["event"] == "pusher:subscription_error"


def test_refused_token_leaves_a_log_line_without_it(serve: Serve, tmp_path: Path) -> None:
    log = tmp_path / "log"
    site = serve(log=log)
    client, other = site.connect(), site.connect()
    tokens = {
        "token_invalid": signed("x" * 32, exp=time.time() + 60),
        "token_expired": signed(exp=time.time() - 60),
        "token_not_yet_valid": signed(exp=time.time() + 600, nbf=time.time() + 300),
        "token_audience": signed(exp=time.time() + 60, aud="x"),
    }

    codes = [code_of(client, text) for text in tokens.values()]
    sign_in(client, make_token(CONFIG, "42"))
    codes.append(code_of(client, make_token(CONFIG, "43")))
    client.send("pusher:ping")
    client.receive_until(lambda message: message["event"] == "pusher:pong")
    other.send("pusher:ping")
    other.receive_until(lambda message: message["event"] == "pusher:pong")

    assert codes == [*tokens, "token_other_user"]
    text = log.read_text()
    assert all(f"token refused with {code}" in text for code in tokens)
    assert not any(token.split(".")[1] in text for token in tokens.values())


def test_sign_in_waits_for_redis(site: Site, redis_server: EmbeddedRedis, store: Store) -> None:
    client = site.connect()
    client.receive()
    with redis.Redis.from_url(redis_server.url) as admin:
        admin.client_kill_filter(_type="normal", skipme=True)
    client.send("jobpush:signin", {"token": make_token(CONFIG, "42")})
    client.send("pusher:subscribe", {"channel": "private-user-42"})

    messages = client.receive_until(lambda message: message.get("channel") == "private-user-42")

    assert events_of(messages)[0] == "jobpush:signin_success"
    assert has_subscribed(messages[-1])
