"""The layers page's section on how few layers a sequence needs: what is known, asked for, followed, damaged."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from app.figures.layers_needed import needed
from app.state import session
from come.pruning.layers_needed import LayersNeeded
from come.runs.layers_needed import FILE, Search, _write
from come.runs.state import identity
from come.serving import layers_needed as background
from tests.app.conftest import Lab
from tests.app.layers.test_page_layers import analysis, fine, said

Visit = Callable[..., AppTest]
WHOLE = LayersNeeded(2.0, tuple(range(6)), 2.0, 6, 2.0, True)
FEWER = LayersNeeded(2.0, (0, 1, 3, 5), 1.9, 6, 2.0, False)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What was asked to be searched; nothing is."""
    asked: list[tuple[Any, ...]] = []
    monkeypatch.setattr(background, "start", lambda *arguments: asked.append(arguments))
    return asked


def test_it_is_searched_when_asked_for_and_gone_on_with(
    visit: Visit, lab: Lab, started: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert fine(visit("layers")).segmented_control(key="tolerance").value == 0.1
    at = fine(visit("layers", tolerance="0.0"))
    assert "Measure 4 sequences, up to 2 min" in at.button(key="search-needed").label
    at.button(key="search-needed").click().run()
    _write(analysis(), 6, {0.1: Search(0.1, 9.0, 64, (WHOLE, FEWER))})
    at = fine(visit("layers", tolerance="0.1"))
    assert "Of 2 sequences, 1 can do without a layer at a loss of 0.1 nats a token: 5.0 of 6 layers" in said(at)
    assert "1 of the searches ended there" in said(at)
    at.button(key="search-needed").click().run()
    assert [asked[1:] for asked in started] == [(0.0, 6.0, 120.0), (0.1, 9.0, 120.0)]
    monkeypatch.setattr(session, "owns", lambda run: False)
    assert fine(visit("layers")).button(key="search-needed").disabled


def test_a_damaged_document_is_told_in_a_sentence(visit: Visit, lab: Lab) -> None:
    (analysis().path / FILE).write_text('{"version": 1, "layers": 6, "searches": [{"tolerance": -1}]}')
    at = fine(visit("layers"))
    assert any(FILE in warning.value and "Measure it anew" in warning.value for warning in at.warning)
    assert not at.button(key="search-needed").disabled


def test_while_it_is_searched_the_page_says_so_and_can_end_it(visit: Visit, lab: Lab) -> None:
    told = {"status": "working", "message": "How few layers sequence 2 needs", **identity(os.getpid())}
    (analysis().path / background.STATE).write_text(json.dumps(told))
    at = fine(visit("layers"))
    assert "How few layers sequence 2 needs" in said(at)
    at.button(key="stop-needed").click().run()
    assert (analysis().path / background.STOP).exists()


def test_a_cell_is_kept_or_hatched_and_the_mean_stands_below() -> None:
    figure = needed(Search(0.0, 6.0, 64, (WHOLE, FEWER)), 6)
    hatched = [[bool(shape) for shape in bar.marker.pattern.shape] for bar in figure.data[:6]]
    assert [row for _, row in hatched] == [False, False, True, False, True, False]
    assert not any(row for row, _ in hatched)
    assert [note.text for note in figure.layout.annotations] == ["6", "4", "5.0"]
    assert "none can do without a layer at a loss of 0" in str(
        needed(Search(0.0, 6.0, 64, (WHOLE,)), 6).layout.title.text
    )
