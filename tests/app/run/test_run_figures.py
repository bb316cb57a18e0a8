"""What a run says of its stages and draws of its steps."""

from __future__ import annotations

import pytest

import come
import come.runs
from app.figures import run as figures
from app.run import made_of, sentences
from come.models import describe
from come.numbers import ranges
from come.pruning import kept_units
from come.runs import Run, reported
from come.runs.state import State
from tests.app.conftest import Lab
from tests.runs.test_reported import EVENTS


def by_method(lab: Lab, method: str) -> Run:
    return next(run for run in come.runs.list_runs(lab.runs) if run.config.method == method and run.plan())


def test_stages_are_done_now_and_to_come(lab: Lab) -> None:
    config = by_method(lab, "come").config
    words = sentences.stages(config, State(stage="compress"))
    assert words == "Load ✓ → **Prune** → :gray[Perplexity] → :gray[Save]"


def test_what_a_run_carries_live_becomes_a_line(lab: Lab) -> None:
    events = by_method(lab, "come").events()
    assert reported.series(events) == [], "two points are no line"
    (line,) = reported.series([*events, *events])
    assert line.y == "SBI" and line.xs == [1, 2, 3, 4] and len(line.ys) == 4


def test_the_figure_of_a_training_marks_what_was_held_out() -> None:
    table = reported.curves(EVENTS)
    figure = figures.losses("distill-mp, layer 3", reported.of_part(table, "distill-mp, layer 3"))
    assert [trace.name for trace in figure.data] == ["training", "held out"]
    assert figure.layout.title.text == "Distill-mp, layer 3: held-out loss 0.8 after step 2, the lowest of 2 checks"
    single = figures.losses("logits", reported.of_part(table, "logits"))
    assert single.data[1].mode == "markers"  # a line of one point is not seen
    alone = figures.losses("distill-mp, layer 4", reported.of_part(table, "distill-mp, layer 4"))
    assert len(alone.data) == 1 and "0.7 at first" in alone.layout.title.text


def test_the_figure_marks_the_merged_windows(lab: Lab) -> None:
    run = by_method(lab, "come")
    history, plan = run.results()["history"], run.plan()
    assert plan is not None
    figure = figures.steps(history, plan.merged())
    assert figure is not None
    named = [words.partition("merged layers ")[2].partition("<br>")[0] for words in figure.data[1].hovertext]
    assert named == [ranges(group) for group in plan.merged()]
    assert list(figure.data[1].x) == [record["window"][0] for record in history]
    assert figure.layout.title.text.startswith("The first step merged layers")


def test_the_figure_of_a_removal_tells_removed_from_kept(lab: Lab) -> None:
    history = by_method(lab, "shortgpt").results()["history"]
    figure = figures.steps(history)
    assert figure is not None
    assert len(figure.data[0].x) == 4 and len(figure.data[1].x) == 2
    assert figures.steps([]) is None
    assert figures.steps([{"window": [1, 1], "ratio": [], "block_influence": [], "skip_influence": []}]) is None


@pytest.mark.parametrize("method", ["come", "shortgpt"])
def test_a_result_is_drawn_as_its_layers_before_and_after(lab: Lab, method: str) -> None:
    plan, facts = by_method(lab, method).plan(), describe(str(lab.model))
    assert plan is not None
    final = made_of._pieces(kept_units.of_plan(plan, facts), facts)
    assert [[piece.layer for piece in pieces] for pieces in final] == plan.groups()
    assert {sum(piece.channels for piece in pieces) for pieces in final} == {facts.intermediate_size}


def test_averaged_layers_are_not_drawn_as_pieces(lab: Lab) -> None:
    facts = describe(str(lab.model))
    averaged = kept_units.KeptByLayer([[0], [1, 2], [3], [4], [5]], {}, exact=True)
    assert made_of._pieces(averaged, facts) == []


def test_a_request_by_hand_names_what_it_merges_and_drops(lab: Lab) -> None:
    windows = [(first, first + 1) for first in range(0, 12, 2)]
    config = lab.create(method="come", options={"windows": windows[:2], "drop": [5]}).config
    assert ", by hand, merging 0–1, 2–3, dropping 5; " in sentences.request_sentence(config)
    many = config.model_copy(update={"options": {"windows": windows}, "windows_by_cost": True})
    assert ", by measured cost, merging 0–1, 2–3, 4–5, 6–7…; " in sentences.request_sentence(many)
