"""From an event in Redis through a real worker to a server."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from jobpush.processes.child import ChildProcess
from tests.preloaded import PreloadedProcess
from tests.waiting import PATIENCE, wait_until

from .conftest import KEY, SECRET, Append, broker_of, verified
from .receiver import Receiver

StartWorker = Callable[..., ChildProcess]


@pytest.fixture
def start_worker(redis_url: str, tmp_path: Path) -> Iterator[StartWorker]:
    """Start workers that deliver to the given URLs."""
    workers: list[ChildProcess] = []

    def start(*urls: str) -> ChildProcess:
        settings = {
            "BROKER_URL": broker_of(redis_url),
            "JOBPUSH_REDIS_URL": redis_url,
            "JOBPUSH_KEY": KEY,
            "JOBPUSH_SECRET": SECRET,
            "JOBPUSH_WEBHOOK_URLS": ",".join(urls),
            "JOBPUSH_WEBHOOK_ALLOW_PRIVATE": "yes",
            "JOBPUSH_WEBHOOK_RETRY_DELAY": "0.01",
        }
        command = [sys.executable, "-m", "celery", "-A", "worker_app", "--workdir", str(Path(__file__).parent)]
        worker = PreloadedProcess(
            [*command, "worker", "--concurrency", "2"], log=tmp_path / "log", environment={**os.environ, **settings}
        )
        workers.append(worker)
        return worker

    yield start
    for worker in workers:
        worker.stop(signal.SIGTERM, signal.SIGQUIT, grace=2)


def test_each_endpoint_gets_its_events_despite_failures_of_others(
    start_worker: StartWorker, append: Append, client: redis.Redis
) -> None:
    with Receiver() as well, Receiver(500, 503) as ailing, Receiver(410) as gone:
        append("channel_occupied", channel="presence-room")
        append("member_added", channel="presence-room", user_id="42")
        worker = start_worker(well.url, f"{ailing.url}#kinds=member_added", gone.url)

        delivered = well.next()
        tries = [ailing.next() for _ in range(3)]
        gone.next()
        wait_until_idle(client)
        worker.stop(signal.SIGTERM, grace=PATIENCE)

        assert [event["name"] for event in verified(delivered)["events"]] == ["channel_occupied", "member_added"]
        assert [[event["name"] for event in verified(request)["events"]] for request in tries] == [["member_added"]] * 3
        assert len({request.headers["Webhook-Id"] for request in tries}) == 1
        assert (well.rest(), ailing.rest(), gone.rest()) == ([], [], [])
    assert client.llen("jobpush:{webhooks}:stream:given-up") == 1
    assert client.xlen("jobpush:{webhooks}:stream") == 0
    assert client.xinfo_consumers("jobpush:{webhooks}:stream", "relay") == []


def test_two_workers_deliver_each_event_once(start_worker: StartWorker, append: Append, client: redis.Redis) -> None:
    with Receiver() as receiver:
        workers = [start_worker(receiver.url) for _ in range(2)]
        for number in range(50):
            append("channel_occupied", channel=f"c{number}")

        delivered: list[str] = []
        while len(delivered) < 50:
            delivered += [event["channel"] for event in verified(receiver.next())["events"]]
        wait_until_idle(client)
        for worker in workers:
            worker.stop(signal.SIGTERM, grace=PATIENCE)

        assert sorted(delivered) == sorted(f"c{number}" for number in range(50))
        assert receiver.rest() == []


def wait_until_idle(client: redis.Redis) -> None:
    """Wait until each message is acknowledged. A worker stopped while a task begins hangs for 30 s in billiard 4.3."""
    wait_until(lambda: not client.exists("celery", "unacked"), "the last acknowledgement")
