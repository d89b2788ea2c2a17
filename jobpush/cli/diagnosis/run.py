"""All checks, in order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ...config import Config, unknown_variables
from ...errors import StoreError
from ...store.redis.topology import Topology
from .applications import Applications
from .celery_app import check_celery
from .finding import Finding, Status, failed, ok, skipped, warning
from .frameworks import check_django, check_token_endpoint
from .gateway import check_credentials, check_flask, check_origins
from .proxy import check_proxy
from .redis_server import check_redis, check_workers, same_server


def diagnose(
    config: Config,
    apps: Applications,
    *,
    url: str | None = None,
    origin: str | None = None,
    headers: Mapping[str, str],
    idle: float = 0.0,
) -> Iterator[Finding]:
    """
    Run all checks.

    Args:
        config: Settings of the environment; those of the applications come before them.
        apps: Applications to check.
        url: Address of the gateway as browsers see it; ``None``: skip what needs it.
        origin: Origin of the pages; ``None``: that of ``url``.
        headers: Headers of the request that ``user_loader``, or the token endpoint, gets.
        idle: Seconds for the check of idle limits; 0: skip it.
    """
    yield from _check_environment()
    gateway, worker = apps.gateway_config, apps.worker_config
    main = gateway or worker or config
    is_reachable = bool(main.redis_url)
    if not is_reachable:
        yield failed("redis", "JOBPUSH_REDIS_URL is not set", "set it, or add --redis-url redis://host:6379/0")
    for finding in check_redis(main) if is_reachable else ():
        is_reachable = is_reachable and not (finding.check == "redis" and finding.status is Status.FAILED)
        yield finding
    if gateway and worker:
        yield _check_same(gateway, worker)
    if apps.celery is not None:
        yield from check_celery(apps.celery)
        if worker is None:
            yield failed(
                "jobpush in celery", "the Celery application has no JobPush", "add: jobpush = JobPush(celery_app)"
            )
    else:
        yield skipped("broker", "no Celery application was given", "add --app package.module:celery_app")
    if is_reachable:
        try:
            yield check_workers(main)
        except StoreError as exc:
            yield failed("worker", f"the leases cannot be read: {exc}", "see the finding on Redis")
    yield check_credentials(main)
    yield from check_origins(main, url, origin or url)
    if apps.is_django:
        yield from check_django()
    if apps.with_tokens is not None:
        yield from check_token_endpoint(apps.with_tokens, headers)
    elif apps.flask is not None:
        yield from check_flask(apps.flask, headers)
    else:
        yield skipped("user_loader", "no web application was given", "add --app package.module:app")
    if url:
        yield from check_proxy(url, main.key, origin, idle)
    else:
        yield skipped("proxy", "no address was given", "add --url https://app.example.com")


def _check_environment() -> Iterator[Finding]:
    unknown = unknown_variables()
    for name, hint in unknown.items():
        yield warning("environment", f"{name} is ignored: there is no such setting", hint)
    if not unknown:
        yield ok("environment", "every JOBPUSH_ variable is a setting")


def _check_same(gateway: Config, worker: Config) -> Finding:
    names = [f"{Topology.parse(one.redis_url).name} with prefix {one.prefix!r}" for one in (gateway, worker)]
    try:
        if same_server(gateway, worker):
            return ok("same redis", f"the settings of gateway and worker name the same Redis: {names[0]}")
    except StoreError as exc:
        return failed("same redis", f"the Redis servers cannot be compared: {exc}", "see the finding on Redis")
    return failed(
        "same redis",
        f"the gateway uses {names[0]}, the worker {names[1]}",
        "set JOBPUSH_REDIS_URL and JOBPUSH_PREFIX to the same values for both",
    )
