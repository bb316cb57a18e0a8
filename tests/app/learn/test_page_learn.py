"""The lesson: every step opens from a link, says what the arrays say, and measures in a thread."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from app import example_runs
from app.learn import angle, averaging, joining, looping, material, on_the_way, quiz, recovering
from app.learn.material import Material
from come.errors import ComeError
from come.serving.cancellation import Cancelled
from come.serving.resident.connection import LiveFault
from come.serving.whatif.answer import Answer
from come.serving.whatif.question import Question, Subject
from tests.app.conftest import Lab

Visit = Callable[..., AppTest]


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


def facts(at: AppTest) -> str:
    return " ".join(html.proto.body for html in at.get("html") if "come-facts" in html.proto.body)


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
    assert f"{of.layers - len(of.history)} layers are left: perplexity " in findings(at)[0]
    assert f"{of.by_merge[-1][0]:,.0f} ± " in facts(at)


def test_the_loop_has_a_perplexity_after_each_merge(visit: Visit, of: Material) -> None:
    at = fine(visit("learn", **{"step": "6", "merge-step": "1"}))
    assert f"{of.by_merge[1][0]:.1f} ± {of.by_merge[1][1]:.1f}" in facts(at)


def test_step_three_does_not_tell_before_it_was_tried(visit: Visit, of: Material) -> None:
    at = fine(visit("learn", step="3"))
    assert "least" not in findings(at)[0] and "Rank" not in facts(at)
    angles = angle.degrees(of, angle.SPAN)
    at = fine(at.select_slider(key="turn-first").set_value(int(angles.argmin())).run())
    assert "less than any other" in findings(at)[0] and "Rank" in facts(at)
    second = int(angles.argsort()[1])
    at = fine(at.select_slider(key="turn-first").set_value(second).run())
    assert "the 2nd least" in findings(at)[0]
    assert angle.in_degrees(angles, second) != angle.in_degrees(angles, int(angles.argmin()))


def test_without_a_run_that_recovered_it_is_said(visit: Visit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovering, "newest", lambda: None)
    at = fine(visit("learn", step="7"))
    assert "Not measured yet" in said(at)


def test_the_example_has_recovered_a_model(visit: Visit, of: Material) -> None:
    (run,) = (run for run in example_runs.runs() if run.config.recover)
    results = run.results()
    original, before, after = (f"{results[side]['perplexity']:.1f}" for side in ("original", "unrecovered", "pruned"))
    first = on_the_way.first_way(run)
    assert first is not None
    at = fine(visit("learn", step="7"))
    assert (
        f"CoMe-Joint, {results['pruned']['layers']} layers: pruning took perplexity from {original} to {before}"
        in (findings(at)[0])
    )
    assert after not in findings(at)[0] + facts(at), "it is guessed first"
    assert "{:.1f} ± {:.1f}".format(*of.one_window[27]) in facts(at)
    assert "pruning adds" in said(at) and "recovery takes" not in said(at)
    at = fine(at.segmented_control(key="recovery-stage").set_value(2).run())
    assert f"refit took perplexity from {before} to {first[0]:.1f}" in findings(at)[0]
    at = fine(at.segmented_control(key="recovery-stage").set_value(3).run())
    assert f"refit and training took perplexity from {before} to {after}" in findings(at)[0]
    assert "recovery takes" in said(at)
    assert "logits" not in said(at)
    assert f"run={run.id}" in str([link.proto for link in at.get("page_link")])


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
    assert f"merging layers {best.first}–{best.last} costs least: {best.merged:.3f}" in findings(at)[0]
    assert "turns least and costs least" in said(at) or "turning least is not costing least" in said(at)
    compared = looping.compared(of)
    assert list(compared) == ["CoMe's loop", "One window"]
    spans = [of.layers - left + 1 for left in sorted(of.one_window, reverse=True)]
    assert all(list(found) == sorted(of.one_window, reverse=True) for found in compared.values())
    (table,) = (html.proto.body for html in at.get("html") if "<table class='come-both'>" in html.proto.body)
    assert f"One window of {', '.join(map(str, spans))} layers" in table
    assert [text in table for found in compared.values() for text in found.values()] == [True] * 2 * len(of.one_window)


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
