"""What tasks report from threads, forks, logging and clean-up code, in a real worker."""

from __future__ import annotations

from pathlib import Path

from jobpush.events import TaskState
from jobpush.store.messages import read_event
from tests.celery_site.site import Site


def test_progress_of_a_thread_pool_is_exact(site: Site, user: str) -> None:
    listener = site.listen(user)

    last = listener.until_final(site.delay("threads", user))

    assert (last.state, last.current) == (TaskState.SUCCESS, 4_000)


def test_forked_children_never_move_the_bar_and_one_line_explains_it(site: Site, user: str) -> None:
    listener = site.listen(user)

    task_id = site.delay("forks", user)
    last = listener.until_final(task_id)

    assert (last.state, last.current) == (TaskState.SUCCESS, 2)
    assert {event.current for event in listener.of(task_id)} <= {0, 1, 2}
    assert site.log.count(f"{task_id}: a forked process reports progress") == 1


def test_clean_up_of_a_cancelled_task_completes(own_site: Site, user: str, tmp_path: Path) -> None:
    own_site.start_worker()
    listener = own_site.listen(user)
    task_id = own_site.delay("cleans_up", user, str(tmp_path / "file"))
    listener.until_state(TaskState.PROGRESS, task_id)

    own_site.jobpush.cancel(task_id)
    last = listener.until_final(task_id)

    assert (last.state, last.message) == (TaskState.REVOKED, "removing the temporary file")
    assert (tmp_path / "file").read_text() == "cleaned"


def test_log_lines_of_progress_and_logging_are_in_order(site: Site, user: str) -> None:
    listener = site.listen(user)

    task_id = site.delay("logs", user)
    listener.until_final(task_id)
    listener.until_final(site.delay("encode", user, "next.mov"))

    lines = [message for message in listener.messages if b'"event":"jobpush:log"' in message]
    data = [read_event(line.partition(b"\n")[2])[1] for line in lines]
    assert [(line["message"], line["level"]) for line in data] == [
        *(("first", "info"), ("second", "warning"), ("third", "error"), ("last", "debug"))
    ]
