"""tqdm whose bar moves in the browser too."""

from __future__ import annotations

import io
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from jobpush import tqdm
from jobpush.events import TaskState

if TYPE_CHECKING:
    from tests.celery_site.site import Eager


@pytest.mark.parametrize("disable", [True, False])
def test_iteration_moves_both_bars(eager: Eager, disable: bool) -> None:
    terminal = io.StringIO()

    def body() -> list[int]:
        return list(tqdm(range(5), desc="encoding", file=terminal, disable=disable))

    last = eager.run(eager.task(result=True)(body))[-1]

    assert (last.current, last.total, last.message) == (5, 5, "encoding")
    assert last.data == {"result": [0, 1, 2, 3, 4]}
    assert ("5/5" in terminal.getvalue()) is not disable


def test_manual_update_counts_once(eager: Eager) -> None:
    def body() -> None:
        with tqdm(total=10, initial=2, file=io.StringIO()) as bar:
            bar.update(3)
            bar.set_description("later")
            bar.update()

    last = eager.run(eager.task()(body))[-1]

    assert (last.current, last.total, last.message) == (6, 10, "later")


def test_positional_arguments_and_reset_work_as_in_tqdm(eager: Eager) -> None:
    def body() -> None:
        bar = tqdm(range(4), "encoding", 4, file=io.StringIO())
        bar.update(3)
        bar.reset(total=10)
        bar.update(1)

    last = eager.run(eager.task()(body))[-1]

    assert (last.current, last.total, last.message) == (1, 10, "encoding")


def test_nested_bars_make_one_that_never_goes_back(eager: Eager) -> None:
    def body() -> None:
        for name in tqdm("ab", file=io.StringIO()):
            for step in ("reads", "writes"):
                for _ in tqdm(range(4), desc=f"{step} {name}", file=io.StringIO()):
                    eager.jobpush._runtime.publisher.flush()
        eager.jobpush._runtime.publisher.flush()

    events = [event for event in eager.run(eager.task()(body)) if event.state is TaskState.PROGRESS]

    amounts = [event.current for event in events]
    assert amounts == sorted(amounts)
    assert {0.25, 0.5, 0.75, 1, 1.25, 2} <= set(amounts)
    assert {event.total for event in events} == {2}
    assert [event.message for event in events][-1] == "writes b"


def test_bar_without_total_counts(eager: Eager) -> None:
    def body() -> None:
        for _ in tqdm(iter(range(3)), file=io.StringIO()):
            for _ in tqdm(range(2), file=io.StringIO()):
                pass

    last = eager.run(eager.task()(body))[-1]

    assert (last.current, last.total, last.percent) == (3, None, 100)


def test_unclosed_bar_does_not_affect_the_next_task(eager: Eager) -> None:
    bars = []

    def body(total: int) -> None:
        bars.append(tqdm(total=total, file=io.StringIO()))
        bars[-1].update(1)

    task = eager.task()(body)

    assert [eager.run(task, total)[-1].total for total in (3, 5)] == [3, 5]


def test_outside_a_task_only_the_terminal_bar_is_shown() -> None:
    terminal = io.StringIO()

    assert list(tqdm(iter("abc"), file=terminal)) == ["a", "b", "c"]

    assert "3it" in terminal.getvalue()


def test_error_without_tqdm_names_what_to_install() -> None:
    code = (
        "import sys; sys.modules['tqdm'] = None\n"
        "from jobpush import ConfigurationError\n"
        "try:\n    from jobpush import tqdm\n"
        "except ConfigurationError as exc:\n    print(exc)"
    )
    done: Any = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert "pip install 'jobpush[tqdm]'" in done.stdout
