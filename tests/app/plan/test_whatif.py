"""What-if: what is asked, the thread that asks, the words and the figure of an answer, and plans with names."""

from __future__ import annotations

import math
import threading
from pathlib import Path
from typing import Any

import pytest

import come.runs
from app.figures import whatif as figures
from app.plan import saved_plans
from app.plan.whatif import ask, words
from app.plan.whatif.ask import Predicted
from app.plan.whatif.memory import Memory, key_of
from app.state.choice import Choice, Draft, by_hand
from come.errors import ComeError
from come.events import Event
from come.models import describe
from come.pruning.draft import DraftWindow
from come.pruning.forecast import Forecast
from come.serving.cancellation import Cancelled
from come.serving.whatif.answer import Answer, Change, Suggestion, change
from come.serving.whatif.question import Question, Subject
from tests.app.conftest import Lab
from tests.app.plan.predicted import answer, worse

SUBJECT = Subject(model="m")


# --- what is asked -----------------------------------------------------------------------------------


def test_who_must_press_predict(lab: Lab) -> None:
    facts = describe(str(lab.model))
    small = ask.why_ask_first(Draft(target_layers=4), facts)
    large = ask.why_ask_first(Draft(target_layers=4), _with(facts, parameters=7_000_000_000))
    hub = ask.why_ask_first(Draft(target_layers=4), _with(facts, source="someone/model"))
    assert small == "" and "7.0 B" in large and "hub" in hub
    assert ask.why_ask_first(Draft(), facts)


def _with(facts: Any, **changed: Any) -> Any:
    from dataclasses import replace

    return replace(facts, **changed)


def window(first: int, last: int, ratio: tuple[float, ...]) -> DraftWindow:
    return DraftWindow(first, last, ratio, [], [], 0.1)


def test_a_question_holds_the_windows_and_the_options() -> None:
    drafted = Forecast([window(1, 2, (0.4, 0.6)), window(4, 6, (0.2, 0.3, 0.5))])
    asked = ask.question(Draft(target_layers=20, options={"exponent": 0.5, "no_repeat": False}), drafted)
    assert asked.exponent == 0.5 and asked.floor == 0
    assert [merge.ratio for merge in asked.merges] == [None, (0.2, 0.3, 0.5)]
    by_hand = ask.question(Draft(windows=[(4, 5), (1, 2)], ratios=[(0.1, 0.9), (0.5, 0.5)]), drafted)
    assert [(merge.first, merge.ratio) for merge in by_hand.merges] == [(1, (0.5, 0.5)), (4, (0.1, 0.9))]
    with pytest.raises(ComeError):
        ask.question(Draft(windows=[(1, 2)], options={"exponent": -1}), None)


def test_a_question_of_another_method_holds_the_layers_that_it_would_remove() -> None:
    found = Forecast(removed=[3, 5])
    asked = ask.question(Draft(method="shortgpt", target_layers=4), found)
    assert (asked.merges, asked.dropped) == ((), (3, 5))
    own = Draft(windows=[(1, 2)], dropped=(4,))
    assert ask.question(own, found).dropped == (4,)
    taken = ask.with_window(Draft(method="shortgpt", target_layers=4), found, 1, 2)
    assert taken == Draft(windows=[(1, 2)], dropped=(3, 5))


def test_taking_a_window_keeps_the_others() -> None:
    drafted = Forecast([window(4, 5, (0.4, 0.6))])
    assert ask.with_window(Draft("come", target_layers=5), drafted, 1, 2) == Draft(windows=[(1, 2), (4, 5)])
    fitted = Draft("come-joint", windows=[(1, 2), (4, 5)])
    assert ask.with_window(Draft("come-joint", target_layers=5), drafted, 1, 2) == fitted
    assert {merge.how for merge in ask.question(fitted, None).merges} == {"fit"}
    own = Draft(windows=[(4, 5)], ratios=[(0.1, 0.9)])
    assert ask.with_window(own, None, 1, 2).ratios == [(0.5, 0.5), (0.1, 0.9)]


# --- the thread --------------------------------------------------------------------------------------


