"""What-if on the plan page: what it says of an answer, and how it goes on while one is on its way."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

import come.runs
from app.plan import saved_plans
from app.plan.whatif import ask, example
from app.state.choice import Draft, plan_fields
from come.errors import ComeError
from come.events import Event
from come.report.metrics import number
from come.serving.resident.connection import LiveFault
from come.serving.whatif.answer import Answer, Suggestion
from come.serving.whatif.question import Merge, Question, Subject
from tests.app.conftest import Lab
from tests.app.plan.predicted import of_question

Visit = Callable[..., AppTest]


@dataclass
class Resident:
    """Stands for the resident process: answers from a formula, when it may."""

    may: threading.Event = field(default_factory=threading.Event)
    asked: list[Question] = field(default_factory=list)
    subjects: list[Subject] = field(default_factory=list)
    problem: Exception | None = None

    def whatif(self, subject: Subject, question: Question, *, key: str, on_progress: Any) -> Answer:
        if subject != subject.first_look():
            self.asked.append(question)
            self.subjects.append(subject)
        assert key
        if self.problem is not None:
            raise self.problem
        on_progress(Event("measure", 1, 4))
        assert self.may.wait(120)
        return of_question(question)

    def suggest(self, subject: Subject, question: Question, *, key: str, on_progress: Any) -> list[Suggestion]:
        free = next(first for first in range(5) if not {first, first + 1} & question.touched)
        found = question.with_merge(Merge(first=free, last=free + 1))
        return [
            Suggestion(
                first=free,
                last=free + 1,
                skip_influence=0.1234,
                skip_influence_halves=(0.12, 0.13),
                ranks=(1, 2),
                free=3,
                answer=of_question(found),
            )
        ]


@pytest.fixture
def resident(monkeypatch: pytest.MonkeyPatch) -> Iterator[Resident]:
    """No process is started; it answers at once unless a test makes it wait."""
    stub = Resident()
    stub.may.set()
    monkeypatch.setattr(ask.client, "whatif", stub.whatif)
    monkeypatch.setattr(ask.client, "suggest", stub.suggest)
    yield stub
    stub.may.set()


def said(at: AppTest) -> str:
    """Everything in words on the page."""
    html = [element.proto.body for element in at.get("html")]
    kinds = (at.markdown, at.caption, at.info, at.warning)
    return " ".join([*html, *(element.value for kind in kinds for element in kind)])


def until(at: AppTest, words: str) -> str:
    """Run the page, as its timer would, until it says something."""
    for _ in range(50):
        if words in said(at):
            return said(at)
        time.sleep(0.1)
        at.run()
    raise AssertionError(f"never said {words!r}: {said(at)}")


def of_runs(at: AppTest) -> list[dict[str, Any]]:
    """What the chart of earlier runs draws."""
    (chart,) = (each for each in at.get("plotly_chart") if "perplexity (lower is better" in each.proto.spec)
    found: list[dict[str, Any]] = json.loads(chart.proto.spec)["data"]
    return found


def test_nothing_is_asked_before_there_is_a_plan(visit: Visit, resident: Resident) -> None:
    at = visit("plan")
    assert not at.exception and not at.error
    assert not resident.asked
    at.button(key="whatif-predict").click().run()
    until(at, "Predicted perplexity")
    assert resident.asked[0] == Question() and resident.asked[1].merges


def test_the_plan_to_begin_with_shows_what_the_example_says_of_it(visit: Visit, resident: Resident) -> None:
    bundled = {"model": "smollm2-135m", "text": "python-docs", "tokens": "4096", "seq_len": "512"}
    at = visit("plan", **bundled)
    kept = json.loads(example.FILE.read_text("utf-8"))
    words = said(at)
    assert not at.exception and not at.error and not resident.asked
    assert f"Predicted perplexity {number(kept['original']['perplexity'])}" in words and "Shipped example" in words
    assert "run anew" not in words  # it was, but elsewhere
    (mark,) = (each for each in of_runs(at) if each.get("name") == "this plan, predicted")
    assert mark["y"] == [kept["answer"]["perplexity"]]
    assert mark["error_y"]["array"] == pytest.approx([kept["answer"]["perplexity_stderr"]])
    at.button(key="whatif-predict").click().run()
    until(at, "Predicted perplexity")
    assert resident.asked[1] == Question(**kept["question"]) and "Against the last plan" not in said(at)
    at = visit("plan", **bundled, target="21")
    until(at, "Predicted perplexity")
    assert "Predict it here" not in [button.label for button in at.button]


@pytest.mark.parametrize(
    ("plan", "known"),
    [
        ({"target": "22"}, True),
        ({"windows": "10-18"}, True),
        ({"windows": "10-18", "tokens": "2048"}, False),  # fitted on other tokens
        ({"windows": "10-18", "method": "come"}, False),
        ({"windows": "10-17"}, False),
        ({"windows": "10-18", "drop": "3"}, False),
    ],
)
def test_a_shipped_prediction_holds_for_whatever_builds_the_same_model(
    plan: dict[str, str], known: bool, visit: Visit, resident: Resident
) -> None:
    resident.may.clear()
    link = {"model": "smollm2-135m", "text": "python-docs", "tokens": "4096", "seq_len": "512", "method": "come-joint"}
    at = visit("plan", **link | plan)
    assert not at.exception and not at.error
    assert ("Predict it here" in [button.label for button in at.button]) == known
    resident.may.set()


def test_a_window_is_predicted_against_the_original_and_the_last_plan(visit: Visit, resident: Resident) -> None:
    at = visit("plan", windows="1-2")
    words = until(at, "Predicted perplexity 8.6 → 9.5")
    assert resident.asked == [Question(), Question(merges=(Merge(first=1, last=2),))]
    assert "Against the original: +0.105" in words and "the last plan" not in words
    assert "1,016 held-out tokens" in words
    at.button(key="add-window").click().run()
    words = until(at, "Against the last plan answered (CoMe, 5 layers)")
    assert "stable: both halves" in words
    assert "<b>0.250 ± 0.010</b>" in words
    at.button(key="undo").click().run()
    assert "Against the last plan answered (CoMe, 4 layers)" in said(at)
    assert len(resident.asked) == 4, "what was answered is not asked again"


def test_a_dropped_layer_is_predicted_and_survives_a_suggestion(visit: Visit, resident: Resident) -> None:
    at = visit("plan", drop="3")
    until(at, "Predicted perplexity 8.6 → 9.5")
    assert resident.asked[-1] == Question(dropped=(3,))
    at.button(key="whatif-suggest").click().run()
    until(at, "Next by skip block influence (SBI): layers 0–1")
    at.button(key="whatif-take").click().run()
    until(at, "Against the last plan answered (CoMe, 5 layers)")
    assert resident.asked[-1] == Question(merges=(Merge(first=0, last=1),), dropped=(3,))
    at.text_input(key="plan-name").set_value("Mixed").run()
    at.button(key="save-plan").click().run()
    (plan,) = saved_plans.saved()
    assert plan.draft == Draft(windows=[(0, 1)], dropped=(3,))
    assert any("merges 0–1, drops 3" in caption.value for caption in at.caption)


def test_own_ratios_are_what_is_asked(visit: Visit, resident: Resident) -> None:
    at = visit("plan", windows="1-2", ratios="0.25-0.75")
    until(at, "Predicted perplexity")
    assert resident.asked[-1].merges[0].ratio == (0.25, 0.75)


def test_an_automatic_plan_is_predicted_by_its_draft(visit: Visit, resident: Resident, lab: Lab) -> None:
    at = visit("plan", target="4")
    words = until(at, "Predicted perplexity")
    assert "so later windows may differ" in words
    assert len(resident.asked[-1].merges) == 2
    (analysis,) = [run for run in come.runs.list_runs() if run.config.kind == "analyze"]
    assert resident.subjects[-1].analysis == str(Path(analysis.path) / "analysis.safetensors")
    assert resident.subjects[-1].model == str(lab.model.resolve())


def test_the_page_does_not_wait_and_a_newer_change_goes_first(visit: Visit, resident: Resident) -> None:
    resident.may.clear()
    at = visit("plan", windows="1-2")
    words = said(at)
    assert "Measuring the model once" in words and "stale" in words
    assert "come-laid-out" in words  # else a browser would keep the page hidden for seconds
    assert not at.button(key="go-to-run").disabled
    first = at.session_state["_whatif"].prediction
    at.number_input(key="last-0").set_value(3).run()
    assert first.status == "stopped"
    resident.may.set()
    until(at, "Predicted perplexity")
    assert (resident.asked[-1].merges[0].first, resident.asked[-1].merges[0].last) == (1, 3)
    assert len(at.session_state["_whatif"].answers) == 1


@pytest.mark.parametrize(
    ("problem", "sentence"),
    [
        (ComeError("The model process could not be started.", "Free some memory."), "could not be started"),
        (LiveFault("Traceback"), "fault of ours"),
        (ZeroDivisionError(), "fault of ours"),
    ],
)
def test_without_a_process_there_is_one_sentence(
    visit: Visit, resident: Resident, problem: Exception, sentence: str
) -> None:
    resident.problem = problem
    at = visit("plan", windows="1-2")
    words = until(at, sentence)
    assert not at.exception and not at.error
    assert "Traceback" not in words
    assert not at.button(key="go-to-run").disabled
    resident.problem = None
    at.button(key="whatif-again").click().run()
    until(at, "Predicted perplexity")


def test_a_method_that_only_a_run_tells_of_is_not_predicted(visit: Visit, resident: Resident) -> None:
    at = visit("plan", target="4", method="sleb")
    assert "What SLEB prunes, and what that costs, is known only after a run." in said(at)
    assert not resident.asked


@pytest.mark.parametrize("method", ["shortgpt", "deeper", "reverse", "skip", "random", "inheritune"])
def test_methods_that_remove_layers_are_predicted_by_the_layers_that_they_would_take(
    visit: Visit, resident: Resident, method: str
) -> None:
    at = visit("plan", target="4", method=method)
    until(at, "Predicted perplexity")
    assert not resident.asked[-1].merges and len(resident.asked[-1].dropped) == 2


def test_what_reads_no_text_is_predicted_without_an_analysis(visit: Visit, resident: Resident) -> None:
    at = visit("plan", target="4", method="reverse", tokens="512")
    until(at, "Predicted perplexity")
    assert resident.asked[-1].dropped == (4, 5)
    at = visit("plan", target="4", method="shortgpt", tokens="512")
    assert "What-if needs an analysis here" in said(at)


def test_without_an_analysis_windows_by_hand_are_measured_by_the_process(visit: Visit, resident: Resident) -> None:
    at = visit("plan", windows="1-2", tokens="512")
    until(at, "Predicted perplexity")
    assert resident.subjects[-1].analysis is None
    assert resident.subjects[-1].measured_tokens == 512
    at = visit("plan", target="4", tokens="512")
    assert "What-if needs an analysis here" in said(at)


def test_the_suggestion_is_taken(visit: Visit, resident: Resident) -> None:
    at = visit("plan", windows="2-3")
    until(at, "Predicted perplexity")
    at.button(key="whatif-suggest").click().run()
    words = until(at, "Next by skip block influence (SBI): layers 0–1")
    assert "Not stable: of 3 free windows" in words and "the other 2nd" in words
    at.button(key="whatif-take").click().run()
    assert at.query_params["windows"] in ("0-1,2-3", ["0-1,2-3"])
    until(at, "Against the last plan answered (CoMe, 5 layers)")
    assert at.button(key="whatif-suggest")
    at.button(key="undo").click().run()
    assert at.query_params["windows"] in ("2-3", ["2-3"])


def test_no_window_yet_can_begin_with_a_suggestion(visit: Visit, resident: Resident) -> None:
    at = visit("plan", windows="1-2")
    at.button(key="remove-0").click().run()
    assert "Nothing is merged or dropped yet" in said(at)
    at.button(key="whatif-suggest").click().run()
    until(at, "Next by skip block influence (SBI)")
    at.button(key="whatif-take").click().run()
    assert at.query_params["windows"] in ("0-1", ["0-1"])


def test_plans_are_saved_opened_and_deleted(visit: Visit, resident: Resident) -> None:
    at = visit("plan", windows="1-2")
    at.button(key="save-plan").click().run()
    assert len(at.error) == 1 and "no name" in at.error[0].value
    at.text_input(key="plan-name").set_value("  Low  pair ").run()
    at.button(key="save-plan").click().run()
    assert not at.error
    assert [plan.name for plan in saved_plans.saved()] == ["Low pair"]
    at = visit("plan", target="5")  # another visit
    at.button(key="open-plan-0").click().run()
    assert at.query_params["windows"] in ("1-2", ["1-2"])
    at.button(key="undo").click().run()
    assert at.query_params["target"] in ("5", ["5"])
    at.button(key="delete-plan-0").click().run()
    assert saved_plans.saved() == [] and not at.exception


def test_what_its_run_measured_stands_where_it_would_be_predicted(visit: Visit, lab: Lab, resident: Resident) -> None:
    draft = Draft(windows=[(1, 2)], ratios=[(0.5, 0.5)])
    run = lab.create(**plan_fields(draft), text="python-docs", evaluation_tokens=4096)
    come.runs.execute(run)
    results, asked = run.results(), {"text": "python-docs", "windows": "1-2", "ratios": "0.5-0.5"}
    at = visit("plan", **asked)
    assert not at.exception and not at.error and not resident.asked
    before, after = (number(results[side]["perplexity"]) for side in ("original", "pruned"))
    assert f"Measured perplexity {before} → {after}" in said(at) and f"{results['pruned']['kl']:.3f}" in said(at)
    assert at.button(key="go-to-run").label == "Run it again"
    at.button(key="see-run").click().run()
    assert at.query_params["run"] in (run.id, [run.id]) and not at.exception
    recovered = results | {"unrecovered": results["pruned"], "pruned": results["original"]}
    (run.path / "results.json").write_text(json.dumps(recovered))
    assert f"Measured perplexity {before} → {after}" in said(visit("plan", **asked)), "without what recovery gave back"
    (run.path / "results.json").write_text('{"original": 1}')
    assert until(visit("plan", **asked), "Predicted perplexity") and resident.asked


def test_a_run_that_was_judged_on_other_tokens_takes_no_prediction_away(
    visit: Visit, lab: Lab, resident: Resident
) -> None:
    run = lab.create(**plan_fields(Draft(windows=[(1, 2)], ratios=[(0.5, 0.5)])), evaluation_tokens=2048)
    come.runs.execute(run)
    assert until(visit("plan", windows="1-2", ratios="0.5-0.5"), "Predicted perplexity") and resident.asked
