"""The package's names, and that each end of it runs without the other's libraries."""

from __future__ import annotations

import subprocess
import sys

import pytest

import jobpush


def loaded_after(code: str) -> set[str]:
    """The top-level modules of a fresh interpreter that has run ``code``."""
    script = f"import sys\n{code}\nprint(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize("name", jobpush.__all__)
def test_every_public_name_exists(name: str) -> None:
    assert getattr(jobpush, name) is not None
    assert name in dir(jobpush)


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = jobpush.no_such_name


def test_all_names_can_be_imported_with_a_star() -> None:
    names: dict[str, object] = {}

    exec("from jobpush import *", names)  # noqa: S102 - nothing else imports so

    assert set(jobpush.__all__) <= set(names)


def test_import_of_the_package_loads_no_library() -> None:
    assert loaded_after("import jobpush").isdisjoint({"celery", "kombu", "flask", "redis", "tqdm"})


def test_gateway_runs_without_celery() -> None:
    assert loaded_after("import jobpush.gateway; from jobpush import Gateway").isdisjoint({"celery", "kombu"})


def test_application_that_only_notifies_runs_without_celery_and_flask() -> None:
    code = (
        "from jobpush import JobPush; JobPush(key='k', secret='0123456789abcdef').authorize_channel('1.2', 'private-a')"
    )

    assert loaded_after(code).isdisjoint({"celery", "kombu", "flask"})


def test_worker_runs_without_flask() -> None:
    code = (
        "from celery import Celery\nfrom jobpush import JobPush, progress\n"
        "app = Celery(broker='memory://'); jobpush = JobPush(app)\n"
        "app.task(jobpush.track(user='user')(lambda user: None), name='t', lazy=True)\n"
        "import jobpush.queues.celery.signals, jobpush.queues.celery.revoker"
    )

    assert loaded_after(code).isdisjoint({"flask", "flask_sock", "gunicorn", "simple_websocket", "wsproto"})
