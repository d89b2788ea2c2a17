"""Checks of the Redis server that a configuration names."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

import redis

from ...config import Config
from ...store import Store
from ...store.keys import SLOTS, bucket_tags, slot_of
from ...store.redis.cluster import Cluster
from ...store.redis.topology import Address, Topology, join_address
from .finding import Finding, failed, ok, warning

#: Oldest version that the tests run on.
OLDEST = (6, 2)
#: Seconds to wait for each answer.
TIMEOUT = 5.0
#: Seconds that the clocks may differ.
MAX_CLOCK_DIFFERENCE = 1.0


def check_redis(config: Config) -> Iterator[Finding]:
    """Check that the server, or each primary of a cluster, is reachable, recent, writable, and keeps its data."""
    topology = Topology.parse(config.redis_url)
    if not topology.is_cluster:
        yield from _check_server(config, topology)
        return
    cluster = Cluster(topology, TIMEOUT, None)
    cure = "start its nodes, or correct JOBPUSH_REDIS_URL; redis-cli --cluster check shows its state"
    try:
        cluster.read_slots()
    except redis.RedisError as exc:
        yield failed("redis cluster", str(exc), cure)
        return
    finally:
        cluster.disconnect(is_final=True)
    missing = sum(cluster.primary_of(slot) is None for slot in range(SLOTS))
    if missing:
        yield failed("redis cluster", f"{missing} of {SLOTS} slots have no primary", cure)
        return
    primaries = cluster.primaries()
    yield ok("redis cluster", f"each slot has a primary, {len(primaries)} in all")
    tags = {cluster.primary_of(slot_of(tag)): tag for tag in bucket_tags()}
    found: dict[str, Finding] = {}  # of each check, the worst
    for address in primaries:
        for one in _check_server(config, topology, address, tags.get(address, "")):
            if one.check not in found or found[one.check].status.severity < one.status.severity:
                found[one.check] = replace(one, message=f"{join_address(*address)}: {one.message}")
    yield from found.values()


def _check_server(
    config: Config, topology: Topology, address: Address | None = None, tag: str = "doctor"
) -> Iterator[Finding]:
    """Check one server. For a primary of a cluster, pass its address and the tag of one of its buckets, if any."""
    name = topology.name
    with closing(redis.Redis(connection_pool=topology.make_pool(TIMEOUT, address=address))) as client:
        try:
            client.ping()
        except redis.AuthenticationError as exc:
            yield failed("redis", f"{name} refuses the user or password: {exc}", "correct JOBPUSH_REDIS_URL")
            return
        except redis.RedisError as exc:
            yield failed("redis", f"{name} is unreachable: {exc}", "start it, or correct JOBPUSH_REDIS_URL")
            return
        yield ok("redis", f"{name} is reachable, prefix {config.prefix!r}")
        if tag:
            yield _check_rights(config, client, tag, is_cluster=topology.is_cluster)
        yield _check_clock(client)
        try:
            info: dict[str, Any] = client.info()
        except redis.RedisError as exc:
            yield warning("redis version", f"INFO is refused: {exc}", "run doctor with a user that may use INFO")
            return
    yield _check_version(info)
    yield _check_role(info, name)
    yield _check_eviction(info)


def same_server(first: Config, second: Config) -> bool:
    """
    Return whether two configurations lead to the same data.

    Raises:
        StoreError: If one does not answer.
    """
    mark = f"doctor-{time.time_ns()}"
    names = [f"{config.prefix}:probe:doctor" for config in (first, second)]
    databases = [Topology.parse(config.redis_url).database for config in (first, second)]
    if names[0] != names[1] or databases[0] != databases[1]:
        return False
    with closing(Store(first)) as writer, closing(Store(second)) as reader:
        writer.run([("SET", names[0], mark, "PX", 10_000)])
        return reader.run([("GET", names[1])]) == [mark.encode()]


def check_workers(config: Config) -> Finding:
    """
    Check that a worker with jobpush holds a lease that has not ended.

    Raises:
        StoreError: If Redis does not answer.
    """
    with closing(Store(config)) as store:
        ((seconds, _),) = store.run([("TIME",)])
        (count,) = store.run([("ZCOUNT", store.keys.workers, float(seconds), "+inf")])
    if count:
        return ok("worker", f"{count} worker{'s hold leases' if count > 1 else ' holds a lease'} in this Redis")
    return warning(
        "worker",
        "no worker holds a lease in this Redis and prefix",
        "start one (celery -A … worker); if one runs, give it the same JOBPUSH_REDIS_URL and JOBPUSH_PREFIX",
    )


def _check_rights(config: Config, client: redis.Redis, tag: str, *, is_cluster: bool) -> Finding:
    name = f"{config.prefix}:{{{tag}}}:doctor"
    try:
        client.set(name, "", px=1)
        client.evalsha(client.script_load("return 1"), 0)
        with closing(client.pubsub()) as subscription:  # type: ignore[no-untyped-call]
            (subscription.ssubscribe if is_cluster else subscription.subscribe)(name)
            subscription.get_message(timeout=TIMEOUT)
        client.execute_command("SPUBLISH" if is_cluster else "PUBLISH", name, "")  # type: ignore[no-untyped-call]
    except redis.RedisError as exc:
        cure = "grant the user of JOBPUSH_REDIS_URL the keys and channels of the prefix"
        return failed("redis rights", f"a command is refused: {exc}", f"{cure} (~{config.prefix}:* &{config.prefix}:*)")
    return ok("redis rights", "writing, scripts and publish/subscribe are allowed")


def _check_version(info: dict[str, Any]) -> Finding:
    server = "Valkey" if "valkey_version" in info else "Redis"
    version = str(info.get("valkey_version", info.get("redis_version", "")))
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())
    if numbers < OLDEST:
        return failed("redis version", f"{server} {version} is too old", "upgrade to Redis 6.2 or newer, or to Valkey")
    return ok("redis version", f"{server} {version}")


def _check_role(info: dict[str, Any], name: str) -> Finding:
    if info.get("role") in ("slave", "replica"):
        return failed(
            "redis role", f"{name} is a replica", "set JOBPUSH_REDIS_URL to the primary, or use Sentinel's URL"
        )
    return ok("redis role", "primary")


def _check_eviction(info: dict[str, Any]) -> Finding:
    policy, limit = info.get("maxmemory_policy", "noeviction"), int(info.get("maxmemory", 0))
    if limit and policy != "noeviction":
        return warning(
            "redis eviction",
            f"maxmemory-policy is {policy}: a full Redis drops tasks and leases",
            "set maxmemory-policy to noeviction (CONFIG SET maxmemory-policy noeviction, and in redis.conf)",
        )
    return ok("redis eviction", f"maxmemory-policy is {policy}" + ("" if limit else ", no memory limit"))


def _check_clock(client: redis.Redis) -> Finding:
    before = time.time()
    try:
        seconds, microseconds = client.time()
    except redis.RedisError as exc:
        return failed("clock", f"TIME is refused: {exc}", "allow the user of JOBPUSH_REDIS_URL the command TIME")
    after = time.time()
    at = int(seconds) + int(microseconds) / 1e6
    difference = max(before - at, at - after, 0.0)
    if difference > MAX_CLOCK_DIFFERENCE:
        return warning(
            "clock", f"Redis and this machine differ by {difference:.1f} s", "synchronise both clocks with NTP"
        )
    return ok("clock", "Redis and this machine agree")
