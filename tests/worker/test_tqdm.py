"""tqdm whose bar moves in the browser too."""

from __future__ import annotations

import io
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from jobpush import tqdm

if TYPE_CHECKING:
    from .conftest import Eager


@pytest.mark.parametrize("disable", [True, False])
def test_iteration_moves_both_bars(eager: Eager, disable: bool) -> None:
    terminal = io.StringIO()

    def body() -> list[int]:
        return list(tqdm(range(5), desc="encoding", file=terminal, disable=disable))

    last = eager.run(eager.task(result=True)(body))[-1]

    assert (last.current, last.total, last.message) == (5, 5, "encoding")
    assert last.data == {"result": [0, 1, 2, 3, 4]}
    assert ("5/5" in terminal.getvalue()) is not disable


def test_update_by_hand_counts_once(eager: Eager) -> None:
    def body() -> None:
        with tqdm(total=10, initial=2, file=io.StringIO()) as bar:
            bar.update(3)
            bar.set_description("later")
            bar.update()

    last = eager.run(eager.task()(body))[-1]

    assert (last.current, last.total, last.message) == (6, 10, "later")


def test_outside_a_task_it_is_tqdm() -> None:
    terminal = io.StringIO()

    assert list(tqdm(iter("abc"), file=terminal)) == ["a", "b", "c"]

    assert "3it" in terminal.getvalue()


def test_without_tqdm_it_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['tqdm'] = None\n"
        "from jobpush import ConfigurationError\n"
        "try:\n    from jobpush import tqdm\n"
        "except ConfigurationError as exc:\n    print(exc)"
    )
    done: Any = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert "pip install 'jobpush[tqdm]'" in done.stdout
