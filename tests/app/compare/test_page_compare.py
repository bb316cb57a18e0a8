"""The compare page as a visitor meets it: runs, choices, ways to a run, nothing there."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
from streamlit.testing.v1 import AppTest

import come.runs
from app import example_runs
from app.compare import controls
from tests.app import synthetic
from tests.app.conftest import Lab

Visit = Callable[..., AppTest]


def fine(at: AppTest) -> AppTest:
    assert not at.exception
    assert not [error.value for error in at.error]
    return at


def test_the_page_compares_the_finished_runs(visit: Visit, lab: Lab) -> None:
    at = visit("compare")
    assert not at.exception and not at.error
    assert any(each.value.startswith("## At 4 layers ") and "perplexity" in each.value for each in at.markdown)
    assert any(each.value.endswith("runs, calibrated on 1,024 tokens") for each in at.caption)
    table = at.dataframe[0].value
    assert set(table["Method"]) == {"original", "CoMe", "ShortGPT"}
    for run in come.runs.list_runs(lab.runs):
        if run.config.kind == "compress":
            perplexity = run.results()["pruned"]["perplexity"]
            assert any(math.isclose(perplexity, value) for value in table["Perplexity"])


def test_how_much_was_read_before_is_said_of_all_that_are_shown() -> None:
    read = [SimpleNamespace(pruned=True, run=SimpleNamespace(config=SimpleNamespace(n_tokens=n))) for n in (4096, 2048)]
    assert controls.calibrated_on(read) == ", calibrated on 2,048 or 4,096 tokens"
    assert controls.calibrated_on([*read, *read[:1]]) == controls.calibrated_on(read)
    assert controls.calibrated_on([]) == ""


def test_runs_can_be_chosen_and_left_out(visit: Visit, lab: Lab) -> None:
    at = visit("compare")
    methods, layers, without = at.multiselect
    assert layers.options == ["4"] and len(without.options) == 2
    at = fine(methods.set_value(["CoMe"]).run())
    assert list(at.dataframe[0].value["Method"]) == ["original", "CoMe"]
    come_run = next(run.id for run in come.runs.list_runs() if run.config.method == "come")
    at = fine(at.multiselect[2].set_value([come_run]).run())
    assert not at.dataframe
    assert any("filters leave no run" in each.value for each in at.markdown)


def test_runs_that_cannot_be_compared_are_listed_with_the_reason(visit: Visit, lab: Lab) -> None:
    lab.create(target_layers=3)
    elsewhere = lab.create(target_layers=3, name="elsewhere", evaluation_tokens=256)
    elsewhere.update(status="done")
    some = next(run for run in come.runs.list_runs(lab.runs) if run.config.method == "shortgpt" and run.plan())
    results = some.results()
    results["evaluation"]["n_tokens"] = 256
    results["request"] = elsewhere.written_state().request
    (elsewhere.path / "results.json").write_text(json.dumps(results))
    at = visit("compare")
    assert not at.exception
    several = at.selectbox(key="comparison")
    assert len(set(several.options)) == 2
    at = fine(several.set_value(several.options[1]).run())
    assert at.query_params["comparison"] in (several.options[1], [several.options[1]])
    at.selectbox(key="comparison").options.append("as it was called before")
    at = fine(at.selectbox(key="comparison").set_value("as it was called before").run())
    assert at.selectbox(key="comparison").value in several.options
    assert not at.exception
    reasons = " ".join(each.value for each in at.markdown)
    assert "waits for its turn" in reasons and "another model or text" in reasons
    of_both = "512 tokens" in at.selectbox(key="comparison").value  # which is offered first, two ids decide by chance
    assert list(at.dataframe[0].value["Method"]) == ["original", "CoMe", *(["ShortGPT"] if of_both else [])]


def test_without_runs_the_example_is_shown_or_the_way_to_a_first_run(visit: Visit, lab: Lab, monkeypatch) -> None:
    shipped = lab.runs.rename(lab.runs.with_name("shipped"))
    monkeypatch.setattr(example_runs, "FOLDER", shipped)
    at = visit("compare")
    assert not at.exception
    assert any("Shipped example" in each.value for each in at.caption)
    assert len(at.dataframe[0].value) == 3
    ways = at.selectbox(key="open-compared")
    run = next(run for run in come.runs.list_runs(shipped) if run.config.method == "come")
    at = fine(ways.set_value(run.id).run())  # every number leads to its run, shipped ones too
    assert at.title[0].value == "Run" and at.query_params["run"] in (run.id, [run.id])
    monkeypatch.setattr(example_runs, "FOLDER", lab.runs.with_name("nowhere"))
    at = visit("compare")
    assert not at.exception
    assert any("No finished run yet" in each.value for each in at.markdown)


# --- a large comparison ------------------------------------------------------------------------------

METHODS = ("come", "shortgpt", "sleb", "deeper", "reverse", "laco", "slm", "random")


@pytest.fixture
def large(visit: Visit, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Visit:
    """Opens the page on runs of eight methods, three targets and two seeds: ``large(metric="decode")``."""
    monkeypatch.setenv("COME_RUNS", str(tmp_path / "made-up"))
    synthetic.sweep(tmp_path / "made-up", METHODS, (27, 24, 21), (0, 1))
    return partial(visit, "compare")


def test_the_default_view_answers_the_question(large: Visit) -> None:
    at = fine(large())
    assert at.selectbox(key="metric").value == "perplexity"
    answer = next(each.value for each in at.markdown if each.value.startswith("## "))
    assert answer.startswith("## At 27 layers ") and "perplexity" in answer
    assert any(" of 8: " in each.value for each in at.markdown)  # where CoMe stands
    assert any("95% interval" in each.value for each in at.caption)
    assert len(at.dataframe[0].value) == 48 + 2  # and the original of each seed
    assert any("means over seeds" in each.value for each in at.markdown)


@pytest.mark.parametrize(
    ("metric", "against", "charts"),
    [
        ("bits_per_byte", "sparsity", 3),
        ("kl", "parameters", 3),
        ("accuracy", "sparsity", 3),
        ("retention", "layers", 3),
        ("decode", "parameters", 2),
        ("peak_memory", "layers", 2),
    ],
)
def test_metrics_and_sizes_by_link(large: Visit, metric: str, against: str, charts: int) -> None:
    at = fine(large(metric=metric, against=against))
    assert at.selectbox(key="metric").value == metric
    assert at.query_params["metric"] in (metric, [metric])
    assert len(at.get("plotly_chart")) == charts
    answer = next(each.value for each in at.markdown if each.value.startswith("## "))
    assert "perplexity" not in answer  # it speaks of the chart's own metric
    assert " layers " in answer, "as the choice beside it says, whatever the lower chart is drawn against"


def test_the_size_and_the_rival_can_be_chosen(large: Visit) -> None:
    at = fine(large())
    at = fine(at.segmented_control(key="judged-at").set_value("24").run())
    assert any(each.value.startswith("## At 24 layers ") for each in at.markdown)
    at = fine(at.selectbox(key="compared-with").set_value("the original").run())
    assert at.query_params["compared-with"] in ("the original", ["the original"])
    shown = fine(large(**{"judged-at": "21", "compared-with": "CoMe"}))
    assert shown.selectbox(key="compared-with").value == "CoMe"
    assert any(each.value.startswith("## At 21 layers ") for each in shown.markdown)


def test_a_task_of_its_own_can_be_chosen_and_a_strange_link_is_passed_over(large: Visit) -> None:
    assert fine(large(metric="accuracy/cloze_facts")).selectbox(key="metric").value == "accuracy/cloze_facts"
    assert fine(large(metric="beauty")).selectbox(key="metric").value == "perplexity"


def test_a_clicked_point_opens_its_run(large: Visit) -> None:
    at = large()
    run = come.runs.list_runs()[0].id
    at.session_state["run-to-open"] = True
    at.session_state["_run"] = (run, None, 0.0)
    at = fine(at.run())
    assert at.title[0].value == "Run"


def test_the_widget_opens_a_run(large: Visit) -> None:
    at = large()
    run = come.runs.list_runs()[5]
    at = fine(at.selectbox(key="open-compared").set_value(run.id).run())
    assert at.title[0].value == "Run"
    assert at.query_params["run"] in (run.id, [run.id])


def test_a_clicked_mean_offers_its_runs(large: Visit) -> None:
    at = large()
    both = [run.id for run in reversed(come.runs.list_runs()) if run.config.method == "sleb"]
    both = [run for run in both if run.endswith("24")]
    at.session_state["runs-picked"] = both
    at = fine(at.run())
    buttons = [button for button in at.button if button.label.startswith("Open seed")]
    assert len(buttons) == 2
    at = fine(buttons[1].click().run())
    assert at.query_params["run"] in (both[1], [both[1]])


def test_runs_at_work_are_told(large: Visit, tmp_path: Path) -> None:
    synthetic.write(tmp_path / "made-up", "9999", {}, "come", 18, status="queued")
    at = fine(large())
    assert any("1 run is at work or waiting" in each.value for each in at.caption)


def test_a_figure_that_no_run_has_is_not_offered(large: Visit, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("COME_RUNS", str(tmp_path / "other"))
    synthetic.sweep(tmp_path / "other", ("come", "sleb"), (27, 24), measure=("ppl",))
    at = fine(large())
    assert at.selectbox(key="metric").options == [
        "Perplexity",
        "Bits per byte",
        "KL to the original",
        "Memory of the weights",
    ]
