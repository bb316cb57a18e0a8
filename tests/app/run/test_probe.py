"""The probe on the run page: its choice, and what a finished run's chart and table say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

import come.runs
from app.figures import probe as figures
from app.run import card as result_card
from app.theme import ACCENT, ORIGINAL
from come.evaluate import Probe, mean_probe
from come.report.html import document
from come.report.probes import MEAN, Pair, pairs_of
from come.runs import Run
from tests.app.conftest import Lab
from tests.asked import questions_file

Visit = Callable[..., AppTest]


def some(depth: int, layers: int, accuracy: float = 0.7, gain: float = 0.125) -> Probe:
    """A probe that reads after so many of the layers."""
    weights = tuple(0.9 if state == depth else 0.1 / layers for state in range(layers + 1))
    return Probe(weights, 1.0, accuracy, 0.05, accuracy - gain, 0.06, gain, 0.062, 0.25, 70, 30, (1, 0), (0, 1))


def test_it_is_chosen_beside_the_other_metrics(visit: Visit, monkeypatch) -> None:
    launched: list[Run] = []
    monkeypatch.setattr(come.runs, "launch", lambda *runs, **_: launched.extend(runs))
    at = visit("run", target="5")
    chips = at.pills(key="measures")
    assert chips.options[-1] == "Layers read" and chips.value == ["ppl"]
    assert "tasks" not in [each.key for each in at.multiselect]
    chips.set_value(["ppl", "probe"]).run()
    at.multiselect(key="tasks").set_value(["facts_cloze"]).run()
    at.number_input(key="task-limit").set_value(10).run()
    assert any("Fewer than 20 questions" in each.value for each in at.caption)
    at.number_input(key="task-limit").set_value(40).run()
    assert not any("Fewer than 20 questions" in each.value for each in at.caption)
    assert "--evaluate ppl,probe --tasks facts_cloze --limit 40" in at.code[0].value
    at.button(key="start").click().run()
    assert not at.exception and not at.error
    asked = {(*run.config.evaluate, *run.config.tasks, run.config.task_limit) for run in launched}
    assert asked == {("ppl", "probe", "facts_cloze", 40)}


@pytest.mark.slow
def test_a_finished_run_shows_the_mean_and_each_task(visit: Visit, lab: Lab, tmp_path: Path) -> None:
    tasks = [questions_file(tmp_path, f"{name}.jsonl", count) for name, count in (("one", 24), ("two", 30), ("few", 9))]
    fields = {"method": "shortgpt", "target_layers": 4, "keep_model": False, "evaluate": ["probe"], "tasks": tasks}
    run = lab.create(**fields)
    come.runs.execute(run)
    mean, one, _ = pairs_of(run.results())
    at = visit("run", run=run.id)
    assert not at.exception and not at.error
    choice = at.get_by_key("probed-task")
    assert (choice.options, choice.value) == ([MEAN, "one", "two"], MEAN)

    def said() -> str:
        return " ".join([*(html.proto.body for html in at.get("html")), *(each.value for each in at.caption)])

    assert "The tasks are read at" in said() and f"{mean.after.accuracy:.1%}" in said()
    assert "few.jsonl was not probed: 9 questions are fewer than 20." in said()
    choice.set_value("one").run()
    assert not at.exception
    assert "“One” is read at" in said() and f"{one.before.last_accuracy:.1%}" in said()
    assert "Accuracy" not in result_card.numbers(run.results()), "the probe's own stand below"
    report = document([run])
    assert "Which layers a task is read from: mean of the tasks" in report and "Mix of all layers" in report


def test_a_run_without_one_says_nothing_of_it(visit: Visit, lab: Lab) -> None:
    run = next(run for run in come.runs.list_runs(lab.runs) if run.config.method == "shortgpt")
    at = visit("run", run=run.id)
    assert "probed-task" not in str([each.key for each in at.get("button_group")])
    assert not any("Which layers a task is read from" in each.value for each in at.markdown)
    assert "Which layers a task is read from" not in document([run])


def test_models_of_unlike_depth_lie_upon_each_other() -> None:
    pair = Pair("what happens next", some(6, 10), some(6, 8, 0.65, -0.01))
    figure = figures.mix(pair, [[0], [1], [2, 3, 4], [5], [6], [7], [8], [9]])
    before, after = figure.data
    assert (before.line.color, after.line.color) == (ORIGINAL, ACCENT)
    assert before.x[6] == 0.6 and after.x[6] == 0.75 and after.x[-1] == before.x[-1] == 1
    assert list(before.y) == list(pair.before.weights)
    assert before.customdata[6] == "after layer 5" and after.customdata[3] == "after the original's 2 to 4"
    assert after.customdata[0] == "the embeddings"
    assert figures.mix(pair, []).data[1].customdata[3] == "after layer 2", "without a plan that fits"
    assert pair.finding == "“What happens next” is read at 59% of the depth on average, after pruning at 72%" + (
        ": one task is too few to tell these apart"
    )


def test_the_table_and_its_sentence_are_the_numbers() -> None:
    pair = Pair("facts cloze", some(6, 10), some(6, 8, 0.65, -0.01))
    told = [
        [row.name, *(f"{cell.value} {cell.beside}".strip() for cell in (*row.cells, row.change))]
        for row in pair.card.rows
    ]
    assert told == [
        ["Mix of all layers", "70.0% ± 5.0", "65.0% ± 5.0", "−5.0 points"],
        ["Last layer alone", "57.5% ± 6.0", "66.0% ± 6.0", "+8.5 points"],
        ["Guessing", "25.0%", "25.0%", ""],
    ]
    assert pair.worth.startswith("All layers together against the last alone: +12.5 ± 6.2 points before, −1.0 ± 6.2")
    assert "Learned on 70 questions, judged on 30 others" in pair.worth


def test_one_task_is_its_own_mean() -> None:
    results = {side: {"probe": {"facts_cloze": some(3, 8).to_results()}} for side in ("original", "pruned")}
    assert [pair.name for pair in pairs_of(results)] == ["facts cloze"]
    results = {
        side: {"probe": {**each["probe"], "mine.jsonl": some(6, 8).to_results()}} for side, each in results.items()
    }
    mean, *others = pairs_of(results)
    assert (mean.name, [pair.name for pair in others]) == (MEAN, ["facts cloze", "mine"])
    assert mean.before == mean_probe([pair.before for pair in others])
    del results["original"]["probe"]["facts_cloze"]
    assert [pair.name for pair in pairs_of(results)] == ["mine"]


def test_a_shift_within_its_error_is_not_claimed() -> None:
    def mean_of(*depths: tuple[int, int]) -> Pair:
        sides = zip(("original", "pruned"), zip(*depths, strict=True), strict=True)
        tasks = {side: {f"t{n}": some(depth, 10).to_results() for n, depth in enumerate(each)} for side, each in sides}
        return pairs_of({side: {"probe": each} for side, each in tasks.items()})[0]

    unsure = mean_of((6, 5), (6, 8), (6, 7))
    assert unsure.finding.startswith("The tasks are read at") and unsure.finding.endswith(
        "too few questions to tell these apart"
    )
    assert "± " in unsure.shifted and "by 3 tasks" in unsure.worth
    sure = mean_of((4, 7), (5, 8), (6, 9), (5, 8))
    assert sure.finding == "The tasks are read at 50% of the depth on average, after pruning at 77%"
    assert mean_of((5, 5), (6, 6)).finding.endswith("on average, before and after pruning")
