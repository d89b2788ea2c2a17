"""The signatures of the Pusher protocol: made by the application, checked by the gateway, in constant time."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping


def sign(secret: str, text: str) -> str:
    """Return the HMAC-SHA256 of ``text`` in hexadecimal. Source: Pusher, "Auth signatures"."""
    # A lone surrogate, which has no UTF-8 form, comes from escapes in a client's JSON.
    return hmac.new(secret.encode(), text.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()


def channel_auth(key: str, secret: str, socket_id: str, channel: str, channel_data: str | None = None) -> str:
    """
    Return the ``auth`` string that lets one socket subscribe to one private or presence channel.

    Args:
        key: The application's key.
        secret: The application's secret.
        socket_id: As in ``pusher:connection_established``, e.g. ``"1234.1234"``.
        channel: Name of the channel.
        channel_data: The presence data, byte for byte as the client will send it.

    Returns:
        ``"KEY:hex"``.

    Source: Pusher, "Auth signatures", private and presence channels.
    """
    return f"{key}:{sign(secret, channel_text(socket_id, channel, channel_data))}"


def user_auth(key: str, secret: str, socket_id: str, user_data: str) -> str:
    """Return the ``auth`` string that lets one socket sign in. Source: Pusher, "Auth signatures", users."""
    return f"{key}:{sign(secret, user_text(socket_id, user_data))}"


def channel_text(socket_id: str, channel: str, channel_data: str | None) -> str:
    """Return the text that :func:`channel_auth` signs."""
    text = f"{socket_id}:{channel}"
    return text if channel_data is None else f"{text}:{channel_data}"


def user_text(socket_id: str, user_data: str) -> str:
    """Return the text that :func:`user_auth` signs."""
    return f"{socket_id}::user::{user_data}"


def http_text(method: str, path: str, query: Mapping[str, str]) -> str:
    """
    Return the signed text of a request to the HTTP API: method, path and sorted query, without ``auth_signature``.

    Source: Pusher, "HTTP API reference", Authentication: names in lower case, values not URL-escaped.
    """
    pairs = sorted((name.lower(), value) for name, value in query.items())
    joined = "&".join(f"{name}={value}" for name, value in pairs if name != "auth_signature")
    return f"{method.upper()}\n{path}\n{joined}"


def verify(secrets: Iterable[str], text: str, signature: str) -> bool:
    """Return whether ``signature`` (hexadecimal) signs ``text`` with one of ``secrets``, in constant time."""
    given = signature.encode("utf-8", "replace")
    results = [hmac.compare_digest(sign(secret, text).encode(), given) for secret in secrets]
    return any(results)


def verify_auth(key: str, secrets: Iterable[str], text: str, auth: str) -> bool:
    """Whether ``auth`` (``"KEY:hex"``) signs ``text`` for the application of ``key``."""
    given_key, _, signature = auth.partition(":")
    same_key = hmac.compare_digest(key.encode(), given_key.encode("utf-8", "replace"))
    return verify(secrets, text, signature) and same_key
