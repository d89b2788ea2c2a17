"""The capacity model beside runs of the benchmark, and its table beside the page."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def capacity() -> ModuleType:
    spec = importlib.util.spec_from_file_location("capacity", ROOT / "tools" / "capacity.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["capacity"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_page_has_the_table_of_the_measured_costs(capacity: ModuleType) -> None:
    assert capacity.page() == (ROOT / "docs" / "scale.md").read_text(), "run: python3 tools/capacity.py --write"


@pytest.mark.parametrize("subject", ["ours-few", "ours-some", "ours-many"])
def test_model_agrees_with_runs_at_three_sizes(capacity: ModuleType, subject: str) -> None:
    costs = capacity.measured_costs()
    (run,) = json.loads((ROOT / "docs" / "performance.json").read_text())["samples"]["growth"][subject]

    assert costs.delivery_cpu == pytest.approx(run["event_cpu"] / 1e6, rel=0.3)
    if "memory" in run:  # not with the first hundred connections, which are the baseline
        assert costs.connection_memory == pytest.approx(run["memory"] * 1024, rel=0.3)
        assert costs.connects == pytest.approx(run["connects"], rel=0.3)


@pytest.mark.parametrize(
    ("load", "expected"),
    [
        ({"connections": 0}, {"events": 0, "gateways": 2, "shards": 1}),
        ({"connections": 36_001, "running": 0}, {"gateways": 3, "bottleneck": "connections per process"}),
        (
            {"connections": 12_000, "running": 1, "rate": 10, "tabs": 1},
            {"events": 120_000, "bottleneck": "CPU of one Redis primary"},
        ),
        (
            {"connections": 30_000, "readmission": 1},
            {"bottleneck": "connections back in time after a restart"},
        ),
        (
            {"connections": 10_000, "running": 0.05, "rate": 50, "tabs": 10},
            {"bottleneck": "CPU of the gateways for events"},
        ),
    ],
)
def test_scarce_resource_is_named(capacity: ModuleType, load: dict[str, Any], expected: dict[str, Any]) -> None:
    needs = capacity.plan(capacity.Load(**load), capacity.measured_costs())

    assert {name: getattr(needs, name) for name in expected} == expected


def test_required_resources_grow_with_each_input(capacity: ModuleType) -> None:
    costs, load = capacity.measured_costs(), capacity.Load(1_000_000)
    needs = capacity.plan(load, costs)
    twice = capacity.plan(capacity.Load(2_000_000), costs)

    for figure in ("events", "gateway_memory", "redis_memory", "network"):
        assert getattr(twice, figure) == pytest.approx(2 * getattr(needs, figure))
    assert twice.gateways in (2 * needs.gateways, 2 * needs.gateways - 1)
