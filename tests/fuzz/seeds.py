"""What the fuzzer begins with: one right thing of every kind. Run it to write the seeds into the corpus."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from jobpush.events import TaskEvent, TaskState
from tests.autobahn import cases

CORPUS = Path(__file__).with_name("corpus")


def _line(event: str, **data: object) -> str:
    return json.dumps({"event": event, "data": data})


SEEDS: dict[str, list[bytes]] = {
    "frames": [
        b"\xff" + cases.frame(cases.TEXT, b'{"event":"pusher:ping"}'),
        b"\x00" + b"".join(cases.fragments(cases.pieces("κόσμε €".encode(), 3))) + cases.ping(b"?"),
        b"\x02" + cases.frame(cases.BINARY, b"\x00" * 130, fin=False) + cases.close(1000, b"bye"),
        b"\x03" + cases.frame(cases.TEXT, b"*" * 301),
        b"\x04" + cases.frame(cases.TEXT, size=70_000),
        b"\x05" + cases.frame(cases.TEXT, b"\xed\xa6", size=80),  # half a surrogate pair: found by the fuzzer
    ],
    "protocol": [
        "\n".join(
            [
                "user",
                _line("pusher:subscribe", channel="news"),
                _line("pusher:subscribe", channel="private-task-mine", since="5-0"),
                _line("pusher:unsubscribe", channel="news"),
                "",
            ]
        ).encode(),
        "\n".join(
            [
                "",
                _line("pusher:signin", auth="@", user_data='{"id":"42","user_info":{},"watchlist":["1","2","3"]}'),
                _line("pusher:subscribe", channel="presence-a", auth="@", channel_data='{"user_id":"42"}'),
                json.dumps({"event": "client-a", "channel": "presence-a", "data": {"a": [1, None]}}),
                "",
                "",
                '{"event":"pusher:pong"}',
            ]
        ).encode(),
        b"s5-0\n" + _line("pusher:subscribe", channel="private-encrypted-cache-a", auth="@").encode(),
    ],
    "handshake": [b"278d425bdf160c739803?protocol=7&client=js&version=8.4.0&flash=false"],
    "http_api": [
        b"apps/1/events\nauth_key=278d425bdf160c739803&auth_timestamp=1700000000&auth_version=1.0&auth_signature=ab"
        b'&body_md5=ab&info=user_count\n{"name":"a","data":"{}","channels":["news"],"socket_id":"1.2","info":"user_count"}',
        b"/apps/1/channels\nauth_key=278d425bdf160c739803&auth_timestamp=1700000000&auth_version=1.0&auth_signature=@\n",
        b'presence-a\n\n{"batch":[{"name":"a","data":{"n":1},"channel":"news"}]}',
    ],
    "stream_ids": [b"#server-to-user-42|5-0|news|6-1\nnews,cache-a,private-user-42"],
    "task_events": [
        json.dumps(TaskEvent("one", TaskState.PROGRESS, current=1.5, total=3, data={"a": "ä"}).to_wire()).encode()
    ],
    "redis_messages": [
        b'5-0 one 3 1 -\n"event":"jobpush:task","data":"{\\"task_id\\":\\"one\\",\\"state\\":\\"SUCCESS\\"}"',
        b'- - 0 1 1.2\n"event":"a","data":"text"',
    ],
}


def write() -> None:
    """Put what is not there yet into the corpus."""
    for name, seeds in SEEDS.items():
        for seed in seeds:
            keep(name, seed)


def keep(name: str, data: bytes) -> None:
    """Put an input into the corpus of a target, named by its hash as the fuzzer does it."""
    folder = CORPUS / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / hashlib.sha1(data, usedforsecurity=False).hexdigest()).write_bytes(data)


if __name__ == "__main__":
    write()
