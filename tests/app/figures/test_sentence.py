"""A sentence followed through a pruned model: what the strips draw and what they say."""

from __future__ import annotations

import numpy as np

from app import theme
from app.figures import sentence
from app.figures.playground import TOOLBAR

PIECES = ["The", " cat", " <b>"]
SPANS = [(0, 1), (1, 4), (4, 5)]
ANGLES = [[0.0, 0.0, 0.0], [10.0, 20.0, 30.0], [5.0, 10.0, 45.0]]


def test_each_layer_is_a_row_and_merged_ones_are_outlined() -> None:
    figure = sentence.strips("CoMe", PIECES, SPANS, ANGLES, at=2)
    heatmap, clicks = figure.data
    assert np.array_equal(np.array(heatmap.z), np.array(ANGLES))
    assert list(clicks.customdata[:, 0]) == [0, 1, 2] * 3
    assert list(figure.layout.yaxis.ticktext) == ["0", "1 ← 1–3", "2"]
    framed = [shape for shape in figure.layout.shapes if shape.type == "rect"]
    assert [(shape.y0, shape.y1) for shape in framed] == [(0.5, 1.5)]
    assert '<b>"' not in heatmap.text[1][2] and "&lt;b&gt;" in heatmap.text[1][2]


def test_the_line_at_the_chosen_token_is_named_below_the_toolbar() -> None:
    for at, side in ((0, "left"), (2, "right")):
        figure = sentence.strips("CoMe", PIECES, SPANS, ANGLES, at=at)
        (name,) = figure.layout.annotations
        assert (name.x, name.xanchor) == (at, side)
        assert name.text == ("chosen: “The”" if at == 0 else "chosen: “␣&lt;b&gt;”")
        assert figure.layout.margin.t >= theme.title_room("") + TOOLBAR + 12


def test_the_title_says_whose_layer_turns_them_and_where_they_end() -> None:
    assert (
        sentence.finding("CoMe <b>", SPANS, np.array(ANGLES))
        == "CoMe &lt;b&gt;: the layer for 1–3 turns the states most, by 20.0° on average; at the end they are 20° off"
    )
    told = sentence.at_the_end(PIECES, ANGLES)
    assert told == "At the end the states are 20.0° off on average over 3 tokens, most at “␣\\<b\\>”: 45.0°."
    assert sentence.finding("CoMe", SPANS, np.zeros((3, 3))) == "CoMe: its states are the original's"


def test_what_is_outlined_is_said() -> None:
    assert sentence.depths(SPANS) == "Outlined: layer 1, in the place of the original's layers 1 to 3."
    assert sentence.depths([(0, 1), (1, 2)]) == ""


def test_a_long_text_is_drawn_in_as_many_columns_as_fit() -> None:
    tokens = 1000
    angles = np.zeros((3, tokens))
    angles[1, 777] = 12.0
    heatmap = sentence.strips("CoMe", ["x"] * tokens, SPANS, angles.tolist(), at=0).data[0]
    assert np.array(heatmap.z).shape[1] < tokens and np.array(heatmap.z).max() == 12.0
