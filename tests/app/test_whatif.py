"""What-if on the plan page: what is asked, what is said of the answer, and how the page goes on meanwhile."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

import come.runs
from app import named_plans, whatif, whatif_job, whatif_watch, whatif_words
from app.choice import Choice, Draft
from app.figures import whatif as figures
from app.whatif_job import Predicted
from app.whatif_state import Memory, key_of
from come.errors import ComeError
from come.events import Event
from come.live import Answer, Cancelled, Change, Merge, Question, Subject, Suggestion, change
from come.merge import DraftWindow
from come.models import describe
from tests.app.conftest import Lab

Visit = Callable[..., AppTest]
SUBJECT = Subject(model="m")


def answer(layers: int = 6, losses: tuple[float, ...] = (2.0, 2.2, 2.1, 2.3), **more: Any) -> Answer:
    """An answer of some model with that many layers."""
    mean = sum(losses) / len(losses)
    values = {
        "layers": layers,
        "parameters": 1_000_000 * (layers + 4),
        "bytes": 2_000_000 * (layers + 4),
        "speed_up": 10 / (layers + 4),
        "perplexity": math.exp(mean),
        "perplexity_stderr": 0.5,
        "bits_per_byte": 1.0,
        "bits_per_byte_stderr": 0.1,
        "kl": 0.0 if layers == 6 else 0.25,
        "kl_stderr": 0.01,
        "losses": losses,
        "divergences": tuple(0.1 for _ in losses),
        "perplexity_halves": (8.0, 9.0),
        "kl_halves": (0.1, 0.1),
        "tokens": 1016,
        "start": 2,
        "seconds": 1.3,
    }
    return Answer(**values | more)


def worse(layers: int, by: float) -> Answer:
    return answer(layers, (2.0 + by, 2.2 + by, 2.1 + 1.1 * by, 2.3 + 1.1 * by))


def of_question(question: Question) -> Answer:
    """Made-up truth: each layer less costs a tenth of a nat a token."""
    gone = sum(merge.last - merge.first for merge in question.merges) + len(question.dropped)
    return worse(6 - gone, 0.1 * gone) if gone else answer()


@dataclass
class Resident:
    """Stands for the resident process: answers from a formula, when it may."""

    may: threading.Event = field(default_factory=threading.Event)
    asked: list[Question] = field(default_factory=list)
    subjects: list[Subject] = field(default_factory=list)
    problem: Exception | None = None

    def whatif(self, subject: Subject, question: Question, *, key: str, on_progress: Any) -> Answer:
        self.asked.append(question)
        self.subjects.append(subject)
        assert key
        if self.problem is not None:
            raise self.problem
        on_progress(Event("measure", 1, 4))
        assert self.may.wait(20)
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
    monkeypatch.setattr(whatif_watch, "LONGEST", 0.0)  # a run of the page ends with an open question
    monkeypatch.setattr(whatif_job.client, "whatif", stub.whatif)
    monkeypatch.setattr(whatif_job.client, "suggest", stub.suggest)
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


# --- the page ----------------------------------------------------------------------------------------


def test_nothing_is_asked_before_there_is_a_plan(visit: Visit, resident: Resident) -> None:
    at = visit("plan")
    assert not at.exception and not at.error
    assert not resident.asked
    at.button(key="whatif-predict").click().run()
    until(at, "Predicted perplexity")
    assert resident.asked[0] == Question() and resident.asked[1].merges


def test_a_window_is_predicted_against_the_original_and_the_last_plan(visit: Visit, resident: Resident) -> None:
    at = visit("plan", windows="1-2")
    words = until(at, "Predicted perplexity 8.6 → 9.5")
    assert resident.asked == [Question(), Question(merges=(Merge(first=1, last=2),))]
    assert "Against the original: +0.105" in words and "the last plan" not in words
    assert "1,016 held-back tokens" in words
    at.button(key="add-window").click().run()
    words = until(at, "Against the last plan answered (5 layers)")
    assert "stable: both halves" in words
    assert "<b>0.250 ± 0.010</b>" in words
    at.button(key="undo").click().run()
    assert "Against the last plan answered (4 layers)" in said(at)
    assert len(resident.asked) == 4, "what was answered is not asked again"


def test_a_dropped_layer_is_predicted_and_survives_a_suggestion(visit: Visit, resident: Resident) -> None:
    at = visit("plan", drop="3")
    until(at, "Predicted perplexity 8.6 → 9.5")
    assert resident.asked[-1] == Question(dropped=(3,))
    at.button(key="whatif-suggest").click().run()
    until(at, "Best next window: layers 0–1")
    at.button(key="whatif-take").click().run()
    until(at, "Against the last plan answered (5 layers)")
    assert resident.asked[-1] == Question(merges=(Merge(first=0, last=1),), dropped=(3,))
    at.text_input(key="plan-name").set_value("Mixed").run()
    at.button(key="save-plan").click().run()
    (plan,) = named_plans.saved()
    assert plan.draft == Draft(windows=[(0, 1)], dropped=(3,))
    assert any("merges 0–1, drops 3" in caption.value for caption in at.caption)


def test_own_ratios_are_what_is_asked(visit: Visit, resident: Resident) -> None:
    at = visit("plan", windows="1-2", ratios="0.25-0.75")
    until(at, "Predicted perplexity")
    assert resident.asked[-1].merges[0].ratio == (0.25, 0.75)


def test_an_automatic_plan_is_predicted_by_its_draft(visit: Visit, resident: Resident, lab: Lab) -> None:
    at = visit("plan", target="4")
    words = until(at, "Predicted perplexity")
    assert "may choose others" in words
    assert len(resident.asked[-1].merges) == 2
    (analysis,) = [run for run in come.runs.list_runs() if run.config.kind == "analyze"]
    assert resident.subjects[-1].analysis == str(Path(analysis.path) / "analysis.safetensors")
    assert resident.subjects[-1].model == str(lab.model.resolve())


def test_the_page_does_not_wait_and_a_newer_change_goes_first(visit: Visit, resident: Resident) -> None:
    resident.may.clear()
    began = time.monotonic()
    at = visit("plan", windows="1-2")
    words = said(at)
    assert "Measuring the model once" in words and "stale" in words
    assert not at.button(key="go-to-run").disabled
    first = at.session_state["_whatif"].prediction
    at.number_input(key="last-0").set_value(3).run()
    assert first.superseded.is_set()
    assert time.monotonic() - began < 20
    resident.may.set()
    until(at, "Predicted perplexity")
    assert (resident.asked[-1].merges[0].first, resident.asked[-1].merges[0].last) == (1, 3)
    assert len(at.session_state["_whatif"].answers) == 1


@pytest.mark.parametrize(
    ("problem", "sentence"),
    [
        (ComeError("The model process could not be started.", "Free some memory."), "could not be started"),
        (whatif_job.LiveFault("Traceback"), "fault of ours"),
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


def test_other_methods_are_not_predicted(visit: Visit, resident: Resident) -> None:
    at = visit("plan", target="4", method="shortgpt")
    assert "What-if is for plans by hand and automatic CoMe" in said(at)
    assert not resident.asked


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
    words = until(at, "Best next window: layers 0–1")
    assert "Not stable: of 3 free windows" in words and "the other 2nd" in words
    at.button(key="whatif-take").click().run()
    assert at.query_params["windows"] in ("0-1,2-3", ["0-1,2-3"])
    until(at, "Against the last plan answered (5 layers)")
    assert at.button(key="whatif-suggest")
    at.button(key="undo").click().run()
    assert at.query_params["windows"] in ("2-3", ["2-3"])


def test_no_window_yet_can_begin_with_a_suggestion(visit: Visit, resident: Resident) -> None:
    at = visit("plan", windows="1-2")
    at.button(key="remove-0").click().run()
    assert "Nothing is merged or dropped yet" in said(at)
    at.button(key="whatif-suggest").click().run()
    until(at, "Best next window")
    at.button(key="whatif-take").click().run()
    assert at.query_params["windows"] in ("0-1", ["0-1"])


def test_plans_are_saved_opened_and_deleted(visit: Visit, resident: Resident) -> None:
    at = visit("plan", windows="1-2")
    at.button(key="save-plan").click().run()
    assert len(at.error) == 1 and "no name" in at.error[0].value
    at.text_input(key="plan-name").set_value("  Low  pair ").run()
    at.button(key="save-plan").click().run()
    assert not at.error
    assert [plan.name for plan in named_plans.saved()] == ["Low pair"]
    at = visit("plan", target="5")  # another visit
    at.button(key="open-plan-0").click().run()
    assert at.query_params["windows"] in ("1-2", ["1-2"])
    at.button(key="undo").click().run()
    assert at.query_params["target"] in ("5", ["5"])
    at.button(key="delete-plan-0").click().run()
    assert named_plans.saved() == [] and not at.exception


# --- what is asked -----------------------------------------------------------------------------------


def test_who_must_press_predict(lab: Lab) -> None:
    facts = describe(str(lab.model))
    small = whatif.why_ask_first(Draft(target_layers=4), facts)
    large = whatif.why_ask_first(Draft(target_layers=4), _with(facts, parameters=7_000_000_000))
    hub = whatif.why_ask_first(Draft(target_layers=4), _with(facts, source="someone/model"))
    assert small == "" and "7.0 B" in large and "hub" in hub
    assert whatif.why_ask_first(Draft(), facts)


def _with(facts: Any, **changed: Any) -> Any:
    from dataclasses import replace

    return replace(facts, **changed)


def window(first: int, last: int, ratio: tuple[float, ...]) -> DraftWindow:
    return DraftWindow(first, last, ratio, [], [], 0.1)


def test_a_question_holds_the_windows_and_the_options() -> None:
    drafted = [window(1, 2, (0.4, 0.6)), window(4, 6, (0.2, 0.3, 0.5))]
    asked = whatif.question(Draft(target_layers=20, options={"exponent": 0.5, "no_repeat": False}), drafted)
    assert asked.exponent == 0.5 and asked.floor == 0
    assert [merge.ratio for merge in asked.merges] == [None, (0.2, 0.3, 0.5)]
    by_hand = whatif.question(Draft(windows=[(4, 5), (1, 2)], ratios=[(0.1, 0.9), (0.5, 0.5)]), drafted)
    assert [(merge.first, merge.ratio) for merge in by_hand.merges] == [(1, (0.5, 0.5)), (4, (0.1, 0.9))]
    with pytest.raises(ComeError):
        whatif.question(Draft(windows=[(1, 2)], options={"exponent": -1}), [])


def test_taking_a_window_keeps_the_others() -> None:
    drafted = [window(4, 5, (0.4, 0.6))]
    assert whatif.taken(Draft(target_layers=5), drafted, 1, 2) == Draft(windows=[(1, 2), (4, 5)])
    own = Draft(windows=[(4, 5)], ratios=[(0.1, 0.9)])
    assert whatif.taken(own, [], 1, 2).ratios == [(0.5, 0.5), (0.1, 0.9)]


# --- the thread --------------------------------------------------------------------------------------


def test_a_stray_older_question_does_not_end_the_newer(monkeypatch: pytest.MonkeyPatch) -> None:
    times: list[Question] = []

    def ask(subject: Subject, question: Question, **_: Any) -> Answer:
        times.append(question)
        if len(times) == 2:
            raise Cancelled
        return answer()

    monkeypatch.setattr(whatif_job.client, "whatif", ask)
    job = whatif_job.predict(SUBJECT, Question(dropped=(1,)), "v", "k")
    assert job.ended.wait(10)
    assert isinstance(job.outcome, Predicted) and len(times) == 3


def test_an_older_question_asks_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    started, go_on, times = threading.Event(), threading.Event(), []

    def ask(*_: Any, **__: Any) -> Answer:
        times.append(1)
        started.set()
        go_on.wait(10)
        return answer()

    monkeypatch.setattr(whatif_job.client, "whatif", ask)
    job = whatif_job.predict(SUBJECT, Question(dropped=(1,)), "v", "k")
    assert started.wait(10)
    job.superseded.set()
    go_on.set()
    assert job.ended.wait(10)
    assert len(times) == 1 and job.outcome is None and not job.problem


def test_the_last_plan_is_the_one_looked_at_before() -> None:
    memory, other = Memory(), Subject(model="other")
    for subject, layer in ((SUBJECT, 1), (other, 1), (SUBJECT, 2)):
        question = Question(dropped=(layer,))
        memory.remember(key_of(subject, question), subject, question, Predicted(answer(), worse(layer, 0.1)))
    first, second = (key_of(SUBJECT, Question(dropped=(layer,))) for layer in (1, 2))
    assert memory.last_before(second, SUBJECT) is memory.answers[first]
    assert memory.last_before(key_of(other, Question(dropped=(1,))), other) is None
    memory.look_at(first)
    assert memory.last_before(first, SUBJECT) is memory.answers[second]
    assert memory.tried(SUBJECT) == [memory.answers[second], memory.answers[first]]


# --- the words ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("of", "words"),
    [
        (Change(0.1, 0.01, 1.1, (0.1, 0.1)), "stable: both halves of the text agree (+0.100 and +0.100)"),
        (Change(0.01, 0.02, 1.0, (0.03, -0.01)), "**Not stable**"),
        (Change(0.01, 0.02, 1.0, (0.01, 0.01)), "within 2 standard errors"),
        (Change(0.0, 0.0, 1.0, (0.0, 0.0)), "no difference"),
        (Change(-0.1, math.nan, 0.9, (math.nan, math.nan)), "−0.100 nats a token. One sequence alone"),
    ],
)
def test_a_change_says_how_sure_it_is(of: Change, words: str) -> None:
    assert words in whatif_words.against("the original", of)


def test_rows_are_the_same_with_and_without_numbers() -> None:
    found = Predicted(answer(), worse(4, 0.2))
    empty, full = whatif_words.rows(None), whatif_words.rows(found, Predicted(answer(), worse(5, 0.1)))
    assert [row.name for row in empty] == [row.name for row in full]
    assert full[0].against == f"{change(found.original, found.answer).ratio:.2f} ×"
    assert full[2].plan == "8.0 M" and full[2].against == "−20%" and full[2].since == "−11.1%"
    assert full[4].plan == "1.25 ×"
    table = whatif_words.table(full, "<Plan>", "the last plan")
    assert "&lt;Plan&gt;" in table and "Since the last plan" in table


def test_the_status_tells_what_is_going_on() -> None:
    assert whatif_words.status(None, None, 0.2) == "Predicting…"
    assert whatif_words.status(None, None, 3.2) == "Predicting, 3 s…"
    assert whatif_words.status(Event("measure", 1, 4), 12.4, 0) == "Measuring the model once, about 12 s, 25%…"
    assert whatif_words.status(Event("load", 0, 0), None, 0) == "Loading the model…"


def test_ranks_are_put_in_words() -> None:
    hint = {"first": 1, "last": 2, "skip_influence": 0.1, "skip_influence_halves": (0.1, 0.2), "free": 29}
    stable = Suggestion(**hint, ranks=(1, 1), answer=answer(5))
    unstable = Suggestion(**hint, ranks=(1, 13), answer=answer(5))
    assert whatif_words.how_stable(stable).startswith("Stable")
    assert "ranks it 1st, the other 13th" in whatif_words.how_stable(unstable)
    assert "this plan's" not in whatif_words.next_window(stable, None)


# --- the figure, and the files -----------------------------------------------------------------------


def test_the_figure_marks_the_plan_and_says_where_it_lies() -> None:
    plans = [worse(5, 0.1), worse(4, 0.2)]
    figure = figures.tried(plans, plans[1], answer())
    assert figure.layout.title.text == "This plan is the smallest so far"
    assert list(figure.data[2].x) == [8.0] and list(figure.data[1].x) == [9.0]
    assert "lower perplexity" in figures.tried([*plans, worse(3, 0.5)], plans[1], answer()).layout.title.text
    assert "no larger" in figures.tried([*plans, worse(3, 0.1)], plans[1], answer()).layout.title.text


def test_named_plans_survive_and_bad_files_are_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COME_RUNS", str(tmp_path / "runs"))
    assert named_plans.saved() == []
    draft = Draft(windows=[(1, 2)], ratios=[(0.3, 0.7)])
    named_plans.save("Ünïcode / name?", Choice(), Draft(target_layers=20))
    named_plans.save("../up", Choice(), draft)
    named_plans.save("../up", Choice(tokens=512), draft)
    (named_plans.folder() / "other.json").write_text("{")
    (named_plans.folder() / "list.json").write_text("[]")
    found = {plan.name: plan for plan in named_plans.saved()}
    assert set(found) == {"Ünïcode / name?", "../up"}
    assert found["../up"].draft == draft and found["../up"].choice == Choice(tokens=512)
    assert not (tmp_path / "runs" / "up.json").exists()
    assert come.runs.list_runs() == []
    named_plans.delete("../up")
    named_plans.delete("../up")
    assert len(named_plans.saved()) == 1
    for name in (" ", "x" * 61):
        with pytest.raises(ComeError):
            named_plans.save(name, Choice(), draft)
