"""Canvases as one bar, in a real worker with four processes, with and without a result backend."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from celery import Celery, chain, chord, group
from celery.beat import ScheduleEntry, Scheduler

from jobpush.errors import ConfigurationError, InvalidUserId
from jobpush.events import TaskEvent, TaskState
from jobpush.processes.embedded import EmbeddedRedis
from tests.celery_site.site import PATIENT, Eager, Listener, Site, as_broker

Build = Callable[[Any], Any]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site without a result backend."""
    with EmbeddedRedis() as server:
        site = Site(server, server, tmp_path_factory.mktemp("site"), cancel_grace=0.2, **PATIENT)
        site.start_worker("-c", "4")
        yield site
        site.close()


@pytest.fixture(scope="module")
def backed_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site with Redis as its result backend, which chords need."""
    with EmbeddedRedis() as server:
        url = as_broker(server.url)
        options = {"cancel_grace": 0.2, "backend_url": url, **PATIENT}
        site = Site(server, server, tmp_path_factory.mktemp("backed"), **options)
        # Unused results are garbage-collected late, and would connect to a Redis that has been stopped.
        site.app.backend.result_consumer.cancel_for = lambda task_id: None
        site.start_worker("-c", "4")
        yield site
        site.close()


class Album:
    """A running workflow, and the events of its user."""

    def __init__(self, site: Site, user: str, build: Build, *, task_id: str | None = None, **options: Any) -> None:
        self._site = site
        self.listener: Listener = site.listen(user)
        self.workflow = site.jobpush.track_workflow(build(site.app.tasks), user, "Album", **options)
        self.result = self.workflow.delay()

    @property
    def task_id(self) -> str:
        return self.workflow.task_id

    def end(self) -> TaskEvent:
        return self.listener.until_final(self.task_id)

    @property
    def children(self) -> list[tuple[str, str]]:
        return [(event.name, event.state.value) for event in self._site.jobpush.children(self.task_id)]


def assert_succeeds(album: Album, members: int) -> None:
    last = album.end()
    assert (last.state, last.current, last.total, last.percent) == (TaskState.SUCCESS, members, members, 100.0)
    assert last.data["children"] == {
        **{"total": members, "succeeded": members, "failed": 0, "revoked": 0, "lost": 0, "running": 0}
    }
    assert_only_the_workflow_is_published(album)
    assert [state for _, state in album.children] == ["SUCCESS"] * members


def assert_only_the_workflow_is_published(album: Album) -> None:
    """Check that members are only published to their own channels, and that the bar never moves back."""
    listed = {event.task_id for event in album.listener.events if event.root_id is None}
    assert listed == {album.task_id}
    events = album.listener.of(album.task_id)
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    percents = [event.percent or 0.0 for event in events]
    assert percents == sorted(percents)
    assert events[0].state is TaskState.PENDING


def parts(tasks: Any, number: int) -> list[Any]:
    return [tasks["part"].si() for _ in range(number)]


SUCCEED: dict[str, tuple[Build, int]] = {
    "one task": (lambda tasks: tasks["part"].si(), 1),
    "group": (lambda tasks: group(parts(tasks, 12)), 12),
    "chain": (lambda tasks: chain(parts(tasks, 3)), 3),
    "chain that passes results on": (lambda tasks: tasks["part"].s() | tasks["part"].s() | tasks["part"].s(), 3),
    "map": (lambda tasks: tasks["part"].map(range(5)), 1),
    "starmap": (lambda tasks: tasks["part"].starmap([(1,), (2,)]), 1),
    "chunks": (lambda tasks: tasks["part"].chunks(((number,) for number in range(10)), 3), 4),
    "group at the end of a chain": (lambda tasks: chain(tasks["part"].si(), group(parts(tasks, 3))), 4),
    "chains in a group": (lambda tasks: group(chain(parts(tasks, 2)), chain(parts(tasks, 2)), tasks["part"].si()), 5),
    "retries": (lambda tasks: group(tasks["part"].si(failures=2), *parts(tasks, 2)), 3),
    "spawned": (lambda tasks: chain(tasks["part_spawns"].si(["part", "part"]), tasks["part"].si()), 4),
    "tracked members": (lambda tasks: group(tasks["owned_by_header"].si() for _ in range(3)), 3),
    "replaced by a task": (lambda tasks: chain(tasks["part_replaced"].si("task"), tasks["part"].si()), 2),
    "replaced by a chain": (lambda tasks: chain(tasks["part_replaced"].si("chain"), tasks["part"].si()), 3),
}
SUCCEED_WITH_BACKEND: dict[str, tuple[Build, int]] = {
    "chord": (lambda tasks: chord(parts(tasks, 3), tasks["part"].s()), 4),
    "group and body": (lambda tasks: group(parts(tasks, 3)) | tasks["part"].si(), 4),
    "groups in a row": (lambda tasks: chain(group(parts(tasks, 2)), group(parts(tasks, 3))), 5),
    "group in chain in chord": (
        lambda tasks: chain(
            tasks["part"].si(),
            chord([chain(parts(tasks, 2)), group(parts(tasks, 2)), tasks["part"].si()], tasks["part"].si()),
            tasks["part"].si(),
        ),
        8,
    ),
    # Its two tasks, and Celery's task that collects their results, under the id of the replaced one.
    "replaced by a group": (lambda tasks: group(tasks["part_replaced"].si("group"), tasks["part"].si()), 4),
}


@pytest.mark.parametrize("canvas", SUCCEED)
def test_every_task_of_a_canvas_moves_one_bar(site: Site, user: str, canvas: str) -> None:
    build, members = SUCCEED[canvas]

    assert_succeeds(Album(site, user, build), members)


@pytest.mark.parametrize("canvas", [*SUCCEED, *SUCCEED_WITH_BACKEND])
def test_every_task_of_a_canvas_moves_one_bar_with_a_backend(backed_site: Site, user: str, canvas: str) -> None:
    build, members = {**SUCCEED, **SUCCEED_WITH_BACKEND}[canvas]

    album = Album(backed_site, user, build)

    assert_succeeds(album, members)
    assert album.result is not None


FAIL: dict[str, tuple[Build, int, int]] = {
    # The canvas, the number of ended members, and the number of members.
    "link": (lambda tasks: chain(tasks["part"].si(), tasks["part"].si(error="broke"), tasks["part"].si()), 2, 3),
    "member of a group": (lambda tasks: group(tasks["part"].si(error="broke"), *parts(tasks, 3)), 4, 4),
    "link in a group": (
        lambda tasks: group(chain(tasks["part"].si(error="broke"), *parts(tasks, 3)), chain(parts(tasks, 2))),
        *(3, 6),
    ),
    "replacement": (lambda tasks: chain(tasks["part_replaced"].si("fails"), tasks["part"].si()), 1, 2),
}


@pytest.mark.parametrize("canvas", FAIL)
def test_workflow_fails_once_no_member_can_run(site: Site, user: str, canvas: str) -> None:
    build, ended, members = FAIL[canvas]

    album = Album(site, user, build)

    last = album.end()
    assert (last.state, last.error, last.current, last.total) == (TaskState.FAILURE, "broke", ended, members)
    assert_only_the_workflow_is_published(album)


def test_chord_fails_with_its_header(backed_site: Site, user: str) -> None:
    album = Album(
        backed_site,
        user,
        lambda tasks: chord([tasks["part"].si(error="broke"), tasks["part"].si()], tasks["part"].si()),
    )

    last = album.end()

    assert (last.state, last.error, last.total) == (TaskState.FAILURE, "broke", 3)


def test_chord_polled_by_celery_counts_its_body_once(redis_server: EmbeddedRedis, user: str, tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    backend = f"file://{tmp_path}/results"
    with closing(Site(redis_server, redis_server, tmp_path, backend_url=backend, **PATIENT)) as site:
        site.start_worker("-c", "4")

        assert_succeeds(Album(site, user, SUCCEED_WITH_BACKEND["chord"][0]), 4)


def test_tasks_share_the_bar_by_weight(site: Site, user: str) -> None:
    def build(tasks: Any) -> Any:
        heavy = tasks["part"].si(error="broke").set(headers={"jobpush_weight": 3})
        return chain(tasks["owned_by_header"].si(), heavy, tasks["part"].si())

    album = Album(site, user, build, weights={"owned_by_header": 6})

    assert album.end().percent == 75.0  # 6 of 10, and half of 3


def test_workflow_may_be_built_from_the_arguments_of_delay(site: Site, user: str) -> None:
    part = site.app.tasks["part"]
    listener = site.listen(user)
    workflow = site.jobpush.track_workflow(lambda number: group(part.si() for _ in range(number)), user)

    first = workflow.delay(2), workflow.task_id
    second = workflow.delay(3), workflow.task_id

    totals = [listener.until_final(task_id).total for _, task_id in (first, second)]
    assert totals == [2, 3]
    assert len(first[0].results) == 2
    assert {event.title for event in listener.events if event.root_id is None} == {"jobpush.workflow"}


def test_canvas_is_left_unchanged(site: Site, user: str) -> None:
    part = site.app.tasks["part"]
    canvas = chain(part.si(), group(part.si(), part.si()))
    before = repr(dict(canvas))

    site.jobpush.track_workflow(canvas, user).delay()

    assert repr(dict(canvas)) == before


def test_empty_workflow_succeeds(site: Site, user: str) -> None:
    assert_succeeds(Album(site, user, lambda tasks: group([])), 0)


def test_member_has_the_workflow_as_root_and_its_own_progress(site: Site, user: str) -> None:
    album = Album(site, user, lambda tasks: group(tasks["owned_by_header"].si(), tasks["part"].si()))
    album.end()

    children = site.jobpush.children(album.task_id)

    assert {event.root_id for event in children} == {album.task_id}
    assert {(event.current, event.total) for event in children} == {(1, 1), (1, 2)}
    assert len({event.group_id for event in children}) == 1
    assert [event.task_id for event in site.jobpush.children(album.task_id, start=1)] == [children[1].task_id]


def test_task_of_another_user_has_its_own_bar(site: Site, user: str) -> None:
    other = f"other-{user}"
    listener = site.listen(other)
    spawned = site.app.tasks["spawns_for"]

    album = Album(site, user, lambda tasks: group(spawned.si(other)))

    assert album.end().total == 1
    assert listener.until_state(TaskState.SUCCESS).root_id is None


# -- cancel ----------------------------------------------------------------------------------------------


def test_cancelled_workflow_ends_running_members_and_starts_no_more(site: Site, user: str, tmp_path: Path) -> None:
    def build(tasks: Any) -> Any:
        later = tasks["part"].si(path=f"{tmp_path}/ran").set(countdown=3)
        return group(chain(tasks["part_waits"].si(), tasks["part"].si(path=f"{tmp_path}/ran")), later)

    site.listen(user).until_final(site.delay("encode", user, "first.mov"))  # the worker is running
    album = Album(site, user, build)
    album.listener.until(lambda event: event.name == "part_waits" and event.state is TaskState.PROGRESS)

    site.jobpush.cancel(album.task_id)

    last = album.end()
    assert (last.state, last.data["children"]["revoked"]) == (TaskState.REVOKED, 1)
    assert any(event.cancelling for event in album.listener.of(album.task_id))
    album.listener.until(lambda event: event.name == "part" and event.state is TaskState.REVOKED)
    assert not (tmp_path / "ran").exists()
    assert album.children == [("part_waits", "REVOKED"), ("part", "REVOKED")]


def test_members_that_ignore_the_cancel_are_terminated(site: Site, user: str) -> None:
    album = Album(site, user, lambda tasks: group(tasks["stubborn"].si("nobody"), tasks["stubborn"].si("nobody")))
    for _ in range(2):
        album.listener.until(lambda event: event.name == "stubborn" and event.state is TaskState.PROGRESS)

    site.jobpush.cancel(album.task_id)

    assert album.end().state is TaskState.REVOKED


def test_waiting_workflow_is_revoked_at_once(site: Site, user: str) -> None:
    album = Album(site, user, lambda tasks: group(tasks["part"].si().set(countdown=600) for _ in range(3)))

    assert site.jobpush.cancel(album.task_id) is TaskState.REVOKED


def test_killed_process_of_a_member_is_its_failure(site: Site, user: str) -> None:
    album = Album(site, user, lambda tasks: group(tasks["stubborn"].si("nobody"), tasks["part"].si()))
    running = album.listener.until(lambda event: event.name == "stubborn" and event.state is TaskState.PROGRESS)

    os.kill(running.data["pid"], signal.SIGKILL)

    last = album.end()
    assert last.state is TaskState.FAILURE
    assert last.error == "The process that ran the task died"


# -- inheritance of the user------------------------------------------------------------------------------


def test_user_is_inherited_by_links_errbacks_and_later_links(site: Site, user: str) -> None:
    listener = site.listen(user)
    encode, fails, owned = (site.app.tasks[name] for name in ("encode", "fails", "owned_by_header"))

    def assert_published(publish: Callable[[], Any]) -> None:
        publish()
        assert listener.until(lambda event: event.name == "owned_by_header" and event.state.is_final)

    assert_published(lambda: encode.apply_async((user, "cat.mov"), link=owned.si()))
    assert_published(lambda: fails.apply_async((user,), link_error=owned.si()))
    assert_published(lambda: chain(encode.si(user, "cat.mov"), owned.si()).delay())
    assert_published(
        lambda: site.app.tasks["part_spawns"].apply_async((["owned_by_header"],), headers={"jobpush_user": user})
    )
    assert_published(lambda: site.app.tasks["replaced_by_owned"].apply_async((user,)))
    assert_published(lambda: site.app.tasks["calls"].apply_async((user,)))
    assert_published(lambda: site.app.tasks["spawns_in_a_thread"].apply_async((user,)))
    assert_published(lambda: fails.apply_async((user,), link_error=site.app.tasks["errback"].s()))


def test_task_replaced_by_a_group_has_ended_while_the_group_runs(backed_site: Site, user: str) -> None:
    listener = backed_site.listen(user)

    task_id = backed_site.delay("replaced_by", user, "group")

    ends = [listener.until(lambda event: event.state.is_final) for _ in range(3)]  # in any order
    assert {event.state for event in ends} == {TaskState.SUCCESS}
    assert sorted(event.name for event in ends) == ["owned_by_header", "owned_by_header", "replaced_by"]
    assert task_id in {event.task_id for event in ends}


@pytest.mark.parametrize("name", ["owned_by_header", "errback"])
def test_errback_of_a_killed_task_inherits_its_user(site: Site, user: str, name: str) -> None:
    listener = site.listen(user)
    errback = site.app.tasks[name].signature(immutable=name == "owned_by_header")
    site.app.tasks["stubborn"].apply_async((user,), link_error=errback)
    running = listener.until_state(TaskState.PROGRESS)

    os.kill(running.data["pid"], signal.SIGKILL)

    listener.until(lambda event: event.name == "owned_by_header" and event.state.is_final)
    assert "headers" not in errback.options  # the signature may be reused for other tasks


def test_beat_entry_names_a_user(site: Site, user: str) -> None:
    listener = site.listen(user)
    entry = ScheduleEntry("nightly", "owned_by_header", schedule=60, options={"headers": {"jobpush_user": user}})

    Scheduler(site.app, lazy=True).apply_async(entry)

    assert listener.until(lambda event: event.state.is_final).state is TaskState.SUCCESS


# -- without a worker ------------------------------------------------------------------------------------


def test_eager_workflow_publishes_the_same_states(eager: Eager) -> None:
    eager.app.conf.task_always_eager = True
    tasks = eager.app.tasks
    workflow = eager.jobpush.track_workflow(
        chain(tasks["part_spawns"].si(["part", "owned_by_header"]), tasks["part"].si()), eager.user
    )

    workflow.delay()

    last = eager.listener.until_final(workflow.task_id)
    assert (last.state, last.current, last.total) == (TaskState.SUCCESS, 4, 4)
    assert eager.listener.states(workflow.task_id) == ["PENDING", "STARTED", "PROGRESS", "SUCCESS"]


def test_workflow_refused_by_the_broker_is_withdrawn(eager: Eager) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise OSError("no broker")

    eager.app.amqp.send_task_message = refuse
    workflow = eager.jobpush.track_workflow(eager.app.tasks["part"].si(), eager.user)

    with pytest.raises(OSError, match="no broker"):
        workflow.delay()

    last = eager.listener.until_final(workflow.task_id)
    assert (last.state, last.error) == (TaskState.REVOKED, "The task could not be queued")


def test_invalid_arguments_fail_early(eager: Eager) -> None:
    part = eager.app.tasks["part"].si()

    with pytest.raises(InvalidUserId):
        eager.jobpush.track_workflow(part, "")
    for weight in (-1, float("nan"), "2", True):
        with pytest.raises(ConfigurationError):
            eager.jobpush.track_workflow(part, "42", weights={"part": weight})  # type: ignore[dict-item]


def test_workflow_needs_an_app() -> None:
    from jobpush import JobPush

    with pytest.raises(ConfigurationError):
        JobPush().track_workflow(Celery(set_as_current=False).signature("part"), "42")
