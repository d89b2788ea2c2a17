"""The tests of rolling upgrades install the old version from a package registry: in ``make test-all`` only."""

from __future__ import annotations

from tests.effort import IS_FULL

collect_ignore = [] if IS_FULL else ["test_rolling_upgrade.py"]
