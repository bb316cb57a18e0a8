"""The lesson: every step opens from a link, says what the arrays say, and measures in a thread."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest
from streamlit.testing.v1 import AppTest

from app import example_runs
from app.figures import lesson, lesson_angle, lesson_bars
from app.learn import angle, averaging, joining, looping, material, quiz, recovering, sensitivity
from app.learn.material import Material
from come.errors import ComeError
from come.pruning.draft import draft
from come.serving.cancellation import Cancelled
from come.serving.resident.connection import LiveFault
from come.serving.whatif.answer import Answer
from come.serving.whatif.question import Question, Subject
from tests.app.conftest import Lab

Visit = Callable[..., AppTest]


@pytest.fixture(scope="module")
def of() -> Material:
    loaded = material.load()
    assert loaded is not None
    return loaded


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    yield
    material._load.cache_clear()


def fine(at: AppTest) -> AppTest:
    assert not at.exception
    assert not [error.value for error in at.error]
    return at


def press(at: AppTest, key: str) -> AppTest:
    return fine(at.button(key=key).click().run())


def said(at: AppTest) -> str:
    return " ".join([element.value for element in [*at.caption, *at.markdown, *at.warning]] + findings(at))


def findings(at: AppTest) -> list[str]:
    return [html.proto.body for html in at.get("html") if "<p class='come-finding'" in html.proto.body]


# --- the page -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", range(1, 9))
def test_every_step_opens_from_a_link_with_one_figure_and_something_to_do(visit: Visit, step: int) -> None:
    at = fine(visit("learn", step=str(step)))
    assert at.title[0].value.startswith(f"{step} of 8")
    assert len(findings(at)) == 1
    assert "Try it." in said(at)


def test_next_and_back_go_through_all_steps_and_into_the_url(visit: Visit) -> None:
    at = fine(visit("learn"))
    for step in range(2, 9):
        at = press(at, "lesson-next")
        assert at.query_params["step"] in (str(step), [str(step)])
    at = press(at, "lesson-back")
    assert at.title[0].value.startswith("7 of 8")


@pytest.mark.parametrize("link", [{"step": "0"}, {"step": "9"}, {"step": "x"}, {"step": "1", "stack-layer": "99"}])
def test_a_link_that_makes_no_sense_opens_the_first_step(visit: Visit, link: dict[str, str]) -> None:
    assert fine(visit("learn", **link)).title[0].value.startswith("1 of 8")


def test_presenter_mode_is_large_and_in_the_url(visit: Visit) -> None:
    at = fine(visit("learn", present="1", step="3"))
    assert any("font-size" in html.proto.body and "html {" in html.proto.body for html in at.get("html"))
    at = fine(at.button(key="lesson-next").click().run())
    assert at.title[0].value.startswith("4 of 8") and at.query_params["present"] in ("1", ["1"])
    at = fine(at.button(key="leave-presenting").click().run())
    assert "present" not in at.query_params and at.title[0].value.startswith("4 of 8")


def test_a_moved_activation_changes_s_and_rank(visit: Visit) -> None:
    at = fine(visit("learn", step="2"))
    grid = next(html.proto.body for html in at.get("html") if "come-facts" in html.proto.body)
    assert "(was" not in grid
    slider = next(slider for slider in at.slider if slider.label.startswith("Its activation"))
    at = fine(slider.set_value(slider.max).run())
    grid = next(html.proto.body for html in at.get("html") if "come-facts" in html.proto.body)
    assert grid.count("(was") == 2


@pytest.mark.parametrize("share", ["0", "30", "100"])
def test_a_ratio_by_hand_can_be_taken_back(visit: Visit, share: str) -> None:
    at = fine(visit("learn", **{"step": "4", "join-share": share}))
    at = press(at, "join-automatic")
    assert "CoMe's own ratio" in said(at)


def test_a_pair_of_a_link_starts_from_its_own_ratio(visit: Visit, of: Material) -> None:
    for first, last in material.pairs(of.measured):
        at = fine(visit("learn", **{"step": "4", "join-pair": f"{first}-{last}"}))
        assert at.slider(key="join-share").value == joining.own_share(of, f"{first}-{last}")
        assert f"of layer {first}" in findings(at)[0]


def test_the_run_is_stepped_through_to_its_end(visit: Visit, of: Material) -> None:
    at = fine(visit("learn", step="6"))
    for _ in of.history:
        at = press(at, "merge-next")
    assert at.button(key="merge-next").disabled
    assert f"{of.layers - len(of.history)} layers are left" in findings(at)[0]


def test_without_a_run_that_recovered_it_is_said(visit: Visit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovering, "newest", lambda: None)
    at = fine(visit("learn", step="7"))
    assert "Not measured yet" in said(at)


def test_the_example_has_recovered_a_model(visit: Visit) -> None:
    (run,) = (run for run in example_runs.runs() if run.config.recover)
    results = run.results()
    before, after = (f"{results[side]['perplexity']:.1f}" for side in ("unrecovered", "pruned"))
    assert f"perplexity from {before} to {after}" in said(fine(visit("learn", step="7")))


def test_the_quiz_is_answered_and_looked_up(visit: Visit, of: Material) -> None:
    at = fine(visit("learn", step="8"))
    asked = quiz.questions(of, 1)
    for place, question in enumerate(asked, 1):
        at = fine(at.radio(key=f"quiz-1-{place}").set_value(question.answer).run())
    assert "5 of 5 right" in findings(at)[0]
    at = press(at, "quiz-1-4-look")
    assert at.title[0].value.startswith("5 of 8")
    at = press(press(press(at, "lesson-next"), "lesson-next"), "lesson-next")
    assert "5 of 5 right" in findings(at)[0]  # answers are still there
    at = press(at, "quiz-other")
    assert "none answered yet" in findings(at)[0]


def test_without_the_example_there_is_a_way_on(visit: Visit, lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(example_runs, "FOLDER", lab.runs.parent / "nothing")
    at = fine(visit("learn"))
    assert "example is not here" in said(at)


def test_step_six_shows_the_loop_or_what_one_window_costs(visit: Visit, of: Material) -> None:
    at = fine(visit("learn", step="6"))
    assert "SBI" in findings(at)[0] and at.button(key="merge-next")
    at = fine(visit("learn", step="6", **{"merge-way": "window"}))
    size = max(cost.last - cost.first + 1 for cost in of.costs)
    best = min((cost for cost in of.costs if cost.last - cost.first + 1 == size), key=lambda cost: cost.merged)
    assert f"merging layers {best.first} to {best.last} costs least: {best.merged:.3f}" in findings(at)[0]
    assert "turns least and costs least" in said(at) or "turning least is not costing least" in said(at)
    compared = looping.compared(of)
    assert compared and all(name.startswith("Perplexity at ") for name in compared)
    assert [name for name in compared if name.endswith("one window")] == [
        f"Perplexity at {layers}: one window" for layers in sorted(of.one_window, reverse=True)
    ]


# --- measuring ----------------------------------------------------------------------------------------


def answering(of: Material, seen: list[Question]) -> Callable[..., Answer]:
    def whatif(subject: Subject, question: Question, **_: Any) -> Answer:
        seen.append(question)
        if not question.merges:
            return of.answers["original"]
        merge = question.merges[0]
        return of.answers[f"{merge.how} {merge.first}-{merge.last}"]

    return whatif


def test_a_pair_is_measured_in_three_questions(of: Material, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Question] = []
    monkeypatch.setattr(averaging.client, "whatif", answering(of, seen))
    job = averaging.measure(material.subject(of.run), material.pairs(of.measured)[0], "someone")
    assert job.wait(10)
    assert job.status == "done"
    assert [merge.how for question in seen for merge in question.merges] == ["concatenate", "average"]


@pytest.mark.parametrize("fault", [ComeError("No.", "Later."), Cancelled(), LiveFault("x"), ValueError()])
def test_a_fault_is_one_sentence(of: Material, monkeypatch: pytest.MonkeyPatch, fault: Exception) -> None:
    def whatif(*_: Any, **__: Any) -> Answer:
        raise fault

    monkeypatch.setattr(averaging.client, "whatif", whatif)
    job = averaging.measure(material.subject(of.run), (1, 2), "someone")
    assert job.wait(10)
    assert (job.problem or averaging.SUPERSEDED).endswith(".")
    assert job.status == ("stopped" if isinstance(fault, Cancelled) else "failed")


def test_the_page_shows_what_was_measured_live(visit: Visit, of: Material, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(averaging.client, "whatif", answering(of, []))
    at = fine(visit("learn", step="5"))
    assert "Measured when this lesson was made" in said(at)
    at = press(at, "measure-both")
    assert at.session_state["_lesson_job"].wait(10)
    assert "Measured just now" in said(fine(at.run()))


# --- what the steps say -------------------------------------------------------------------------------


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
    figure = lesson_angle.turned(30.0, np.array([10.0, 30.0]), first=1, last=2, layers=4, title="x")
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
    drawn = figure.data[-1].z
    assert (drawn == 1).sum() == len(merge.kept_channels[0])
    assert (drawn == 2).sum() == len(merge.kept_channels[1])


def test_units_that_do_not_fill_the_last_line_are_all_drawn() -> None:
    values = np.arange(1.0, lesson.COLUMNS + 11)
    figure = lesson.stack(np.array([1.0, 2.0]), values, layer=0, heads=2, ranked=False)
    assert np.isfinite(figure.data[0].z).sum() == len(values)


def test_the_loop_follows_the_plan(of: Material) -> None:
    assert looping.groups_after(of, len(of.history)) == of.plan.groups()
    assert of.perplexities.keys() >= {30, 27, 24, 21}


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


def test_the_answers_follow_the_arrays(of: Material) -> None:
    import dataclasses

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
    assert "50% of what pruning cost" in recovering.finding(helped)
    worse = recovering.Recovery(run, (10.0, 1.0), (30.0, 1.0), (31.0, 1.0))
    assert "did not help" in recovering.finding(worse)


def test_small_figures() -> None:
    bars = lesson_bars.perplexities(["a", "b"], [1.0, 2.0], [0.1, float("nan")], ["#000000", "#ffffff"], "x")
    assert isinstance(bars, go.Figure)
    assert lesson_bars.shown("\n  ") == "↵"
    assert lesson_bars.shown("  ") == "␣"
    assert "1 of 2 right, 1 open" in lesson_bars.score([True, False], [True, False]).layout.title.text
    assert angle.ordinal(1) == "1st"
    assert angle.ordinal(12) == "12th"
    assert angle.ordinal(23) == "23rd"
