"""The figures of the inspect page: true proportions, every kind of step, and small for a 7B-sized plan."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest
from hypothesis import given, settings

from app import theme
from app.figures import inspect, inspect_agreement, inspect_curves, inspect_layer, inspect_tree
from come.plan.agreement import agreement
from come.plan.plan import Plan
from come.plan.provenance import Provenance, follow, rewritten
from come.plan.steps import Average, Concatenate, Mask, Remove, Replace
from tests.plan.test_provenance import CHANNELS, GROUPS, large_plan, plan_of, plans

MERGE = Concatenate(
    window=(1, 2), ratio=[0.5, 0.5], kv_groups=[[0], [1, 2]], channels=[[0, 1], [2, 3, 4, 5]]
)  # of layers 1 and 2
EVEN = MERGE.model_copy(update={"channels": [[0, 1, 2], [3, 4, 5]]})
ALONE = MERGE.model_copy(update={"channels": [list(range(6)), []]})
SENSITIVITY = np.arange(1.0, 1 + 5 * CHANNELS, dtype=np.float32).reshape(5, CHANNELS)


def ffn(*steps: object, layers: int = 5) -> Provenance:
    return follow(plan_of(layers, *steps), "ffn", CHANNELS)


def attention(*steps: object, layers: int = 5) -> Provenance:
    return follow(plan_of(layers, *steps), "attention", GROUPS)


def ribbons(figure: go.Figure) -> list[go.Scatter]:
    return [
        trace for trace in figure.data if trace.type == "scatter" and trace.fill and "to new layer" in str(trace.text)
    ]


def stubs(figure: go.Figure) -> list[go.Scatter]:
    return [trace for trace in figure.data if trace.type == "scatter" and trace.fill and "at step" in str(trace.text)]


def test_ribbons_are_in_proportion_and_coloured_by_source() -> None:
    figure = inspect.puzzle(ffn(MERGE), 1)
    found = ribbons(figure)
    assert len(found) == 5  # one a source, however many channels
    by_source = {trace.line.color: trace for trace in found}
    first = by_source[theme.layer_color(1, 5)]
    ends = [float(np.ptp([first.y[0], first.y[-1]])), float(np.ptp([first.y[13], first.y[14]]))]
    whole = by_source[theme.layer_color(0, 5)]
    assert ends == pytest.approx([np.ptp([whole.y[0], whole.y[-1]]) * 2 / 6] * 2, abs=1e-3)
    assert "2 of 6 FFN channels (33%) from layer 1" in first.text
    assert len(stubs(figure)) == 2
    assert "4 of 6 FFN channels dropped at step 1" in stubs(figure)[0].text


def test_a_click_on_either_side_names_the_new_layer() -> None:
    handles = inspect.puzzle(ffn(MERGE, Remove(layers=[3])), 0).data[-2]
    assert handles.marker.opacity == 0
    left = [int(data[0]) for data in handles.customdata[:5]]
    assert left == [0, 1, 1, 2, -1]
    assert {int(data[0]) for data in handles.customdata[5:]} == {0, 1, 2}
    assert "New layer 1" in handles.text[5 + 5]


@settings(deadline=None, max_examples=40)
@given(plans())
def test_every_plan_is_drawn(plan: Plan) -> None:
    parts = follow(plan, "ffn", CHANNELS), follow(plan, "attention", GROUPS)
    open_layer = parts[0].most_mixed()
    values = np.random.default_rng(0).lognormal(size=parts[0].lost.shape).astype(np.float32)
    for origins in parts:
        figure = inspect.puzzle(origins, open_layer)
        pieces = [piece for layer in origins.final for piece in layer.pieces if piece.kind != "silenced"]
        assert len(ribbons(figure)) == len(pieces)
        assert len(stubs(figure)) == sum(bool(origins.losses(source)) for source in range(origins.layers))
        inspect_tree.tree(origins, [step.describe() for step in plan.steps]).to_json()
        inspect_layer.tiles(origins, open_layer).to_json()
    inspect_layer.pieces_bar(*parts, open_layer).to_json()
    inspect_layer.tiles(parts[0], open_layer, values).to_json()
    inspect_curves.curves(parts[0], open_layer, values).to_json()
    inspect_agreement.agreement(agreement(parts[0], parts[0]), "ffn").to_json()


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ((), "All 5 layers are as they were"),
        ((Remove(layers=[2]),), "1 layer is gone; no new layer mixes FFN channels"),
        ((MERGE,), "1 of 4 new layers is made of two layers; 80% of all FFN channels live on"),
        ((ALONE,), "The FFN channels of 1 layer are gone; no new layer mixes those of several"),
        ((Average(window=(0, 2), weights=[-1, 1, 1]),), "1 of 3 new layers is made of 3 layers"),
        ((Mask(channels={0: [0, 1, 2]}, parameters=1),), "10% of all FFN channels are silenced"),
    ],
)
def test_the_title_says_what_happened(steps: tuple[object, ...], words: str) -> None:
    assert inspect.finding(ffn(*steps)).startswith(words)


@pytest.mark.parametrize(
    ("steps", "place", "words"),
    [
        ((MERGE,), 1, "Layer 2 gives 67% of the FFN channels, the most of 2 sources"),
        ((EVEN,), 1, "Layers 1 and 2 each give 50% of the FFN channels, the most of 2 sources"),
        ((MERGE,), 0, "Layer 0 as it was"),
        ((Average(window=(0, 1), weights=[0.5, 0.5]),), 0, "Every weight is a weighted sum of those of layers 0 and 1"),
        ((Mask(channels={0: [0, 1, 2]}, parameters=1),), 0, "Layer 0, with 50% of its FFN channels and 0% of"),
    ],
)
def test_a_new_layer_is_told_in_a_sentence(steps: tuple[object, ...], place: int, words: str) -> None:
    assert inspect_layer.finding(ffn(*steps), attention(*steps), place).startswith(words)


def test_averages_are_dotted_and_say_their_weight() -> None:
    figure = inspect.puzzle(ffn(Average(window=(0, 2), weights=[-1.0, 1.0, 1.0])), 0)
    dotted = [trace for trace in ribbons(figure) if trace.fillpattern.shape == "."]
    assert len(dotted) == 3
    assert "weight −1" in dotted[0].text


def test_tiles_say_layer_channel_sensitivity_rank_and_where_it_went() -> None:
    figure = inspect_layer.tiles(ffn(MERGE), 1, SENSITIVITY, "index")
    points = [trace for trace in figure.data if trace.type == "scattergl"]
    found = {(int(row[0]), int(row[1])): (row, trace) for trace in points for row in trace.customdata}
    assert len(found) == 2 * CHANNELS
    kept, trace = found[1, 1]
    assert kept[3:].tolist() == [SENSITIVITY[1, 1], 5, 1] and "kept" in trace.hovertemplate
    dropped, trace = found[1, 5]
    assert dropped[3:].tolist() == [SENSITIVITY[1, 5], 1, 1] and "lost at step" in trace.hovertemplate
    assert found[2, 2][0][5] == 2  # after the two of layer 1
    ranked = inspect_layer.tiles(ffn(MERGE), 1, SENSITIVITY, "rank")
    heat = next(trace for trace in ranked.data if trace.type == "heatmap")
    assert heat.z.ravel().tolist() == [0, 0, 0, 0, 200, 200]


@pytest.mark.parametrize("order", ["rank", "index"])
def test_the_tile_of_the_unit_that_is_followed_is_framed(order: inspect_layer.Order) -> None:
    figure = inspect_layer.tiles(ffn(MERGE), 1, SENSITIVITY, order, followed=(2, 5))
    (frame,) = figure.layout.shapes
    middle = ((frame.x0 + frame.x1) / 2, (frame.y0 + frame.y1) / 2)
    points = [trace for trace in figure.data if trace.type == "scattergl"]
    at = {(x, y): row for trace in points for x, y, row in zip(trace.x, trace.y, trace.customdata, strict=True)}
    assert at[middle][:2].tolist() == [2, 5]
    assert not inspect_layer.tiles(ffn(MERGE), 1, SENSITIVITY, order, followed=(0, 5)).layout.shapes
    assert not inspect_layer.tiles(ffn(MERGE), 1, SENSITIVITY, order, followed=(2, 9)).layout.shapes


def test_many_channels_are_put_together() -> None:
    units = 40_000
    kept = [list(range(0, units, 2)), list(range(0, units, 2))]
    merge = Concatenate(window=(0, 1), ratio=[0.5, 0.5], kv_groups=[[0], [1, 2]], channels=kept)
    figure = inspect_layer.tiles(follow(plan_of(3, merge), "ffn", units), 0)
    points = [trace for trace in figure.data if trace.type == "scattergl"]
    assert sum(len(trace.x) for trace in points) <= inspect_layer.MAX_TILES
    assert all("of 4 kept" in trace.hovertemplate for trace in points)


def test_the_cut_is_where_as_many_are_kept() -> None:
    figure = inspect_curves.curves(ffn(MERGE), 1, SENSITIVITY)
    marks = [trace for trace in figure.data if trace.type == "scatter" and trace.marker.symbol == "line-ns"]
    assert {(trace.x[0], trace.y[0]) for trace in marks} == {(2, SENSITIVITY[1, 4]), (4, SENSITIVITY[2, 2])}
    flags = sorted((label for label in figure.layout.annotations if label.yref != "y2"), key=lambda label: label.x)
    labels = {label.text: (label.x, label.y) for label in flags}
    heights = {"layer 1: 2": (2, SENSITIVITY[1, 4]), "layer 2: 4": (4, SENSITIVITY[2, 2])}
    assert {text: x for text, (x, _) in labels.items()} == {text: x for text, (x, _) in heights.items()}
    assert all(labels[text][1] == pytest.approx(math.log10(y)) for text, (_, y) in heights.items()), "at their marks"
    assert flags[0].ay > flags[1].ay > max(label.y for label in flags), "apart, above the marks, and none crosses"
    # Layer 1 keeps its two least sensitive, layer 2 its four most.
    assert figure.layout.title.text == "4 of the 6 FFN channels kept lie left of the cut"
    assert inspect_curves.marks(figure) == "Dotted: dropped. Bars: the share kept, by rank. Upright lines: the cuts."
    assert inspect_curves.marks(inspect_curves.curves(BIG, BIG.most_mixed(), WIDE)).startswith("Dotted: most dropped.")


def test_where_nothing_is_cut_the_title_says_what_stays() -> None:
    of_first = attention(MERGE.model_copy(update={"kv_groups": [list(range(GROUPS)), []]}))
    figure = inspect_curves.curves(of_first, 1, np.ones((5, GROUPS)))
    assert figure.layout.title.text == "All KV groups of layer 1 stay, none of layer 2"
    assert not [trace for trace in figure.data if trace.type == "bar"]
    assert [note.text for note in figure.layout.annotations] == ["layer 1: all", "layer 2: none"]
    assert not inspect_curves.sources_cut(of_first, 1)
    assert inspect_layer.finding(ffn(MERGE), of_first, 1, "attention") == "Layer 1 gives all KV groups"
    assert inspect_layer.finding(ffn(MERGE), attention(MERGE), 1, "attention").startswith("Layer 2 gives 67% of the KV")
    assert inspect_curves.marks(figure) == "Dotted: dropped."
    whole = inspect_curves.curves(of_first, 0, np.ones((5, GROUPS)))
    assert whole.layout.title.text == "All KV groups of layer 0 are kept" and not inspect_curves.marks(whole)
    chosen = inspect_curves.curves(attention(MERGE), 1, SENSITIVITY[:, :GROUPS])
    assert chosen.layout.title.text == "2 of the 3 KV groups kept lie left of the cut"
    assert inspect_curves.sources_cut(ffn(MERGE), 1) == [1, 2]


@pytest.mark.parametrize(
    ("one", "other", "drawn", "not_drawn"),
    [
        ((MERGE,), (EVEN,), ("Dashes", "Grey"), ("Pale", "✕", "No bar")),
        ((MERGE,), (Remove(layers=[1]),), ("Pale", "Grey", "No bar"), ("Dashes", "✕")),
        ((Remove(layers=[1]),), (Remove(layers=[1]),), ("✕: nothing of it stays in either run.",), ("Dashes", "Pale")),
    ],
)
def test_the_caption_names_the_marks_that_are_drawn(
    one: tuple[Any, ...], other: tuple[Any, ...], drawn: tuple[str, ...], not_drawn: tuple[str, ...]
) -> None:
    found = agreement(ffn(*one), ffn(*other))
    told = inspect_agreement.marks(found)
    assert ("Chance" in inspect_agreement.how_sure(found, "ffn")) == ("Dashes" in drawn)
    assert all(mark in told for mark in drawn) and not any(mark in told for mark in not_drawn)


def test_under_the_curves_lies_what_the_cut_leaves_on_either_side() -> None:
    figure = inspect_curves.curves(ffn(MERGE), 1, SENSITIVITY)
    first, second = [trace for trace in figure.data if trace.type == "bar"]
    assert [list(row.customdata[:, 2]) for row in (first, second)] == [[0, 0, 0, 0, 1, 1], [1, 1, 1, 1, 0, 0]]
    told = [label.text for label in figure.layout.annotations if label.yref == "y2"]
    assert told == ["2 right of it"], "of the six kept, a third: those that the title leaves out"
    assert figure.layout.yaxis2.domain[1] < figure.layout.yaxis.domain[0], "below, over the same ranks"
    whole = inspect_curves.curves(ffn(), 0, SENSITIVITY)
    assert not [trace for trace in whole.data if trace.type == "bar"], "nothing is cut"


def test_the_rows_add_up_to_the_title() -> None:
    figure = inspect_curves.curves(BIG, BIG.most_mixed(), WIDE)
    left = kept = 0.0
    for row, cut in zip(
        (trace for trace in figure.data if trace.type == "bar"),
        (trace.x[0] for trace in figure.data if trace.type == "scatter" and trace.marker.symbol == "line-ns"),
        strict=True,
    ):
        counts = row.customdata[:, 2] * np.asarray(row.width)
        left, kept = left + counts[row.customdata[:, 1] <= cut].sum(), kept + counts.sum()
    assert figure.layout.title.text.startswith(f"{left / kept:.0%} ")


def test_the_tree_shows_every_kind_of_step() -> None:
    again = Concatenate(window=(1, 2), ratio=[0.5, 0.5], kv_groups=[[0], [0, 1]], channels=[[0], [1, 2, 3, 4, 5]])
    put = Replace(file="w.safetensors", sha256="0", tensors=["model.layers.0.mlp.down_proj.weight"], made_by="refit")
    plan = plan_of(8, MERGE, again, Remove(layers=[4]), Average(window=(2, 3), weights=[0.5, 0.5]), put)
    origins = follow(plan, "ffn", CHANNELS)
    figure = inspect_tree.tree(origins, [step.describe() for step in plan.steps], rewritten(plan))
    (line,) = figure.layout.shapes
    assert (line.x0, line.x1, line.y0, line.y1) == (-0.5, 0.5, 5, 5), "across the one layer whose weights are new"
    assert figure.layout.title.text == "8 layers become 4 in 5 steps (1 only changes weights)"
    alone = follow(plan_of(8, MERGE, again), "ffn", CHANNELS)
    assert inspect_tree.finding(alone).endswith("; layers 1 to 3 end in one, merged more than once")
    assert inspect_tree.finding(ffn(MERGE)) == "5 layers become 4 in 1 step, which joins a pair"
    marks = next(trace for trace in figure.data if trace.mode == "markers")
    assert sorted(marks.marker.symbol) == ["circle", "circle", "diamond", "triangle-right", "x"]
    assert all(text.startswith("Step ") for text in marks.text)


def test_agreement_says_the_mean_against_chance() -> None:
    found = agreement(ffn(MERGE), ffn(EVEN))
    told = inspect_agreement.finding(found, "ffn")
    assert told.startswith("In the 2 layers where both runs choose, they share 71%") and told.endswith("give 32%")
    once = agreement(ffn(MERGE), ffn(Remove(layers=[1])))  # one keeps nothing of layer 1, and all of layer 2
    assert inspect_agreement.finding(once, "ffn").startswith("Nothing to compare: in no layer do both runs")
    bars, *dashes = inspect_agreement.agreement(once, "ffn").data
    assert list(bars.marker.opacity) == [1, inspect_agreement.PALE, inspect_agreement.PALE, 1, 1] and not dashes
    assert "agree on all" in inspect_agreement.finding(agreement(ffn(), ffn()), "ffn")
    gone = ffn(Remove(layers=[0, 1, 2, 3]))
    assert "both runs drop all FFN channels" in inspect_agreement.finding(agreement(gone, gone), "ffn")
    mean = ffn(Average(window=(0, 1), weights=[0.5, 0.5]))
    assert "averaged keep no FFN channels" in inspect_agreement.finding(agreement(mean, mean), "ffn")


LARGE = large_plan()
BIG, BIG_GROUPS = follow(LARGE, "ffn", 11008), follow(LARGE, "attention", 32)
WIDE = np.random.default_rng(0).lognormal(size=(32, 11008)).astype(np.float32)
DRAWN: dict[str, Callable[[], go.Figure]] = {
    "puzzle": lambda: inspect.puzzle(BIG, BIG.most_mixed()),
    "puzzle of groups": lambda: inspect.puzzle(BIG_GROUPS, 3),
    "pieces": lambda: inspect_layer.pieces_bar(BIG, BIG_GROUPS, BIG.most_mixed()),
    "tiles": lambda: inspect_layer.tiles(BIG, BIG.most_mixed(), WIDE),
    "curves": lambda: inspect_curves.curves(BIG, BIG.most_mixed(), WIDE),
    "tree": lambda: inspect_tree.tree(BIG, [step.describe() for step in LARGE.steps]),
    "agreement": lambda: inspect_agreement.agreement(agreement(BIG, BIG), "ffn"),
}


@pytest.mark.parametrize("name", DRAWN)
def test_figures_of_a_large_model_are_small_and_quick(name: str) -> None:
    begun = time.perf_counter()
    sent = DRAWN[name]().to_json()
    assert time.perf_counter() - begun < 3  # half a second where nothing else runs
    assert len(sent) < 1_000_000
