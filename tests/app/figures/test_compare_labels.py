"""Names at the lines' ends: none lies on another, and where there is no room for them the legend stays."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import plotly.graph_objects as go
import pytest

import come
from app.figures import compare, compare_labels
from come.report.measured import Result
from come.report.metrics import LAYERS, PERPLEXITY
from come.report.points import points
from tests.app.synthetic import result

TITLES = {name: method.title for name, method in come.methods().items()}
ORIGINAL = result("original", 30, 40.0)


def named(*results: Result) -> go.Figure:
    figure = compare.perplexity_figure(results, ORIGINAL, TITLES)
    return compare_labels.at_ends(figure, points(results, PERPLEXITY, LAYERS))


def pixels(figure: go.Figure) -> dict[str, float]:
    """How high each name stands."""
    low, high = figure.layout.yaxis.range
    margin = figure.layout.margin
    scale = (figure.layout.height - margin.t - margin.b) / (high - low)
    up = {each.text: -each.ay if each.showarrow else each.yshift for each in figure.layout.annotations}
    return {each.text: scale * (each.y - low) + up[each.text] for each in figure.layout.annotations}


@pytest.mark.parametrize("values", [(50.0, 60.0, 70.0), (50.0, 50.1, 50.2), (40.0, 40.0, 40.0), (50.0, 60.0, 9000.0)])
def test_no_name_lies_on_another_or_off_the_chart(values: tuple[float, float, float]) -> None:
    methods = ("come", "shortgpt", "sleb")
    figure = named(*(result(method, 27, value) for method, value in zip(methods, values, strict=True)))
    assert not figure.layout.showlegend
    heights = pixels(figure)
    assert set(heights) == {"CoMe", "ShortGPT", TITLES["sleb"], "original"}
    leads = [trace for trace in figure.data if trace.mode == "lines" and trace.x[1] == figure.layout.xaxis.range[1]]
    assert len(leads) == len(methods), "a line of each one's colour leads to its name, at the plot's edge"
    assert {each.x for each in figure.layout.annotations} == {figure.layout.xaxis.range[1]}
    assert all(high - low >= 15 for low, high in pairwise(sorted(heights.values())))
    assert all(-10 <= height <= figure.layout.height for height in heights.values())


def test_a_line_that_ends_before_the_others_is_named_below_the_originals_line() -> None:
    figure = named(result("come", 27, 60.0), result("shortgpt", 28, 41.0))
    heights = pixels(figure)
    original = next(each for each in figure.layout.annotations if each.text.endswith("original"))
    middle = next(each for each in figure.layout.annotations if each.text.endswith("ShortGPT"))
    assert middle.x == pytest.approx(28, abs=0.1) and middle.yanchor == "top" and original.yshift == 0
    assert heights["ShortGPT"] <= heights["original"] - 10, "below its star, too"
    assert middle.showarrow and middle.arrowhead == 0, "a line leads from its point to its name"


def test_where_names_are_many_the_legend_stays() -> None:
    many = [result(name, 27, 50.0 + place) for place, name in enumerate(list(TITLES)[:8])]
    figure = named(*many)
    assert figure.layout.showlegend and not figure.layout.annotations


def test_a_variant_is_named_by_what_is_its_own_where_its_method_has_a_line() -> None:
    by_hand = replace(result("come", 28, 45.0), series="CoMe, windows by hand")
    assert "windows by hand" in pixels(named(result("come", 27, 60.0), by_hand))
    assert "CoMe,<br>windows by hand" in pixels(named(result("shortgpt", 27, 60.0), by_hand))