def test_a_stray_older_question_does_not_end_the_newer(monkeypatch: pytest.MonkeyPatch) -> None:
    times: list[Question] = []

    def answers(subject: Subject, question: Question, **_: Any) -> Answer:
        times.append(question)
        if len(times) == 2:
            raise Cancelled
        return answer()

    monkeypatch.setattr(ask.client, "whatif", answers)
    job = ask.predict(SUBJECT, Question(dropped=(1,)), "v", "k")
    assert job.wait(10)
    assert isinstance(job.outcome, Predicted) and len(times) == 5  # a first look, once asked again, and the answer


def test_a_first_look_compares_on_its_own_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Subject, Question]] = []

    def answers(subject: Subject, question: Question, **_: Any) -> Answer:
        asked.append((subject, question))
        more = 0.2 if question.touched else 0.0
        return worse(5, more) if subject.n_tokens > 1024 else worse(5, 2 * more)

    monkeypatch.setattr(ask.client, "whatif", answers)
    job, plan = ask.predict(SUBJECT, Question(dropped=(1,)), "v", "k"), Question(dropped=(1,))
    assert job.wait(10) and isinstance(job.first, Predicted)
    few = SUBJECT.first_look()
    assert asked == [(few, Question()), (few, plan), (SUBJECT, Question()), (SUBJECT, plan)]
    assert words.first_look(job.first, SUBJECT, None).startswith(
        "First look, on only 1,016 tokens: about 1.5 times the perplexity there. The 4,096"
    )
    row = words.first_rows(job.first)[0]
    assert (row.name, row.unit, row.against, row.plan) == ("Perplexity", "on 1,016 tokens", "about 1.5 ×", words.EMPTY)


def test_an_older_question_asks_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    started, go_on, times = threading.Event(), threading.Event(), []

    def answers(*_: Any, **__: Any) -> Answer:
        times.append(1)
        started.set()
        go_on.wait(10)
        return answer()

    monkeypatch.setattr(ask.client, "whatif", answers)
    job = ask.predict(SUBJECT, Question(dropped=(1,)), "v", "k")
    assert started.wait(10)
    job.stop()
    go_on.set()
    assert job.wait(10)
    assert len(times) == 1 and job.outcome is None and not job.problem


def test_the_last_plan_is_the_one_looked_at_before() -> None:
    memory, other = Memory(), Subject(model="other")
    for subject, layer in ((SUBJECT, 1), (other, 1), (SUBJECT, 2)):
        question = Question(dropped=(layer,))
        memory.remember(key_of(subject, question), subject, Predicted(answer(), worse(layer, 0.1)), "CoMe")
    first, second = (key_of(SUBJECT, Question(dropped=(layer,))) for layer in (1, 2))
    assert memory.last_before(second, SUBJECT) is memory.answers[first]
    assert memory.last_before(key_of(other, Question(dropped=(1,))), other) is None
    memory.look_at(first, "CoMe")
    assert memory.last_before(first, SUBJECT) is memory.answers[second]
    assert memory.tried(SUBJECT) == [memory.answers[second], memory.answers[first]]


# --- the words ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("of", "expected"),
    [
        (Change(0.1, 0.01, 1.1, (0.1, 0.1)), "stable: both halves of the text agree (+0.100 and +0.100)"),
        (Change(0.01, 0.02, 1.0, (0.03, -0.01)), "**Not stable**"),
        (Change(0.01, 0.02, 1.0, (0.01, 0.01)), "within 2 standard errors"),
        (Change(0.0, 0.0, 1.0, (0.0, 0.0)), "no difference"),
        (Change(-0.1, math.nan, 0.9, (math.nan, math.nan)), "−0.100 nats per token. One sequence alone"),
    ],
)
def test_a_change_says_how_sure_it_is(of: Change, expected: str) -> None:
    assert expected in words.against("the original", of)


