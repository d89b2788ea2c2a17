"""
Failovers of a Cluster and of Sentinel during 2,000 tasks and 500 connections: every final state is correct.

Pages keep their sockets, no member leaves, and channels on other shards get no resync.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from jobpush.channels import parse_channel
from jobpush.store.keys import Keys
from tests.store.redis.cluster import (
    ClusterServers,
    fail_over_by_hand,
    hang_primary,
    kill_primary,
    migrate_busiest_slot,
)
from tests.store.redis.sentinel import SentinelServers
from tests.waiting import wait_until

from .crowd import NEWS, ROOM
from .stand import Stand

TASKS, USERS, CONNECTIONS = 2_000, 100, 500
#: Timeout for all tasks on a busy machine, in seconds.
PATIENCE = 240.0


def topic_of(channel: str) -> str:
    return Keys("").topic(parse_channel(channel).occupancy_topic)


def play(folder: Path, redis_url: str, fault: Callable[[Stand], None], may_resync: Callable[[str], bool]) -> None:
    """
    Fail over while tasks run, and check all guarantees at the end.

    Args:
        may_resync: Returns whether the fault may lose the history of a channel.
    """
    with Stand(folder, gateways=2, users=USERS, redis_url=redis_url, publish_timeout=2.0, lost_after=15.0) as stand:
        stand.start_worker("-c", "6")
        for gateway in stand.gateways:
            gateway.wait_until_ready()
        crowd = stand.open_crowd(users=stand.users * (CONNECTIONS // USERS))
        crowd.wait_until(lambda: all(len(one.members) == USERS for one in crowd.visitors))
        ticker = stand.start_ticker()
        with ThreadPoolExecutor(1) as pool:
            publishing = pool.submit(publish_tasks, stand)
            crowd.wait_until(lambda: len(crowd.states("SUCCESS")) > TASKS // 4, patience=PATIENCE)
            before = len(crowd.states("SUCCESS"))
            fault(stand)
            after = len(crowd.states("SUCCESS"))
            publishing.result()

        crowd.wait_for_ends(stand.tasks, PATIENCE)
        ticker.stop()
        crowd.wait_until(
            lambda: not crowd.missing_numbers(ticker.confirmed), lambda: crowd.missing_numbers(ticker.confirmed)[:9]
        )
        print(f"\n{folder.name}: {before} tasks ended before the fault, {after} after it, {crowd.resyncs()} resyncs")

        assert after < TASKS, "the fault happened after all tasks had ended"
        assert crowd.faults() == []
        assert wrong_states(stand) == []
        assert {state for one in crowd.visitors for _, state in one.tasks.values()} == {"SUCCESS"}
        assert not crowd.states("LOST")
        assert crowd.ends() == [], "a socket was closed"
        assert [one.departures for one in crowd.visitors if one.departures] == []
        assert {channel for one in crowd.visitors for channel in one.resyncs if not may_resync(channel)} == set()


def publish_tasks(stand: Stand) -> None:
    for number in range(TASKS):
        stand.delay(stand.users[number % USERS], "works", 5, 0.02)


def wrong_states(stand: Stand) -> list[tuple[str, str]]:
    """Return the tasks whose stored state is not SUCCESS."""
    found = {task.task_id: task.state for user in stand.users for task in stand.store.tasks(user)}
    states = [(task_id, found.get(task_id, "missing")) for ids in stand.tasks.values() for task_id in ids]
    return [(task_id, state) for task_id, state in states if state != "SUCCESS"]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("fault", [migrate_busiest_slot, fail_over_by_hand, hang_primary, kill_primary])
def test_failover_in_a_cluster(tmp_path: Path, fault: Callable[[ClusterServers, str], None]) -> None:
    with ClusterServers() as servers:
        busy = topic_of("#server-to-user-u0")
        primary = servers.primary_of(busy)
        channels = [NEWS, ROOM, *(f"#server-to-user-u{number}" for number in range(USERS))]
        before = {channel: servers.primary_of(topic_of(channel)) for channel in channels}

        play(tmp_path, servers.url, lambda stand: fault(servers, busy), lambda channel: before[channel] == primary)


@pytest.mark.timeout(900)
def test_sentinel_primary_is_lost_with_final_states_that_its_replica_never_received(tmp_path: Path) -> None:
    with SentinelServers() as servers:
        servers.replicate_as("replica")

        def lose_primary(stand: Stand) -> None:
            servers.stop_replication("replica")
            before = number_of_finals(stand)
            wait_until(lambda: number_of_finals(stand) > before + 10)
            servers.wait_for_primary_other_than(servers.kill_primary())

        play(tmp_path, servers.url, lose_primary, lambda channel: True)


def number_of_finals(stand: Stand) -> int:
    return sum(task.state == "SUCCESS" for user in stand.users for task in stand.store.tasks(user))
