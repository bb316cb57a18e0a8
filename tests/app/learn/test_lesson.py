"""What the lesson draws and asks is what was measured."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable

import numpy as np
import plotly.graph_objects as go
import pytest
from streamlit.testing.v1 import AppTest

import come
from app import example_runs
from app.figures import lesson, lesson_angle, lesson_bars, lesson_loop
from app.learn import angle, averaging, joining, looping, material, on_the_way, quiz, recovering, sensitivity
from app.learn.material import Material
from come.pruning.draft import draft
from come.report import looks
from tests.app.conftest import Lab

Visit = Callable[..., AppTest]


def test_the_lesson_activations_make_the_examples_sensitivity(of: Material) -> None:
    seen = of.activations
    np.testing.assert_allclose(
        seen.mean_activation * seen.reach, of.measured.mlp_sensitivity[seen.layer].numpy(), rtol=1e-3, atol=1e-3
    )


def test_the_drawn_angle_is_the_measured_influence(of: Material) -> None:
    np.testing.assert_allclose(
        angle.degrees(of, of.measured.span) / 180, of.measured.skip_influence.numpy(), rtol=1e-4, atol=1e-5
    )
    cosine = of.measured.similarity["cosine"].numpy()
    np.testing.assert_allclose(1 - np.diagonal(cosine, 1), of.measured.block_influence.numpy(), atol=1e-4)
    figure = lesson_angle.turned(30.0, np.array([10.0, 30.0]), told="30°", first=1, last=2, layers=4, title="x")
    tip = figure.layout.annotations[1]
    assert np.degrees(np.arctan2(tip.y, tip.x)) == pytest.approx(30)


def test_a_moved_token_counts_once(of: Material) -> None:
    seen = of.activations
    values = seen.activation[:, 3]
    moved = sensitivity.token_moved(seen, 3, 2, float(values[2]) + 17)
    assert moved.mean() - values.mean() == pytest.approx(17 / len(values), rel=1e-4)
    best, rank = sensitivity.ranked(seen, moved + 1e6, 3)
    assert rank == 1
    assert best > 1e6


def test_the_drawn_stripes_are_the_draft(of: Material) -> None:
    first, last = material.pairs(of.measured)[0]
    merge = draft(of.measured, windows=[(first, last)], ratios=[(0.25, 0.75)])[0]
    for ranked in (True, False):
        *sources, (new_groups, new_channels) = joining.stripes(of, merge, ranked=ranked)
        assert len(new_channels.source) == of.measured.mlp_sensitivity.shape[1]
        assert len(new_groups.source) == of.measured.kv_group_sensitivity.shape[1]
        for (_, channels), kept in zip(sources, merge.kept_channels, strict=True):
            assert sorted(channels.index[channels.source >= 0]) == kept
    assert 0 < joining.kept_sensitivity(of, merge) < 1
    figure = lesson.joined(*joining.stripes(of, merge, ranked=False), of.layers)
    drawn = figure.data[-2].z
    assert (drawn == 1).sum() == len(merge.kept_channels[0])
    assert (drawn == 2).sum() == len(merge.kept_channels[1])


@pytest.mark.parametrize(("share", "steps"), [(0.0, 0), (0.25, 1), (1.0, 0)])
def test_the_new_layers_second_source_is_dotted_and_begins_at_a_step(of: Material, share: float, steps: int) -> None:
    pair = material.pairs(of.measured)[0]
    merge = draft(of.measured, windows=[pair], ratios=[(share, 1 - share)])[0]
    figure = lesson.joined(*joining.stripes(of, merge, ranked=False), of.layers)
    assert len(figure.layout.shapes) == steps
    dotted = [trace for trace in figure.data if trace.type == "scatter"]
    assert len(dotted) == (share < 1)
    cells = sum((trace.customdata[..., 0] == pair[1]).sum() for trace in figure.data if trace.type == "heatmap")
    for trace in dotted:
        ends = [end for end in trace.x if end is not None]
        assert sum(right - left for left, right in zip(ends[::4], ends[1::4], strict=True)) == cells


def test_units_that_do_not_fill_the_last_line_are_all_drawn() -> None:
    values = np.arange(1.0, lesson.COLUMNS + 11)
    figure = lesson.stack(np.array([1.0, 2.0]), values, layer=0, heads=2, ranked=False)
    assert np.isfinite(figure.data[0].z).sum() == len(values)


def test_the_loop_follows_the_plan(of: Material) -> None:
    assert looping.groups_after(of, len(of.history)) == of.plan.groups()
    assert of.perplexities.keys() >= {30, 27, 24, 21}


def test_what_was_measured_on_the_way_ends_where_the_shipped_runs_do(of: Material) -> None:
    assert len(of.by_merge) == len(of.history) + 1
    for layers, (value, stderr) in of.perplexities.items():
        assert of.by_merge[of.layers - layers] == pytest.approx((value, stderr), rel=1e-3)
    (run,) = (run for run in example_runs.runs() if run.config.recover)
    again = json.loads(on_the_way.FILE.read_text("utf-8"))["recovery"]
    results = run.results()
    assert again["unrecovered"]["perplexity"] == pytest.approx(results["unrecovered"]["perplexity"], rel=1e-3)
    first = on_the_way.first_way(run)
    assert first is not None
    assert results["pruned"]["perplexity"] < first[0] < results["unrecovered"]["perplexity"]


def test_numbers_on_the_way_are_of_their_run_alone(of: Material, lab: Lab) -> None:
    run = lab.create(method="come", target_layers=4)
    assert on_the_way.merges(run) == [] and on_the_way.first_way(run) is None


def test_the_end_of_the_loop_is_drawn_from_what_was_measured(of: Material) -> None:
    values = [value for value, _ in of.by_merge]
    groups = looping.groups_after(of, len(of.history))
    figure = lesson_loop.ended(values, {27: 13.0, 21: 24.0}, groups, of.layers, "x")
    assert list(figure.data[0].y) == values and list(figure.data[0].x)[-1] == len(groups)
    assert list(figure.data[1].y) == [values[0], 13.0, 24.0]
    for line, method in zip(figure.data, ("come", "come-joint"), strict=False):
        look = looks.style(method, list(come.methods()))
        assert (line.marker.symbol, line.marker.color) == (look.marker, look.color), "as on every page"
    assert len(figure.layout.shapes) == of.layers
    steep = dataclasses.replace(of, by_merge=[(10.0, 1.0), (11.0, 1.0), (12.0, 1.0), (20.0, 1.0)])
    assert looping.came_to(steep).endswith("perplexity 10.0 to 20.0, half of the rise by the last merge")
    even = dataclasses.replace(of, by_merge=[(10.0, 1.0), (11.0, 1.0), (12.0, 1.0), (13.0, 1.0)])
    assert looping.came_to(even).endswith("27 layers are left: perplexity 10.0 to 13.0")


def test_an_angle_is_told_in_as_many_digits_as_tell_it_from_the_others(of: Material) -> None:
    assert angle.in_degrees(np.array([17.2154, 17.2297, 20.0]), 0) == "17.22°"
    assert angle.in_degrees(np.array([17.2154, 17.2297, 20.0]), 2) == "20.0°"
    assert angle.in_degrees(np.array([1.0, 1.0]), 0) == "1.000°"
    for span in angle.SPANS:
        angles = angle.degrees(of, span)
        assert len({angle.in_degrees(angles, place) for place in range(len(angles))}) == len(angles)


def test_ways_to_merge_are_compared_before_any_recovery(of: Material) -> None:
    assert set(of.perplexities) & set(of.one_window) == {27, 24, 21}
    for found in (of.perplexities, of.one_window):
        by_size = [found[layers][0] for layers in sorted(found, reverse=True)]
        assert by_size == sorted(by_size), "the fewer layers, the higher the perplexity"
    recovered = [run.results() for run in example_runs.runs() if run.config.recover]
    assert recovered
    for results in recovered:
        assert of.one_window[results["unrecovered"]["layers"]][0] == results["unrecovered"]["perplexity"]


def test_what_is_found_about_averaging_is_what_was_measured(of: Material) -> None:
    for pair in material.pairs(of.measured):
        answers = averaging.shipped(of, pair)
        less = answers["concatenate"].perplexity < answers["average"].perplexity
        assert averaging.finding(answers, pair).startswith("Concatenating" if less else "Averaging")
        swapped = {
            "original": answers["original"],
            "concatenate": answers["average"],
            "average": answers["concatenate"],
        }
        assert averaging.finding(swapped, pair).startswith("Averaging" if less else "Concatenating")


@pytest.mark.parametrize("seed", range(1, 51))
def test_every_quiz_has_one_right_answer(of: Material, seed: int) -> None:
    asked = quiz.questions(of, seed)
    assert len(asked) == 5
    for question in asked:
        assert len(set(question.options)) == len(question.options) > 1
        assert 0 <= question.answer < len(question.options)


def test_no_question_has_its_answer_in_one_place_or_one_number(of: Material) -> None:
    sets = [quiz.questions(of, seed) for seed in range(1, 51)]
    for place in range(5):
        assert len({asked[place].answer for asked in sets}) > 1
    untouched = [asked[4] for asked in sets]
    assert len({question.options[question.answer] for question in untouched}) > 3
    for question in untouched:
        groups = looping.groups_after(of, int(str(question.view["merge-step"])))
        assert int(question.options[question.answer]) == sum(len(group) == 1 for group in groups)


def test_the_end_of_the_loop_says_how_many_layers_are_merges() -> None:
    none = np.array([])
    assert looping.finding(none, None, [[0, 1], [2], [3, 4]], 2).endswith(
        "3 layers are left; 2 of them are merges of two"
    )
    assert looping.finding(none, None, [[0, 1], [2], [3, 4, 5]], 3).endswith("2 of them are merges of 2 to 3")


def test_a_merge_names_the_originals_layers_that_it_takes() -> None:
    said = looping.finding(np.array([0.3, 0.1, 0.2]), (1, 2), [[0], [1, 2], [3], [4, 5]], 2)
    assert said.startswith("Merge 3 takes the original's layers 1–2 and 3: SBI 0.1000")
    assert looping.finding(np.array([0.3, 0.1]), (1, 2), [[0], [1], [2]], 0).startswith(
        "Merge 1 takes the original's layers 1 and 2:"
    )


def test_the_answers_follow_the_arrays(of: Material) -> None:
    flipped = dataclasses.replace(
        of.measured,
        mlp_sensitivity=1 / of.measured.mlp_sensitivity,
        similarity={**of.measured.similarity, "angular": 0.5 - of.measured.similarity["angular"]},
    )
    other = dataclasses.replace(of, measured=flipped)
    pairs = zip(quiz.questions(of, 3), quiz.questions(other, 3), strict=True)
    before, after = next(pair for place, pair in enumerate(pairs) if place == 1)
    assert before.options == after.options
    assert before.answer != after.answer


def test_refit_counts_add_up() -> None:
    known = material.facts()
    if known is None:
        pytest.skip("the bundled model is not installed")
    _, values, moved, _ = recovering.moved_by_refit(known)
    assert sum(values) == known.layer_parameters
    assert sum(moved) == 1


def test_recovery_that_did_not_help_is_said(lab: Lab) -> None:
    run = lab.create(method="come", target_layers=4, recover=["refit"])
    helped = recovering.Recovery(run, (10.0, 1.0), (30.0, 1.0), (20.0, 1.0))
    assert [stage.row for stage in helped.stages] == ["Original", "Pruned", "Recovered"]
    assert recovering.finding(helped, 1) == "CoMe, 4 layers: pruning took perplexity from 10.0 to 30.0"
    assert recovering.finding(helped, 2).startswith("CoMe, 4 layers: refit took")
    assert "50% of what pruning cost" in recovering.finding(helped, 2)
    worse = recovering.Recovery(run, (10.0, 1.0), (30.0, 1.0), (31.0, 1.0))
    assert "did not help" in recovering.finding(worse, 2)


def test_recovery_is_told_on_the_same_sequences(lab: Lab) -> None:
    run = lab.create(method="come", target_layers=4, recover=["refit"])
    found = recovering.Recovery(run, (10.0, 1.0), (30.0, 1.0), (20.0, 1.0))
    sides = {"original": [2.0, 3.0], "unrecovered": [2.5, 3.7], "pruned": [2.2, 3.4]}
    results = {side: {"losses": losses} for side, losses in sides.items()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(run), "results", lambda _: results)
        assert recovering.paired_words(found, 1) == (
            "Paired on the same 2 sequences, pruning adds 82 ± 18% to perplexity (0.60 ± 0.10 nats per token)."
        )
        assert recovering.paired_words(found, 2) == (
            "Paired on the same 2 sequences, recovery takes 25.9 ± 0.0% off perplexity (0.30 ± 0.00 nats per token)."
        )
        del results["unrecovered"]["losses"]
        assert recovering.paired_words(found, 1) == recovering.paired_words(found, 2) == ""


def test_what_is_not_shown_yet_has_its_row_and_no_bar() -> None:
    figure = lesson_bars.stages(["a", "b", "c"], [1.0, 3.0, 2.0], [0.1, 0.1, 0.1], [True, True, False], "x")
    assert list(figure.data[0].y) == ["a", "b"]
    assert [each.text for each in figure.layout.annotations][-1].endswith("c: ?")
    whole = lesson_bars.stages(["a", "b", "c"], [1.0, 3.0, 2.0], [0.1, 0.1, 0.1], [True] * 3, "x")
    assert whole.layout.xaxis.range == figure.layout.xaxis.range, "nothing moves when the next is shown"


def test_small_figures() -> None:
    bars = lesson_bars.perplexities(["a", "b"], [1.0, 2.0], [0.1, float("nan")], ["#000000", "#ffffff"], "x")
    assert isinstance(bars, go.Figure)
    assert lesson_bars.shown("\n  ") == "↵"
    assert lesson_bars.shown("  ") == "␣"
    assert "1 of 2 right, 1 open" in lesson_bars.score([True, False], [True, False]).layout.title.text
    assert angle.ordinal(1) == "1st"
    assert angle.ordinal(12) == "12th"
    assert angle.ordinal(23) == "23rd"
