"""Plans of canvases: their tasks, weights and branches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery, chain, chord, group
from celery.canvas import Signature, _chain, _chord

from jobpush.queues.celery.canvas import PlannedCanvas


@pytest.fixture
def part() -> Iterator[Any]:
    app = Celery(set_as_current=False)

    @app.task(name="part", shared=False)
    def part(*args: Any) -> None:
        pass

    yield part.si
    app.close()


def plan(canvas: Any, **weights: float) -> PlannedCanvas:
    return PlannedCanvas(canvas, {"jobpush_user": "42"}, weights)


def branches(canvas: Any) -> list[str]:
    return [task.options["headers"]["jobpush_branch"] for task in tasks_of(plan(canvas).canvas)]


def tasks_of(canvas: Any) -> Iterator[Signature]:
    """Yield all tasks of a canvas, in the order in which they are written."""
    if isinstance(canvas, (group, _chain, _chord)):
        for task in canvas.tasks:
            yield from tasks_of(task)
        if isinstance(canvas, _chord):
            yield from tasks_of(canvas.body)
    else:
        yield canvas


def test_tasks_of_a_chain_share_a_branch(part: Any) -> None:
    assert branches(chain(part(), part(), part())) == ["0:3"] * 3


def test_header_and_body_of_a_chord_share_a_branch(part: Any) -> None:
    assert branches(chord([part(), chain(part(), part())], part())) == ["0:4"] * 4


def test_members_of_a_group_have_their_own_branches(part: Any) -> None:
    assert branches(group(part(), chain(part(), part()))) == ["0:3/1:1", *["0:3/2:2"] * 2]


def test_final_group_depends_on_the_tasks_before_it(part: Any) -> None:
    canvas = chain(part(), group(part(), group(part(), chain(part(), part()))))

    assert branches(canvas) == ["0:5", "0:5/1:1", "0:5/2:3/3:1", *["0:5/2:3/4:2"] * 2]


def test_group_followed_by_a_task_shares_the_branch_of_its_chain(part: Any) -> None:
    assert branches(chain(group(part(), part()), part(), group(part(), part()))) == [
        *["0:5"] * 3,
        *("0:5/1:1", "0:5/2:1"),
    ]


def test_map_is_one_task_and_chunks_are_one_per_chunk(part: Any) -> None:
    task = part().type

    assert plan(task.map(range(10))).plan.members == 1
    assert plan(task.starmap([(1,)] * 10)).plan.members == 1
    assert plan(task.chunks(((number,) for number in range(10)), 4)).plan.members == 3


def test_weight_of_a_signature_overrides_the_weight_of_its_task_name(part: Any) -> None:
    canvas = group(part(), part().set(headers={"jobpush_weight": 0.5, "mine": "kept"}))

    planned = plan(canvas, part=4)

    first, second = (task.options["headers"] for task in tasks_of(planned.canvas))
    assert (first["jobpush_weight"], second["jobpush_weight"], second["mine"]) == (4.0, 0.5, "kept")
    assert (planned.plan.members, planned.plan.weight) == (2, 4.5)
    assert {first["jobpush_user"], second["jobpush_user"]} == {"42"}
