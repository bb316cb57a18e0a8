"""What the playground draws of a text: where models part along it, what each expects next."""

from __future__ import annotations

import math

import numpy as np
import pytest

from app.figures import playground as figures
from app.figures import sentence


@pytest.mark.parametrize(
    ("top", "ticks"), [(0.01, [0, 0.01]), (0.3, [0, 0.1, 0.3]), (3.4, [0, 1, 3]), (9.0, [0, 3]), (12.0, [0, 3, 10])]
)
def test_two_or_three_values_name_the_colours(top: float, ticks: list[float]) -> None:
    assert figures.bar_ticks(top) == ticks


@pytest.mark.parametrize("tokens", [1, 5, 240, 2048])
def test_the_strip_loses_no_peak(tokens: int) -> None:
    rng = np.random.default_rng(0)
    values = rng.random(tokens) * 0.1
    values[tokens // 2] = 7.0
    figure = figures.strip(["<b>x"] * tokens, {"A & B": values.tolist(), "C": [0.0] * tokens}, at=0)
    heat, clicks = figure.data
    assert math.isclose(float(np.max(heat.z)), math.sqrt(7.0))
    assert [tokens // 2] in np.array(clicks.customdata).tolist()
    assert heat.z.shape[1] <= figures.MAX_BINS
    assert "<b>x" not in figure.layout.title.text and "A &amp; B departs most" in figure.layout.title.text
    assert len(figure.to_json()) < 200_000


def test_where_it_departs_most_is_told_of_what_was_asked_not_of_the_template() -> None:
    kl = {"A": [5.0, 0.1, 2.0], "B": [0.1, 0.2, 0.3]}
    assert figures.finding(["sys", "x", "y"], kl).startswith("A departs most after “sys”")
    assert figures.finding(["sys", "x", "y"], kl, since=1).startswith("A departs most after “y”")


def test_bars_side_by_side_have_one_scale() -> None:
    drawn = [figures.bars("A", [(1, "a", chance)], "#2f7fd1", (), 0.8) for chance in (0.8, 0.2)]
    assert drawn[0].layout.xaxis.range == drawn[1].layout.xaxis.range == (0, 100)


def test_bars_are_the_likeliest_tokens_and_others_than_the_originals_are_pale() -> None:
    figure = figures.bars("A", [(1, " Paris", 0.6), (2, '<i>"', 0.1)], "#2f7fd1", reference=[1])
    assert list(figure.data[0].x) == [60.0, 10.0]
    assert list(figure.data[0].marker.opacity) == [1.0, 0.4]
    assert list(figure.layout.yaxis.ticktext) == ["␣Paris", '&lt;i&gt;"'], "plotly knows no &quot;"
    assert "“␣Paris” 60%" in figure.layout.title.text


def test_strips_begin_with_what_was_asked() -> None:
    pieces, kl = ["<sys>", "be", " kind", "Why", "?"], {"A": [9.0, 0.1, 0.2, 0.5, 0.3]}
    figure = figures.strip(pieces, kl, at=4, since=3)
    assert figure.layout.xaxis.range == (2.5, 4.5) and list(figure.layout.xaxis.ticktext) == ["Why", "?"]
    assert figure.data[1].customdata.ravel().tolist() == [3, 4], "a click names a token of the whole text"
    assert "after “Why”" in figure.layout.title.text
    drawn = sentence.strips("CoMe", pieces, [(0, 1), (1, 3)], [[0.0] * 5, [80.0, 1, 1, 4, 2]], at=4, since=3)
    assert drawn.layout.xaxis.range == (2.5, 4.5) and "by 3.0° on average" in drawn.layout.title.text
