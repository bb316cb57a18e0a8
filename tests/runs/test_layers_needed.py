"""How few layers sequences need, kept beside an analysis: what is written, gone on with, and read."""

from __future__ import annotations

import json
from typing import Any

import pytest

import come
from come.errors import ComeError
from come.pruning.layers_needed import layers_needed
from come.runs import Run, execute
from come.runs.layers_needed import FILE, measure, read
from tests.runs.conftest import Create

LAYERS = 6


@pytest.fixture
def analysis(new_run: Create) -> Run:
    run = new_run(kind="analyze")
    execute(run)
    return run


def test_the_document_says_what_the_search_finds(analysis: Run) -> None:
    bundle = come.load(analysis.config.model)
    tokens = come.tokens(bundle, analysis.config.text, analysis.config.n_tokens, analysis.config.seq_len)[:2]
    assert read(analysis, LAYERS) == {}
    for tolerance in (0.5, 0.0):
        found = measure(analysis, 2, tolerance, LAYERS)
        assert list(found) == layers_needed(bundle, tokens, tolerance, LAYERS)
        assert read(analysis, LAYERS)[tolerance].found == found
    assert {each.tokens for each in read(analysis, LAYERS).values()} == {tokens.shape[1]}


def test_what_was_begun_is_gone_on_with_and_other_passes_begin_anew(analysis: Run) -> None:
    told: list[str] = []
    (first,) = measure(analysis, 2, seconds=0, on_progress=lambda event: told.append(event.message))
    looks = iter([False])
    assert measure(analysis, 2, go_on=lambda: next(looks)) == (first,)
    told.clear()
    both = measure(analysis, 2, on_progress=lambda event: told.append(event.message))
    assert both[0] == first and "How few layers sequence 0 needs" not in told
    assert len(measure(analysis, 2, passes=1, seconds=0)) == 1
    assert read(analysis, LAYERS)[0.0].passes == 1


DAMAGE: tuple[dict[str, Any], ...] = (
    {"kept": []},
    {"kept": [1, 0]},
    {"kept": [0, 6]},
    {"kept": [0, 0]},
    {"loss": float("nan")},
    {"loss": "2"},
    {"uniform": 7},
    {"complete": 1},
)


def test_a_damaged_document_is_told_and_measured_anew(analysis: Run) -> None:
    measure(analysis, 1)
    path = analysis.path / FILE
    for change in DAMAGE:
        document = json.loads(whole := path.read_text())
        document["searches"][0]["found"][0].update(change)
        path.write_text(json.dumps(document))
        with pytest.raises(ComeError, match=FILE):
            read(analysis, LAYERS)
        path.write_text(whole)
    with pytest.raises(ComeError, match="of 6 layers, not 5"):
        read(analysis, LAYERS - 1)
    path.write_text("{")
    measure(analysis, 1)
    assert len(read(analysis, LAYERS)[0.0].found) == 1
