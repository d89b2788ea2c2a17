"""The signatures of the Pusher protocol, by the examples that its documentation prints."""

import hashlib
import json

import pytest

from jobpush import signing

# Pusher, "Auth signatures" and "HTTP API reference".
KEY, SECRET, SOCKET_ID = "278d425bdf160c739803", "7ad3773142a6692b25b8", "1234.1234"
CHANNEL_VECTORS = [
    ("private-foobar", None, "58df8b0c36d6982b82c3ecf6b4662e34fe8c25bba48f5369f135bf843651c3a4"),
    (
        "presence-foobar",
        '{"user_id":10,"user_info":{"name":"Mr. Channels"}}',
        "31935e7d86dba64c2a90aed31fdc61869f9b22ba9d8863bba239c03ca481bc80",
    ),
    (  # the same example in earlier editions, and in most SDKs' tests
        "presence-foobar",
        '{"user_id":10,"user_info":{"name":"Mr. Pusher"}}',
        "afaed3695da2ffd16931f457e338e6c9f2921fa133ce7dac49f529792be6304c",
    ),
]
USER_DATA = '{"id":"12345"}'
USER_SIGNATURE = "4708d583dada6a56435fb8bc611c77c359a31eebde13337c16ab43aa6de336ba"
HTTP_BODY = json.dumps(
    {"name": "foo", "channels": ["project-3"], "data": '{"some":"data"}'}, separators=(",", ":")
).encode()
HTTP_QUERY = {
    "auth_key": KEY,
    "auth_timestamp": "1353088179",
    "auth_version": "1.0",
    "body_md5": "ec365a775a4cd0599faeb73354201b6f",
}
HTTP_SIGNATURE = "da454824c97ba181a32ccc17a72625ba02771f50b50e1e7430e47a1f3f457e6c"


@pytest.mark.parametrize(("channel", "channel_data", "signature"), CHANNEL_VECTORS)
def test_channel_auth_is_the_documented_one(channel, channel_data, signature) -> None:
    assert signing.channel_auth(KEY, SECRET, SOCKET_ID, channel, channel_data) == f"{KEY}:{signature}"


def test_user_auth_is_the_documented_one() -> None:
    assert signing.user_auth(KEY, SECRET, SOCKET_ID, USER_DATA) == f"{KEY}:{USER_SIGNATURE}"


def test_http_signature_is_the_documented_one() -> None:
    text = signing.http_text("POST", "/apps/3/events", HTTP_QUERY)

    assert hashlib.md5(HTTP_BODY, usedforsecurity=False).hexdigest() == HTTP_QUERY["body_md5"]
    assert signing.sign(SECRET, text) == HTTP_SIGNATURE


def test_http_text_lowers_and_sorts_names_and_leaves_the_signature_out() -> None:
    query = {"Name": "Something else", "auth_key": "foo", "auth_signature": "ab"}

    assert signing.http_text("get", "/some/resource", query) == "GET\n/some/resource\nauth_key=foo&name=Something else"


def test_each_of_several_secrets_verifies() -> None:
    signature = signing.sign("old", "text")

    assert signing.verify(["new", "old"], "text", signature)
    assert not signing.verify(["new"], "text", signature)


@pytest.mark.parametrize(
    "auth", ["", ":", KEY, f"{KEY}:", f"other:{USER_SIGNATURE}", f"{KEY}:{USER_SIGNATURE[:-1]}", f"{KEY}:é\ud800"]
)
def test_altered_auth_is_refused(auth) -> None:
    text = signing.user_text(SOCKET_ID, USER_DATA)

    assert signing.verify_auth(KEY, [SECRET], text, f"{KEY}:{USER_SIGNATURE}")
    assert not signing.verify_auth(KEY, [SECRET], text, auth)


def test_signature_is_valid_for_one_socket_only() -> None:
    auth = signing.user_auth(KEY, SECRET, "1.1", USER_DATA)

    assert not signing.verify_auth(KEY, [SECRET], signing.user_text("1.2", USER_DATA), auth)
