"""One gateway for all cases: no case may affect the next."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from jobpush.processes.embedded import EmbeddedRedis
from tests.gateway.conftest import serving

pytest.register_assert_rewrite("tests.autobahn.cases")


@pytest.fixture(scope="package")
def port() -> Iterator[int]:
    """The port of a gateway with one process."""
    with EmbeddedRedis() as redis_server, serving(redis_server.url) as serve:
        yield serve().port
