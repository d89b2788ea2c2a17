"""What the fuzzer has found, once more: nothing that comes from outside raises what nobody expects."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.effort import examples

from .seeds import CORPUS, SEEDS
from .targets import TARGETS


@pytest.mark.parametrize("name", TARGETS)
def test_corpus_is_accepted_or_refused_as_expected(name: str) -> None:
    files = sorted((CORPUS / name).iterdir())

    assert len(files) >= len(SEEDS[name])
    for file in files:
        _feed(name, file)


@pytest.mark.parametrize("name", TARGETS)
@given(data=st.data())
@settings(max_examples=examples(60), deadline=None)
def test_mutated_seeds_are_accepted_or_refused(name: str, data: st.DataObject) -> None:
    seed = data.draw(st.sampled_from(SEEDS[name]))
    start, size = data.draw(st.integers(0, len(seed))), data.draw(st.integers(0, 8))

    TARGETS[name](seed[:start] + data.draw(st.binary(max_size=8)) + seed[start + size :])


def _feed(name: str, file: Path) -> None:
    try:
        TARGETS[name](file.read_bytes())
    except Exception as exc:
        exc.add_note(f"found in {file}")
        raise
