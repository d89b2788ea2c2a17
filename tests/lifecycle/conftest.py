"""Fixtures: one stand at a time, with one configuration and one worker for all of its rows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from jobpush.processes.embedded import EmbeddedRedis

pytest.register_assert_rewrite("tests.lifecycle.stand", "tests.lifecycle.rows")

from .configurations import Configuration  # noqa: E402
from .rabbitmq import rabbitmq  # noqa: E402
from .stand import Stand  # noqa: E402


@pytest.fixture(scope="session")
def amqp_url() -> Iterator[str]:
    """One RabbitMQ for all stands; each stand uses its own queue."""
    with rabbitmq() as url:
        yield url


class Stands:
    """The stand of the last requested configuration; tests are ordered by configuration."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._stand: Stand | None = None

    def of(self, configuration: Configuration, request: pytest.FixtureRequest) -> Stand:
        """Return the stand of a configuration; close the stand of any other."""
        if self._stand is None or self._stand.configuration != configuration:
            self.close()
            url = request.getfixturevalue("amqp_url") if configuration.broker == "rabbitmq" else None
            folder = request.getfixturevalue("tmp_path_factory").mktemp(str(configuration))
            server = self._stack.enter_context(EmbeddedRedis())
            self._stand = Stand(configuration, server, url, folder)
            self._stack.callback(self._stand.close)
        return self._stand

    def close(self) -> None:
        """Close the current stand."""
        self._stand = None
        self._stack.close()


@pytest.fixture(scope="session")
def stands() -> Iterator[Stands]:
    """The manager of the current stand."""
    stands = Stands()
    yield stands
    stands.close()


@pytest.fixture
def stand(request: pytest.FixtureRequest, stands: Stands) -> Iterator[Stand]:
    """The stand of the test's configuration; a stand is not reused after a failure."""
    failed_before = request.session.testsfailed
    yield stands.of(request.param, request)
    if request.session.testsfailed > failed_before:
        stands.close()  # a task that still waits for the failed test would block the worker
