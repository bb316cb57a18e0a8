"""The figures of the compare page."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from app.figures import compare as figures
from app.figures import compare_heatmap, compare_paired
from app.figures.compare_finding import finding
from come.report import paired, verdict
from come.report.looks import style
from come.report.measured import Result, Value
from come.report.metrics import LAYERS, PARAMETERS, PERPLEXITY, SPARSITY, metric, number
from come.report.points import of_original, points
from tests.app.synthetic import read, result

TITLES = {"come": "CoMe", "come-p": "CoMe-P", "random": "Random", "shortgpt": "ShortGPT", "sleb": "SLEB"}
ORIGINAL = result("original", 30, 40.5, 1.0)
THREE = [result("come", 27, 59.6), result("shortgpt", 27, 55.6), result("random", 27, 90.0)]
SURE = [result("come", 27, 59.6, 0.1), result("shortgpt", 27, 55.6, 0.1), result("random", 27, 90.0, 0.1)]


def drawn(results: list, size=LAYERS, kind=PERPLEXITY, **options: object):
    return figures.lines(
        points(results, kind, size), of_original([ORIGINAL], kind, size), kind, size, list(TITLES), **options
    )


def by_name(figure) -> dict:
    return {trace.name: trace for trace in figure.data if trace.showlegend is not False}


def test_every_line_starts_at_the_original() -> None:
    figure = drawn([*THREE, result("come", 24, 114.0, 4.0)])
    ways = [trace for trace in figure.data if trace.mode == "lines"]
    assert len(ways) == 3
    assert all(trace.x[0] == 30 and trace.y[0] == 40.5 for trace in ways)
    shown = by_name(figure)
    assert set(shown) == {"CoMe", "ShortGPT", "Random", "original"}
    assert len({trace.marker.symbol for trace in shown.values()}) == 4
    assert shown["CoMe"].error_y.array == (0, 4.0)
    assert figure.layout.xaxis.range[0] > figure.layout.xaxis.range[1]
    assert "perplexity" in figure.layout.yaxis.title.text and "layers" in figure.layout.xaxis.title.text


def test_come_is_drawn_last_and_named_first() -> None:
    figure = drawn(THREE)
    named = [trace for trace in figure.data if trace.showlegend is not False and trace.name != "original"]
    assert named[-1].name == "CoMe"
    assert min(named, key=lambda trace: trace.legendrank).name == "CoMe"


def test_seeds_are_faint_points_behind_their_mean() -> None:
    figure = drawn([result("come", 27, 60.0, seed=0), result("come", 27, 64.0, seed=1)])
    mean = by_name(figure)["CoMe"]
    (faint,) = [trace for trace in figure.data if trace.opacity == figures.FAINT and trace.mode == "markers"]
    assert mean.y == (62.0,) and faint.y == (60.0, 64.0)
    assert mean.customdata[0][0] == "run-come-27-0 run-come-27-1"
    assert mean.customdata[0][4] == "mean of 2 seeds: 60.0 · 64.0" and faint.hoverinfo == "skip"


def test_the_front_is_ringed() -> None:
    figure = drawn([*THREE, result("shortgpt", 24, 114.0), result("come", 24, 85.0)])
    (rings,) = [trace for trace in figure.data if trace.name == "front"]
    assert sorted(rings.y) == [55.6, 85.0]


def test_far_apart_perplexities_are_on_a_log_axis_and_accuracies_never() -> None:
    far = [*THREE, result("random", 24, 9000.0)]
    figure = figures.perplexity_figure(far, ORIGINAL, TITLES, "parameters", plan=24 * 10**6)
    assert figure.layout.yaxis.type == "log" and figure.layout.xaxis.title.text.startswith("parameters")
    assert figures.perplexity_figure([], None, TITLES).layout.yaxis.type == "linear"
    share = [result("come", 27, retention=Value(0.9)), result("sleb", 27, retention=Value(0.01))]
    assert drawn(share, kind=metric("retention")).layout.yaxis.type == "linear"


def test_what_fell_to_pieces_is_an_arrow_and_squeezes_nothing() -> None:
    broken = [*THREE, result("random", 24, 9e6), result("come", 24, 110.0), result("shortgpt", 24, 84.0)]
    figure = drawn(broken)
    (arrow,) = [trace for trace in figure.data if trace.marker.symbol == "triangle-up" and not trace.name]
    assert arrow.customdata[0][0] == "run-random-24-0" and arrow.customdata[0][3] == PERPLEXITY.say(9e6)
    low, high = figure.layout.yaxis.range
    assert 10**low < 40.5 and 10**high < 5000 and 10**low < arrow.y[0] < 10**high
    assert by_name(figure)["Random"].y == (90.0, 9e6)  # the line still goes where it goes
    assert max(figure.layout.yaxis.tickvals) <= 10**high and "off the scale" in figure.layout.yaxis.title.text
    whole = drawn([*THREE, result("random", 24, 900.0)])
    assert whole.layout.yaxis.range is None and "off the scale" not in whole.layout.yaxis.title.text


def test_a_predicted_plan_is_a_diamond_with_its_error_and_far_off_an_arrow() -> None:
    far = [*THREE, result("random", 24, 9e6), result("come", 24, 110.0), result("shortgpt", 24, 84.0)]
    for value, symbol, error in ((90.0, "diamond", (7.0,)), (90.0, "diamond", None), (50_000.0, "triangle-up", None)):
        predicted = Value(value, 7.0 if error or value > 90 else None)
        figure = figures.perplexity_figure(far, ORIGINAL, TITLES, "parameters", plan=24 * 10**6, predicted=predicted)
        (mark,) = (trace for trace in figure.data if trace.name == "this plan, predicted")
        assert mark.marker.symbol == symbol and mark.mode == "markers"  # its words are in the legend: none is cut
        assert mark.y[0] <= 10 ** figure.layout.yaxis.range[1]
        assert mark.error_y.array == mark.error_y.arrayminus == error
        assert ("90.0 ± 7.0" in mark.hovertemplate) is bool(error)


def test_kl_on_a_log_axis_has_no_original() -> None:
    near = [result("come", 27, kl=Value(0.5)), result("sleb", 27, kl=Value(1.0))]
    assert "original" in by_name(drawn(near, kind=metric("kl")))
    wide = [*near, result("random", 27, kl=Value(9.0))]
    figure = drawn(wide, kind=metric("kl"))
    assert figure.layout.yaxis.type == "log" and "original" not in by_name(figure)


def test_chance_is_a_line_of_its_own() -> None:
    share = [result("come", 27, accuracy=Value(0.4, chance=0.25))]
    figure = drawn(share, kind=metric("accuracy"), chance=0.25)
    assert [note.text for note in figure.layout.annotations] == ["chance"]
    assert figure.layout.shapes[-1].y0 == 25.0


def test_smaller_models_are_to_the_right_on_every_axis() -> None:
    for size in (LAYERS, PARAMETERS):
        first, last = drawn(THREE, size).layout.xaxis.range
        assert first > last
    first, last = drawn(THREE, SPARSITY).layout.xaxis.range
    assert first < last


@pytest.mark.parametrize(
    ("more", "title"),
    [
        ([], "ShortGPT loses least at 27 layers"),
        (
            [result("come", 24, 80.0, 0.1), result("shortgpt", 24, 87.8, 0.1)],
            "Which method loses least depends on the size",
        ),
        ([result("come", 24, 90.0, 0.1), result("shortgpt", 24, 87.8, 0.1)], "ShortGPT loses least at both sizes"),
    ],
)
def test_the_title_says_the_finding(more: list, title: str) -> None:
    assert finding(points([*SURE, *more], PERPLEXITY), PERPLEXITY) == title
    assert finding([], PERPLEXITY) == "Perplexity: no run to show yet"
    close = [result("come", 27, 59.6, 3.0), result("shortgpt", 27, 55.6, 3.0)]
    assert finding(points(close, PERPLEXITY), PERPLEXITY) == "Perplexity: the best cannot be told apart"


def test_a_plan_by_hand_is_no_other_method() -> None:
    by_hand = replace(result("shortgpt", 24, 60.0, 0.1), series="ShortGPT, windows by hand")
    drawn = points([*SURE, result("come", 24, 80.0, 0.1), by_hand], PERPLEXITY)
    assert finding(drawn, PERPLEXITY) == "ShortGPT loses least at both sizes"


def test_a_size_where_one_method_ran_is_no_comparison() -> None:
    alone = [result("come", 24, 80.0, 0.1), result("random", 24, 900.0, 0.1)]  # random removal is a reference
    told = "ShortGPT loses least at 27 layers, the one size with rivals"
    assert finding(points([*SURE, *alone], PERPLEXITY), PERPLEXITY) == told
    assert "24" not in " ".join(verdict.sentences([*SURE, *alone], []))


def test_names_are_text_in_every_figure() -> None:
    link = "<a href=//evil.example>x</a>"
    evil = [replace(each, name=f"{link} {each.name}", series=f"{each.series} {link}") for each in THREE]
    for only in (evil, evil[:1]):  # the titles are others
        found = points(only, PERPLEXITY)
        for figure in (drawn(only), compare_heatmap.heatmap(found, PERPLEXITY)):
            document = json.loads(figure.to_json())
            assert "evil.example" in str(document) and "<a" not in str(document)


def test_numbers_are_short() -> None:
    assert [number(value) for value in (8.03, 193.4, 12345.6, 3.2e7)] == ["8.0", "193", "12,346", "3.2 × 10⁷"]


def test_methods_are_told_apart_by_more_than_colour() -> None:
    family = ["come", "come-joint", "come-p"]
    assert len({style(name).color for name in family}) == len({style(name).marker for name in family}) == len(family)
    names = [*family, *(f"method-{place}" for place in range(14)), "random"]
    looks = [style(name, names) for name in names]
    assert len({(look.color, look.marker) for look in looks}) == len(names)
    assert style("method-9", names) == style("method-9", names)
    assert style("come", names, 1) != style("come", names)


def test_forty_five_runs_of_fifteen_methods_fit() -> None:
    names = ["come", *(f"method-{place}" for place in range(14))]
    runs = [result(name, layers, 50.0 + place, 1.0) for place, name in enumerate(names) for layers in (27, 24, 21)]
    figure = figures.lines(points(runs, PERPLEXITY), None, PERPLEXITY, LAYERS, names)
    assert figure.layout.height > 420
    spots = {trace.x[1] for trace in figure.data if trace.name in by_name(figure)}
    assert len(spots) == 15 and max(spots) - min(spots) < 3  # aside, but not into the next size
    assert len(json.dumps(figure.to_plotly_json(), default=str)) < 200_000


def test_the_heatmap_frames_the_best_of_each_column() -> None:
    runs = [*THREE, result("come", 24, 80.0), result("shortgpt", 24, 87.8)]
    figure = compare_heatmap.heatmap(points(runs, PERPLEXITY), PERPLEXITY)
    names = list(figure.layout.yaxis.ticktext)
    assert names[0] in ("ShortGPT", "CoMe") and names[-1] == "Random"
    cells = figure.data[1]
    assert {text for text in cells.text if text.startswith("<b>")} == {"<b>55.6</b>", "<b>80.0</b>"}
    assert len(figure.layout.shapes) == 2
    assert len(figure.data[2].x) == 1  # Random at 24 layers: a gap
    found = compare_heatmap.finding(points(runs, PERPLEXITY), PERPLEXITY)
    assert found == "Perplexity: ShortGPT ranks first at 1 of 2 sizes, CoMe at 1"


def test_titles_speak_of_the_models_that_the_verdict_judges() -> None:
    """The best before recovery may be another one than the best of all."""
    mended = replace(result("shortgpt", 24, 50.0, 0.1), series="ShortGPT + refit", recovered=True)
    runs = [*SURE, result("come", 24, 80.0, 0.1), result("shortgpt", 24, 77.8, 0.1), mended]
    found = points(runs, PERPLEXITY)
    assert finding(found, PERPLEXITY, False) == "Before recovery: ShortGPT loses least at both sizes"
    assert drawn(runs, recovered=False).layout.title.text == "Before recovery: ShortGPT loses least at both sizes"
    assert "both" not in finding(found, PERPLEXITY)
    assert finding(found, PERPLEXITY, True) == "After recovery: ShortGPT + refit: perplexity 50.0"
    assert finding(found[:-1], PERPLEXITY, False) == "ShortGPT loses least at both sizes"
    assert verdict.sentences(runs, [ORIGINAL])[0].startswith("At 27 layers, before recovery, ShortGPT loses least")
    figure = compare_heatmap.heatmap(found, PERPLEXITY, recovered=False)
    assert figure.layout.title.text == "Perplexity before recovery: ShortGPT ranks first at both sizes"
    names = list(figure.layout.yaxis.ticktext)
    assert names[-1] == "ShortGPT + refit" and tuple(figure.data[0].z[-1]) == (None, None)
    assert {text for text in figure.data[1].text if text.startswith("<b>")} == {"<b>55.6</b>", "<b>77.8</b>"}


def test_in_the_heatmap_more_is_better_where_it_is() -> None:
    runs = [result("come", 27, retention=Value(0.9)), result("sleb", 27, retention=Value(0.5))]
    figure = compare_heatmap.heatmap(points(runs, metric("retention")), metric("retention"))
    assert list(figure.layout.yaxis.ticktext) == ["CoMe", "SLEB"]
    assert list(figure.data[1].text) == ["<b>90.0 %</b>", "50.0 %"]


def test_where_all_are_alike_none_is_best() -> None:
    alike = [result(name, 27, weights=Value(1e8)) for name in ("come", "sleb")]
    weights = metric("weights")
    figure = compare_heatmap.heatmap(points(alike, weights), weights)
    assert not figure.layout.shapes and not any(text.startswith("<b>") for text in figure.data[1].text)
    assert finding(points(alike, weights), weights) == "Memory of the weights: the best are alike at every size"


# --- paired differences ------------------------------------------------------------------------------


def rows(*results: Result, reference: int = 0):
    ranked = paired.ranked(points(results, PERPLEXITY), PERPLEXITY)
    against = ranked[reference]
    found = [None if each is against else paired.difference(each, against, PERPLEXITY) for each in ranked]
    return compare_paired.differences(ranked, found, against, PERPLEXITY, list(TITLES), "what it says")


HARD = (3.1, 3.9, 4.4, 2.8)


def shifted(method: str, more: float, *, wide: float = 0.001) -> Result:
    return read(method, 27, [loss + more + wide * (-1) ** place for place, loss in enumerate(HARD)])


def test_differences_stand_in_rank_with_their_intervals() -> None:
    figure = rows(shifted("shortgpt", 0.2), shifted("come", 0.0), shifted("sleb", 0.1, wide=0.2))
    assert [trace.customdata[0][1] for trace in figure.data] == ["CoMe", "SLEB", "ShortGPT"]
    assert [trace.x[0] for trace in figure.data] == pytest.approx([0.0, 0.1, 0.2], abs=1e-3)
    assert [trace.marker.symbol.endswith("-open") for trace in figure.data] == [False, True, False]
    last, first = points([shifted("shortgpt", 0.2), shifted("come", 0.0)], PERPLEXITY)
    assert figure.data[2].error_x.array[0] == pytest.approx(paired.difference(last, first, PERPLEXITY).reach, abs=1e-9)
    assert any(note.text == "× 1.22 (1.22–1.22)" for note in figure.layout.annotations)


def test_the_words_beside_a_bar_are_its_ends_and_the_axis_has_ticks_as_far_as_bars_go() -> None:
    figure = rows(shifted("come", 0.0), shifted("shortgpt", 0.3, wide=0.05))
    bar = figure.data[1]
    low, high = (math.exp(bar.x[0] + side * bar.error_x.array[0]) for side in (-1, 1))
    assert f"× {math.exp(bar.x[0]):.2f} ({low:.2f}–{high:.2f})" in [note.text for note in figure.layout.annotations]
    ticks = [math.exp(tick) for tick in figure.layout.xaxis.tickvals]
    assert high - ticks[-1] < ticks[-1] - ticks[-2] and figure.layout.xaxis.ticktext[0] == "× 1"


def test_what_lies_far_off_is_an_arrow_and_does_not_squeeze_the_rest() -> None:
    near = [shifted("come", 0.0), shifted("shortgpt", 0.1), shifted("sleb", 0.2)]
    figure = rows(*near, shifted("random", 7.0))
    far = figure.data[-1]
    assert far.marker.symbol == "triangle-right" and far.x[0] < 1
    assert figure.layout.xaxis.range[1] < 1
    assert any(note.text == "× 1,097" for note in figure.layout.annotations)


def test_the_rival_in_the_middle_stands_at_the_line() -> None:
    figure = rows(shifted("come", 0.0), shifted("shortgpt", 0.1), shifted("sleb", 0.2), reference=1)
    assert [trace.x[0] for trace in figure.data] == pytest.approx([-0.1, 0.0, 0.1], abs=1e-6)
    json.dumps(figure.to_plotly_json(), default=str)


def test_names_of_rows_are_text_not_markup() -> None:
    evil = replace(shifted("come", 0.0), series="<img src=x>")
    assert "&lt;img" in rows(evil, shifted("sleb", 0.2)).layout.annotations[0].text


def test_what_is_as_deep_stands_evenly_about_its_size_and_what_is_alone_at_it() -> None:
    figure = drawn([*THREE, result("sleb", 28, 55.0)])
    spots = {trace.name: trace.x[-1] for trace in figure.data if trace.mode == "lines+markers"}
    left, middle, right = sorted(spots[TITLES[each.method]] - 27 for each in THREE)
    assert middle == pytest.approx(0) and left == pytest.approx(-right) and right > 0
    assert spots["SLEB"] == pytest.approx(28)


def test_on_another_axis_than_layers_everything_stands_where_it_is() -> None:
    figure = drawn(THREE, PARAMETERS)
    spots = {trace.name: trace.x[-1] for trace in figure.data if trace.mode == "lines+markers"}
    sizes = {point.series: point.size for point in points(THREE, PERPLEXITY, PARAMETERS)}
    assert spots == sizes
