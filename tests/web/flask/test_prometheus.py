"""The metrics of a gateway, and access to them."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from flask import Flask

from jobpush.config import METRICS_FOLDER
from jobpush.errors import JobPushError
from jobpush.gateway import Gateway
from jobpush.gateway.counters import COUNTERS, GAUGES, NO_VALUES, REFUSALS, Refusals, SharedMetrics
from jobpush.processes.embedded import EmbeddedRedis
from jobpush.protocol.codes import PusherError, SubscriptionRefused
from jobpush.store import Store
from tests.gateway.conftest import Serve, Site
from tests.gateway.publishing import finish, publish, start
from tests.gateway.web import request, scrape, scrape_until

# -- access ----------------------------------------------------------------------------------------


def test_metrics_need_the_token(site: Site) -> None:
    for headers in ({}, {"Authorization": "Bearer "}, {"Authorization": "Bearer wrong"}, {"Authorization": "é"}):
        status, body = request(site, "GET", "/jobpush/metrics", headers=headers)
        assert (status, body["error"]["code"]) == (403, "metrics_refused")

    assert scrape(site)["jobpush_processes"] == 1


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer "}])
def test_metrics_are_disabled_without_a_token(headers: dict[str, str]) -> None:
    app = Flask(__name__)
    Gateway(app, key="k", secret="s" * 32, redis_url="redis://unused")

    response = app.test_client().get("/jobpush/metrics", headers=headers)

    assert response.status_code == 403
    assert "JOBPUSH_METRICS_TOKEN" in response.json["error"]["message"]


# -- values --------------------------------------------------------------------------------------


def test_connections_and_events_are_counted_in_and_out(site: Site, store: Store) -> None:
    clients = [site.sign_in("42") for _ in range(3)]
    other = site.sign_in("43")

    start(store, "42", "one")
    finish(store, "42", "one")
    for client in clients:
        client.receive()
        client.receive()
    figures = scrape(site)

    assert figures["jobpush_connections"] == 4
    assert figures["jobpush_connections_opened_total"] == 4
    assert figures["jobpush_ready"] == 1
    assert figures["jobpush_events_sent_total"] == 6
    assert figures["jobpush_events_received_total"] >= 2
    assert 1 <= figures["jobpush_delivery_seconds_count"] <= 2
    assert figures['jobpush_delivery_seconds_bucket{le="+Inf"}'] == figures["jobpush_delivery_seconds_count"]
    other.hang_up()
    scrape_until(site, lambda figures: figures["jobpush_connections"] == 3)


def test_each_delivery_is_sent_or_conflated_or_dropped(serve: Serve, store: Store) -> None:
    site = serve(outbox_size=200_000)
    deaf = site.sign_in("42", receive_buffer=4096)
    keen = site.sign_in("42")

    start(store, "42", "one")
    for number in range(400):
        publish(store, "42", "one", number, message="x" * 5000)
    keen.receive_until(lambda message: '"current":399' in message["data"])
    before = scrape(site)
    for number in range(60):
        store.trigger(["#server-to-user-42"], "more", {"number": number, "text": "x" * 8000})
        keen.receive_until(lambda message: message["event"] == "more")
    after = scrape_until(site, lambda figures: figures['jobpush_refusals_total{reason="slow_reader"}'] == 1)

    assert before["jobpush_events_conflated_total"] > 0
    assert before["jobpush_events_sent_total"] + before["jobpush_events_conflated_total"] == 2 * 401
    assert before["jobpush_events_dropped_total"] == 0
    assert after["jobpush_events_dropped_total"] > 0
    deaf.hang_up()


def test_sender_of_an_event_is_not_counted_as_a_receiver(site: Site, store: Store) -> None:
    sender, reader = site.connect(), site.connect()
    socket_id = [client.receive() for client in (sender, reader)][0]["data"]
    for client in (sender, reader):
        client.subscribe("news")

    store.trigger(["news"], "hello", {}, exclude=socket_id.split('"')[3])
    reader.receive()

    assert scrape(site)["jobpush_events_sent_total"] == 1


def test_refusals_are_counted_by_reason(site: Site) -> None:
    client = site.connect()
    client.receive()
    client.subscribe("private-user-42")
    client.send("what")
    client.receive()
    foreign = site.connect(origin="http://evil.example")
    foreign.wait_for_close()
    site.connect(key="unknown").wait_for_close()

    figures = scrape(site)

    refused = {name: value for name, value in figures.items() if name.startswith("jobpush_refusals") and value}
    assert refused == {
        'jobpush_refusals_total{reason="subscription_unauthorized"}': 1,
        'jobpush_refusals_total{reason="invalid_message"}': 1,
        'jobpush_refusals_total{reason="forbidden_origin"}': 1,
        'jobpush_refusals_total{reason="unknown_app"}': 1,
    }
    assert figures["jobpush_client_messages_received_total"] == 2


def test_lost_redis_connections_are_counted(redis_server: EmbeddedRedis, site: Site) -> None:
    site.sign_in("42")
    assert scrape(site)["jobpush_redis_reconnects_total"] == 0

    redis_server.kill()
    scrape_until(site, lambda figures: figures["jobpush_ready"] == 0)
    redis_server.start()

    figures = scrape_until(site, lambda figures: figures["jobpush_ready"] == 1)
    assert figures["jobpush_redis_reconnects_total"] == 2


def every_error(base: type[JobPushError]) -> Iterator[type[JobPushError]]:
    """A class and all that derive from it."""
    for derived in base.__subclasses__():
        yield derived
        yield from every_error(derived)


def test_every_protocol_refusal_has_a_metric_label() -> None:
    errors = [*every_error(PusherError), *every_error(SubscriptionRefused)]

    names = {error.refusal for error in errors if error.__module__.startswith("jobpush.")}
    assert names - {"reconnect"} <= set(REFUSALS)  # which refuses nobody


def test_unknown_reason_is_counted_as_other() -> None:
    refusals = Refusals()

    refusals.count('odd"} 1')

    assert dict(zip(REFUSALS, refusals.counts, strict=True))["other"] == 1


# -- several processes -----------------------------------------------------------------------------------


def test_metrics_of_all_processes_are_summed_and_counters_of_a_killed_one_kept(serve: Serve, store: Store) -> None:
    site = serve("--workers", "2")
    scrape_until(site, lambda figures: figures["jobpush_processes"] == 2)
    clients = [site.sign_in("42") for _ in range(20)]

    start(store, "42", "one")
    for client in clients:
        client.receive()
    before = scrape_until(site, lambda figures: figures["jobpush_events_sent_total"] == 20)
    busiest = max(children_of(site.process.pid), key=lambda pid: len(open_files(pid)))  # one may have them all
    os.kill(busiest, signal.SIGKILL)
    after = scrape_until(site, lambda figures: figures["jobpush_connections"] < 20)

    assert before["jobpush_connections"] == 20
    for name in COUNTERS:
        assert after[f"jobpush_{name}_total"] >= before[f"jobpush_{name}_total"], name
    assert after["jobpush_events_sent_total"] == 20


def test_metrics_folder_is_removed_with_the_server(serve: Serve) -> None:
    site = serve("--workers", "2")
    scrape_until(site, lambda figures: figures["jobpush_processes"] == 2)
    pids = children_of(site.process.pid)
    (folder,) = {path.parent for pid in pids for path in open_files(pid) if path.suffix == ".figures"}
    assert folder.stat().st_mode & 0o077 == 0

    site.stop()

    assert not folder.exists()


def test_two_gateways_of_one_server_do_not_add_their_metrics(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, redis_url: str
) -> None:
    monkeypatch.setenv(METRICS_FOLDER, str(tmp_path))
    apps = [Flask(__name__) for _ in range(2)]
    for number, app in enumerate(apps):
        Gateway(app, key="k", secret="s" * 32, redis_url=redis_url, prefix=f"app{number}", metrics_token="token")
    try:
        for app in apps * 2:
            text = app.test_client().get("/jobpush/metrics", headers={"Authorization": "Bearer token"}).text
            assert "jobpush_processes 1.0" in text
    finally:
        for app in apps:
            app.extensions["jobpush"].hub.stop()


def test_counters_of_an_ended_process_are_kept_once_and_its_gauges_dropped(tmp_path: Path) -> None:
    reader = SharedMetrics(tmp_path)
    pid = os.fork()
    if not pid:
        SharedMetrics(tmp_path).write((1.0,) * len(NO_VALUES))
        os._exit(0)
    os.waitpid(pid, 0)

    for _ in range(3):
        total = reader.others()
        assert set(total[: len(GAUGES)]) == {0.0}
        assert set(total[len(GAUGES) :]) == {1.0}
    assert len(list(tmp_path.glob("*.figures"))) == 1


def test_metric_names_follow_the_conventions() -> None:
    names = [*GAUGES, *COUNTERS]

    assert not [name for name in names if name.endswith("_total") or name != name.lower()]


def children_of(pid: int) -> list[int]:
    """The processes that a process has started."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def open_files(pid: int) -> list[Path]:
    """The files that a process has open; of those that it closes or opens meanwhile, some."""
    files = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            files.append(link.readlink())
    return files
