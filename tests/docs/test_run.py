"""The files that the pages on operation show: they parse, and name real metrics, settings, commands and routes."""

from __future__ import annotations

import configparser
import re
import shlex
from dataclasses import fields
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from flask import Flask

from jobpush import Gateway
from jobpush.cli import main
from jobpush.config import Config

DOCS = Path(__file__).parents[2] / "docs"
ROOT = DOCS.parent


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)


@pytest.fixture(scope="module")
def metrics() -> set[str]:
    """The names of all metrics, as a scrape has them."""
    from jobpush.gateway.counters import COUNTERS, GAUGES
    from jobpush.reporting.worker_metrics import publish_metrics

    worker = vars(publish_metrics()).values()
    described = [family for metric in worker for family in metric.describe()]
    return {
        *(f"jobpush_{name}" for name in GAUGES),
        *(f"jobpush_{name}_total" for name in (*COUNTERS, "refusals")),
        "jobpush_delivery_seconds",
        *(one.name + ("_total" if one.type == "counter" else "") for one in described),
    }


def test_page_lists_every_metric(metrics: set[str]) -> None:
    page = (DOCS / "run" / "metrics.md").read_text()

    assert set(re.findall(r"^\| `(jobpush_\w+)` \|", page, re.MULTILINE)) == metrics


def test_alerts_are_rules_on_real_metrics(metrics: set[str]) -> None:
    scrape, alerts = map(yaml.safe_load, blocks("run/metrics.md", "yaml"))
    rules: list[dict[str, Any]] = [rule for group in alerts["groups"] for rule in group["rules"]]

    assert scrape["scrape_configs"][0]["metrics_path"] == "/jobpush/metrics"
    assert len(rules) > 4
    for rule in rules:
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"} and rule["annotations"]["summary"]
        named = {name.removesuffix("_bucket") for name in re.findall(r"jobpush_\w+", rule["expr"])}
        assert named and named <= metrics, rule["expr"]
        assert rule["expr"].count("(") == rule["expr"].count(")")


def test_reasons_in_the_alerts_are_real() -> None:
    from jobpush.gateway.counters import REFUSALS

    (reasons,) = re.findall(r'reason!~"([\w|]+)"', (DOCS / "run" / "metrics.md").read_text())

    assert set(reasons.split("|")) < set(REFUSALS)


def test_systemd_units_start_programs_with_known_options() -> None:
    units = blocks("run/processes.md", "ini")

    assert len(units) == 3
    for unit in units:
        parser = configparser.ConfigParser(interpolation=None)
        parser.optionxform = str  # type: ignore[assignment, method-assign]  # as its documentation shows
        parser.read_string(unit)
        assert parser.sections() == ["Unit", "Service", "Install"]
        program, *arguments = shlex.split(parser["Service"]["ExecStart"])
        assert program.startswith("/srv/app/.venv/bin/")
        if program.endswith("/jobpush"):
            command = main.commands[arguments[0]]
            options = {name for one in command.params for name in one.opts}
            assert {word for word in arguments if word.startswith("--")} <= options


def test_traefik_file_routes_every_path_of_the_gateway() -> None:
    (text,) = blocks("run/proxies.md", "yaml")
    router = yaml.safe_load(text)["http"]["routers"]["jobpush"]
    prefixes = re.findall(r"PathPrefix\(`(/\w+/)`\)", router["rule"])
    app = Flask(__name__, static_folder=None)
    Gateway(app, redis_url="redis://localhost:1", key="k", secret="0123456789abcdef0123456789abcdef")
    paths = {rule.rule for rule in app.url_map.iter_rules()} - {"/users/<user_id>/terminate_connections"}

    assert all(any(path.startswith(prefix) for prefix in prefixes) for path in paths)


def test_excerpts_for_nginx_and_caddy_are_from_the_tested_files() -> None:
    for page, language, file in (
        ("run/proxies.md", "nginx", "nginx.conf"),
        ("run/proxies.md", "caddyfile", "Caddyfile"),
    ):
        whole = {line.strip() for line in (ROOT / "docker" / file).read_text().splitlines()}
        (excerpt,) = blocks(page, language)
        assert {line.strip() for line in excerpt.splitlines()} - whole == {""} or {
            line.strip() for line in excerpt.splitlines()
        } <= whole


@pytest.mark.parametrize("page", [*sorted(DOCS.rglob("*.md")), ROOT / "README.md"], ids=lambda page: page.stem)
def test_settings_and_commands_named_by_a_page_exist(page: Path) -> None:
    text = page.read_text()
    settings = {f"JOBPUSH_{item.name.upper()}" for item in fields(Config)}
    others = {"JOBPUSH_LOG_FORMAT", "JOBPUSH_USER_LOADER", "JOBPUSH_DEMO_SECRET", "JOBPUSH_REDIS_PASSWORD"}

    assert set(re.findall(r"\bJOBPUSH_[A-Z]\w+", text)) - others <= settings
    code = "\n".join([*re.findall(r"`[^`\n]+`", text), *re.findall(r"```sh\n(.*?)```", text, re.DOTALL)])
    for name in re.findall(r"^`?jobpush (?!in celery)([a-z]+)\b", code, re.MULTILINE):
        assert isinstance(main.commands[name], click.Command)
