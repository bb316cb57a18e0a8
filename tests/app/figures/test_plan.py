"""The plan page's chart of the layers before and after."""

from __future__ import annotations

import pytest

from app.figures import plan as figures


def test_the_strips_stack_what_was_kept() -> None:
    final = figures.final_layers(6, 48, 4, [(1, (12, 36), (1, 3))], removed=[5])
    assert [[piece.layer for piece in pieces] for pieces in final] == [[0], [1, 2], [3], [4]]
    figure = figures.strips(6, 48, 4, final)
    solid, hatched = figure.data[0], figure.data[1]
    heights = dict.fromkeys(range(6), 0.0)
    for x, height, base in zip(solid.x, solid.y, solid.base, strict=True):
        if base >= figures.BEFORE and base < figures.BEFORE + figures.ATTENTION[0]:
            heights[x] += height / figures.FEED_FORWARD[1]
    assert heights == pytest.approx({0: 1, 1: 0.25, 2: 0.75, 3: 1, 4: 1, 5: 0})
    assert set(hatched.x) == {1, 2, 5}
    assert figure.layout.title.text == "2 layers become 1 and 1 layer goes; 3 stay whole"


def test_of_a_merged_layer_the_first_source_is_on_top() -> None:
    final = figures.final_layers(6, 48, 4, [(1, (12, 36), (1, 3))])
    solid = figures.strips(6, 48, 4, final).data[0]
    for part in ("feed-forward", "key/value"):
        base = {
            text.rpartition(" ")[2]: base
            for text, base in zip(solid.hovertext, solid.base, strict=True)
            if text.startswith("<b>new layer 1<") and part in text
        }
        assert base["1"] > base["2"]


def test_a_small_figure_has_all_tiles_and_no_numbers() -> None:
    final = figures.final_layers(6, 48, 4, [(1, (12, 36), (1, 3))], removed=[5])
    usual, small = figures.strips(6, 48, 4, final), figures.strips(6, 48, 4, final, small=True)
    assert [trace.mode for trace in usual.data[2:]] == ["text", "text"] and len(small.data) == 2
    assert small.data[0].y == usual.data[0].y and small.layout.title.text == usual.layout.title.text
    assert small.layout.height < usual.layout.height / 2
