"""
Every message of the Pusher protocol that the server sends, as UTF-8 JSON.

``data`` is a JSON string inside JSON ("double encoding"), except in ``pusher:error``, ``pusher:ping`` and
``pusher:pong``, where the documentation shows an object. A top-level ``id`` is a stream id from which our own client
can resume; stock clients ignore it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ..events import RESYNC_EVENT, encode

#: ``data`` is present because some clients require it.
PING = b'{"event":"pusher:ping","data":{}}'
PONG = b'{"event":"pusher:pong","data":{}}'


def connection_established(socket_id: str, activity_timeout: int, time: float | None = None) -> bytes:
    """
    Return the first message. ``activity_timeout`` is in seconds; pusher-js fails without it.

    ``time``, in Unix seconds, is for our own client: it shows durations by the gateway's clock.
    """
    clock = "" if time is None else f',\\"time\\":{time:.3f}'
    data = f'{{\\"socket_id\\":\\"{socket_id}\\",\\"activity_timeout\\":{activity_timeout}{clock}}}'
    return f'{{"event":"pusher:connection_established","data":"{data}"}}'.encode()


def error(code: int, message: str, channel: str | None = None) -> bytes:
    """Return a ``pusher:error``; ``data`` is an object, as documented."""
    wire: dict[str, object] = {"event": "pusher:error", "data": {"code": code, "message": message}}
    if channel is not None:
        wire["channel"] = channel
    return encode(wire).encode()


def signin_success(user_data: str) -> bytes:
    """Return the answer to ``pusher:signin``; ``user_data`` is the client's own text, byte for byte."""
    return _message("pusher:signin_success", {"user_data": user_data})


def token_accepted(user_id: str, expires_at: float) -> bytes:
    """Return the answer to a ``jobpush:signin`` with a valid token; ``expires_at`` is in Unix seconds."""
    return _message("jobpush:signin_success", {"user_id": user_id, "expires_at": expires_at})


def token_refused(code: str, message: str) -> bytes:
    """Return the answer to a ``jobpush:signin`` with a token that is refused."""
    return _message("jobpush:signin_error", {"code": code, "message": message})


def signed_out(reason: str) -> bytes:
    """Return the message to a connection after its user's rights have ended."""
    return _message("jobpush:signed_out", {"reason": reason})


def subscription_succeeded(channel: str, position: str, members: Mapping[str, str] | None = None) -> bytes:
    """
    Return the answer to ``pusher:subscribe``.

    Args:
        channel: Name of the channel.
        position: Stream id up to which the client has everything once it has received the events that follow.
        members: JSON text of ``user_info`` by user id; presence channels only.
    """
    data = "{}" if members is None else _presence(members)
    return _frame("pusher_internal:subscription_succeeded", channel, data, position)


def subscription_error(channel: str, kind: str, message: str, status: int) -> bytes:
    """Return the answer to a refused ``pusher:subscribe``; ``data`` is an object, as pusher-js passes it on."""
    data = {"type": kind, "error": message, "status": status}
    return encode({"event": "pusher:subscription_error", "channel": channel, "data": data}).encode()


def cache_miss(channel: str) -> bytes:
    """Return the message after ``subscription_succeeded`` of an empty cache channel; Pysher requires ``data``."""
    return _frame("pusher:cache_miss", channel, "{}")


def member_added(channel: str, user_id: str, user_info: str) -> bytes:
    """Return the message to the other members at a user's first connection; ``user_info`` is JSON text."""
    data = f'{{"user_id":{encode(user_id)},"user_info":{user_info}}}'
    return _frame("pusher_internal:member_added", channel, data)


def member_removed(channel: str, user_id: str) -> bytes:
    """Return the message to the other members at the end of a user's last connection."""
    return _frame("pusher_internal:member_removed", channel, encode({"user_id": user_id}))


def watchlist_events(*, online: Iterable[str] = (), offline: Iterable[str] = ()) -> bytes:
    """Return the changed users of a connection's watchlist; all of them after the sign-in."""
    named = {"online": list(online), "offline": list(offline)}
    events = [{"name": name, "user_ids": user_ids} for name, user_ids in named.items() if user_ids]
    return _message("pusher_internal:watchlist_events", {"events": events})


def resync(channel: str) -> bytes:
    """Return the message before snapshots, if the history does not reach back to the client's ``since``."""
    return _frame(RESYNC_EVENT, channel, "{}")


def event_members(name: str, data: str | None, user_id: str | None = None) -> str:
    """Return an event as Redis carries it: its fields without channel and id; ``data`` is a JSON string with quotes."""
    members = f'"event":{encode(name)}' if data is None else f'"event":{encode(name)},"data":{data}'
    return members if user_id is None else f'{members},"user_id":{encode(user_id)}'


def _message(name: str, data: object) -> bytes:
    return f'{{"event":"{name}","data":{encode(encode(data))}}}'.encode()


def _frame(name: str, channel: str, data: str, position: str | None = None) -> bytes:
    end = "" if position is None else f',"id":"{position}"'
    return f'{{"event":"{name}","channel":{encode(channel)},"data":{encode(data)}{end}}}'.encode()


def _presence(members: Mapping[str, str]) -> str:
    """Return the JSON text of a presence channel's members; their ``user_info`` is already JSON."""
    known = ",".join(f"{encode(user_id)}:{user_info}" for user_id, user_info in members.items())
    return f'{{"presence":{{"ids":{encode(list(members))},"hash":{{{known}}},"count":{len(members)}}}}}'
