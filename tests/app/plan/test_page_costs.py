"""The plan page by what merging windows was measured to cost: which it takes, and which it lists."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict

import pytest
from streamlit.testing.v1 import AppTest

import come.runs
from come.pruning.windows import WindowCost
from come.report import comparison
from come.runs import Run
from come.runs.window_costs import FILE, VERSION
from tests.app.conftest import Lab
from tests.app.plan.reading import chosen

Visit = Callable[..., AppTest]
pytestmark = pytest.mark.usefixtures("no_process")


def measured_costs(lab: Lab, size: int, cheapest: int) -> None:
    """What merging windows of so many layers was measured to cost, made up: the one from `cheapest` on least."""
    (run,) = [run for run in come.runs.list_runs(lab.runs) if run.config.kind == "analyze"]
    merged = [0.3 + (first != cheapest) for first in range(6 - size + 1)]
    found = [
        WindowCost(first, first + size - 1, 0.5, each, 9.0, 9.0, first, (each,) * 4)
        for first, each in enumerate(merged)
    ]
    lines = [{"version": VERSION, **asdict(each)} for each in found]
    (run.path / FILE).write_text("".join(f"{json.dumps(line)}\n" for line in lines))


def test_an_automatic_plan_goes_by_measured_costs_where_there_are_any(
    visit: Visit, lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    launched: list[Run] = []
    monkeypatch.setattr(come.runs, "launch", lambda *runs, **_: launched.extend(runs))
    at = visit("plan", method="come-joint", target="3")
    assert any("**By block influence**" in caption.value for caption in at.caption)
    measured_costs(lab, 4, cheapest=0)
    at = visit("plan", method="come-joint", target="3")
    assert not at.exception and not at.error
    (words,) = [caption.value for caption in at.caption if "**By measured costs**" in caption.value]
    assert "of 3 windows of 4 layers, none costs clearly less than 0–3 (0.300 nats per token" in words
    assert "on calibration and mixed text)" in words
    assert any(caption.value == "On calibration and mixed text." for caption in at.caption), "and the list says so, too"
    assert list(at.dataframe[0].value["Window"]) == ["0–3"] * 4
    assert (chosen(at, "target"), chosen(at, "windows")) == ("3", "")  # the link says what was asked for
    # The run is told to merge just these, and is found again by that.
    at.button(key="go-to-run").click().run()
    assert any("merging 0–3" in each.value for each in at.markdown)
    (command,) = [code.value for code in at.code if code.value.startswith("come run")][:1]
    assert "--method come-joint" in command and "windows=[[0,3]]" in command.replace(" ", "")
    at = at.switch_page("../pages/run.py").run()
    at.button(key="start").click().run()
    told = {run.config.method: run.config.windows_by_cost for run in launched}
    assert told.pop("come-joint") and told and not any(told.values())
    assert comparison.run_name(launched[0]).startswith("CoMe-Joint, windows by measured cost")
    at = visit("plan", method="come-joint", target="3", text="python-docs", tokens="512")
    assert not [caption for caption in at.caption if "**By measured costs**" in caption.value]


def test_costs_of_another_size_or_of_another_merge_decide_nothing(visit: Visit, lab: Lab) -> None:
    measured_costs(lab, 4, cheapest=0)
    for params in ({"target": "4"}, {"target": "3", "options": "score:loss"}):
        at = visit("plan", method="come-joint", **params)
        assert any("**By block influence**" in caption.value for caption in at.caption)
    at = visit("plan", method="come", target="3")
    assert not [caption for caption in at.caption if "**By " in caption.value]


def test_ready_made_pairs_are_the_cheapest_that_were_measured(visit: Visit, lab: Lab) -> None:
    measured_costs(lab, 2, cheapest=4)
    at = visit("plan", method="come-joint", target="3")
    at.button(key="preset-One pair").click().run()
    assert (chosen(at, "method"), chosen(at, "windows")) == ("come-joint", "4-5")
    listed = visit("plan", method="come-joint", target="3").dataframe[-1].value["Layers"]
    at = visit("plan", method="come-joint", target="3")
    at.button(key="preset-Three pairs").click().run()
    assert chosen(at, "windows") == "0-1,2-3,4-5" and {"0–1", "2–3", "4–5"} <= set(listed)
    at = visit("plan", method="come", target="3")
    at.button(key="preset-One pair").click().run()
    assert chosen(at, "method") == ""  # CoMe's own, by SBI


def test_the_list_says_what_a_click_would_replace(visit: Visit, lab: Lab) -> None:
    measured_costs(lab, 2, cheapest=4)
    listed = visit("plan", method="come-joint", windows="1-2").dataframe[-1].value
    assert "Per layer" not in listed  # all save one: it would be the cost again
    does = dict(zip(listed["Layers"], listed["Add"], strict=True))
    assert does == {
        "4–5": "add",
        "0–1": "replace 1–2",
        "1–2": "in the plan",
        "2–3": "replace 1–2",
        "3–4": "add",
    }
    left = dict(zip(listed["Layers"], listed["Left"], strict=True))
    assert left == {"4–5": 4, "0–1": 5, "1–2": 5, "2–3": 5, "3–4": 4}  # of six
    measured_costs(lab, 4, cheapest=0)
    listed = visit("plan", method="come-joint", windows="0-3").dataframe[-1].value
    assert list(listed["Per layer"]) == [pytest.approx(cost / 3) for cost in listed["Cost"]]