def test_rows_are_the_same_with_and_without_numbers() -> None:
    found = Predicted(answer(), worse(4, 0.2))
    empty, full = words.rows(None), words.rows(found, Predicted(answer(), worse(5, 0.1)))
    assert [row.name for row in empty] == [row.name for row in full]
    assert full[0].against == f"{change(found.original, found.answer).ratio:.2f} ×"
    assert full[2].plan == "1.25 ×" and full[2].against == "+25%" and full[2].since == "+12.5%"
    table = words.table(full, "<Plan>", "the last plan")
    assert "&lt;Plan&gt;" in table and "Against the last plan" in table


def test_the_status_tells_what_is_going_on() -> None:
    assert words.status(None, None, 0.2) == "Predicting…"
    assert words.status(None, None, 3.2) == "Predicting, 3 s…"
    assert words.status(Event("measure", 1, 4), 12.4, 0) == "Measuring the model once, about 12 s, 25%…"
    assert words.status(Event("load", 0, 0), None, 0) == "Loading the model…"


def test_a_fit_tells_which_window_and_for_how_long() -> None:
    assert words.status(Event("fit", 0, 2, "Fitting layers 14–15"), None, 83) == "Fitting layers 14–15 (1 of 2), 83 s…"
    assert words.status(Event("fit", 0, 1, "Fitting layers 14–15"), None, 9) == "Fitting layers 14–15, 9 s…"


@pytest.mark.parametrize(
    ("ratio", "said"), [(1.03, "1.03"), (1.004, "1.004"), (0.997, "0.997"), (1.0, "1.000"), (1.26, "1.3"), (12.3, "12")]
)
def test_a_first_look_has_the_digits_that_tell_it_from_one(ratio: float, said: str) -> None:
    found = Predicted(answer(), worse(5, 0.0))
    losses = tuple(loss + math.log(ratio) for loss in found.original.losses)
    found = Predicted(found.original, answer(5, losses))
    assert f"about {said} times the perplexity" in words.first_look(found, SUBJECT, None)


def test_a_first_look_tells_how_far_the_rest_is() -> None:
    found = Predicted(answer(), worse(5, 0.1))
    half = words.first_look(found, SUBJECT, Event("predict", 15, 30, "Running the plan"))
    assert half.endswith("that a run is judged on follow (running the plan, 50%)…")
    assert words.first_look(found, SUBJECT, None).endswith("that a run is judged on follow…")


def test_ranks_are_put_in_words() -> None:
    hint = {"first": 1, "last": 2, "skip_influence": 0.1, "skip_influence_halves": (0.1, 0.2), "free": 29}
    stable = Suggestion(**hint, ranks=(1, 1), answer=answer(5))
    unstable = Suggestion(**hint, ranks=(1, 13), answer=answer(5))
    assert words.how_stable(stable).startswith("Stable")
    assert "ranks it 1st, the other 13th" in words.how_stable(unstable)
    assert "this plan's" not in words.next_window(stable, None)


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
    assert saved_plans.saved() == []
    draft = Draft(windows=[(1, 2)], ratios=[(0.3, 0.7)])
    saved_plans.save("Ünïcode / name?", Choice(), Draft(target_layers=20))
    saved_plans.save("../up", Choice(), draft)
    saved_plans.save("../up", Choice(tokens=512), draft)
    (saved_plans.folder() / "other.json").write_text("{")
    (saved_plans.folder() / "list.json").write_text("[]")
    found = {plan.name: plan for plan in saved_plans.saved()}
    assert set(found) == {"Ünïcode / name?", "../up"}
    assert found["../up"].draft == draft and found["../up"].choice == Choice(tokens=512)
    assert not (tmp_path / "runs" / "up.json").exists()
    assert come.runs.list_runs() == []
    saved_plans.delete("../up")
    saved_plans.delete("../up")
    assert len(saved_plans.saved()) == 1
    for name in (" ", "x" * 61):
        with pytest.raises(ComeError):
            saved_plans.save(name, Choice(), draft)


def test_a_plan_by_hand_takes_no_choice_of_windows_along() -> None:
    draft = Draft(target_layers=20, options={"exponent": 0.5, "span": 3, "select": "kl", "sensitivity": "fisher"})
    assert by_hand(draft, [(4, 5)]).options == {"exponent": 0.5, "sensitivity": "fisher"}
