"""The layers page's table of what merging each window costs: what is known, added to the plan, measured meanwhile."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

import come.runs
from app.components import window_costs
from app.figures import window_costs as figures
from app.layers import costs
from app.state import session
from come.models import describe
from come.pruning.windows import WindowCost
from come.runs import Run
from come.runs.state import identity
from come.runs.window_costs import FILE, VERSION
from come.serving import window_costs as background
from tests.app.conftest import Lab
from tests.app.plan.test_page_costs import measured_costs

Visit = Callable[..., AppTest]
MERGED = {(0, 1): 0.9, (1, 2): 0.3, (2, 3): 0.2, (3, 4): 0.4, (4, 5): 0.5}


def known(size: int, merged: dict[tuple[int, int], float]) -> list[WindowCost]:
    return [
        WindowCost(first, last, each - 0.05, each, 2 * each, 1.5 * each, first)
        for (first, last), each in merged.items()
        if last - first + 1 == size
    ]


def analysis() -> Run:
    return next(run for run in come.runs.list_runs() if run.config.kind == "analyze")


def keep(found: list[WindowCost]) -> None:
    lines = (json.dumps({"version": VERSION, **asdict(each)}) for each in found)
    (analysis().path / FILE).write_text("".join(f"{line}\n" for line in lines))


def said(at: AppTest) -> str:
    html = [element.proto.body for element in at.get("html")]
    return " ".join([*html, *(element.value for kind in (at.markdown, at.caption, at.error) for element in kind)])


def fine(at: AppTest) -> AppTest:
    assert not at.exception and not at.error
    return at


def test_the_page_says_by_what_an_automatic_plan_goes_until_costs_are_measured(visit: Visit, lab: Lab) -> None:
    words = "Your plan goes by block influence until merging windows of 4 layers is measured, and may change then."
    assert words in said(fine(visit("layers", method="come-joint", target="3")))
    measured_costs(lab, 4, cheapest=0)
    assert "goes by block influence" not in said(fine(visit("layers", method="come-joint", target="3")))
    assert "goes by block influence" not in said(fine(visit("layers", windows="1-2")))


def test_of_one_window_nothing_is_called_least() -> None:
    title = figures.finding(known(2, {(0, 1): 0.9}))
    assert title == "Merging layers 0–1 costs 0.900 nats; removing one of them 1.350"


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What was asked to be measured; nothing is."""
    asked: list[tuple[Any, ...]] = []
    monkeypatch.setattr(background, "start", lambda *arguments: asked.append(arguments))
    return asked


def test_windows_are_listed_by_what_their_merge_costs(visit: Visit, lab: Lab) -> None:
    keep(known(2, MERGED))
    at = fine(visit("layers"))
    assert "Of 5 measured, merging layers 2–3 costs least: 0.200 nats; removing one of them 0.300" in said(at)
    _, *rows = said(at).split("<div class='come-cost'>")
    assert [row.split("</span>")[0].removeprefix("<span>") for row in rows] == ["2–3", "1–2", "3–4", "4–5", "0–1"]
    assert "<b>0.200</b><span>0.300</span><span>5</span>" in rows[0], "of the plan with it in"
    assert costs.BELOW_ZERO not in said(at)
    split = said(at.toggle(key="split-cost").set_value(True).run())
    _, _, row, *_ = split.split("<div class='come-cost'>")
    assert "<b>0.300</b><span>0.250</span><span>+0.050</span></div>" in row, "the two that it is the sum of, no more"
    assert costs.BELOW_ZERO not in split
    keep([WindowCost(0, 1, 0.4, 0.15, 0.5, 0.4, 1)])
    won_back = said(fine(visit("layers")).toggle(key="split-cost").set_value(True).run())
    assert "<span>−0.250</span>" in won_back and costs.BELOW_ZERO in won_back


def test_a_row_is_added_to_the_plan_which_its_method_merges(visit: Visit, lab: Lab) -> None:
    keep(known(2, MERGED))
    at = fine(visit("layers"))
    at.button(key="add-2–3").click().run()
    fine(at)
    assert at.button(key="add-2–3").disabled
    linked = {name: at.query_params[name] for name in ("method", "windows")}
    assert linked in ({"method": "come-joint", "windows": "2-3"}, {"method": ["come-joint"], "windows": ["2-3"]})


def test_a_bar_opens_its_window() -> None:
    def script() -> None:
        import streamlit as st

        from app.layers import costs
        from app.state import session

        st.session_state["window-costs"] = {"selection": {"points": [{"customdata": {"0": 3, "1": 4}}]}}
        costs._open_clicked()
        st.text(f"{session.value('first')} {session.value('last')}")

    assert AppTest.from_function(script, default_timeout=240).run().text[0].value == "3 4"


def test_a_window_moves_with_its_first_layer(visit: Visit, lab: Lab) -> None:
    at = fine(visit("layers", first="1", last="3"))
    at = fine(at.number_input(key="first").set_value(2).run())
    assert at.number_input(key="last").value == 4, "as long as it was"
    at = fine(at.number_input(key="last").set_value(5).run())
    assert at.number_input(key="first").value == 2, "its last layer is what makes it longer"
    at = fine(at.number_input(key="first").set_value(4).run())
    assert at.number_input(key="last").value == 5, "there are no more layers"


def test_where_the_plans_window_is_of_another_size_that_is_said() -> None:
    found = known(2, MERGED) + known(3, {(1, 3): 0.5, (2, 4): 0.4, (0, 2): 0.9})
    said = costs._elsewhere(2, found, [(2, 4)], False)
    assert said.startswith("The suggested plan merges 2–4, of 3 layers the cheapest measured: choose 3 layers above")
    assert len(said.split()) <= 18
    assert "cheapest" not in costs._elsewhere(2, found, [(1, 3)], False)
    assert "cheapest" not in costs._elsewhere(2, known(3, {(1, 3): 0.5}), [(1, 3)], False), "of one alone"
    assert not costs._elsewhere(3, found, [(2, 4)], False) and not costs._elsewhere(2, found, [], False)
    assert "choose" not in costs._elsewhere(2, found, [(1, 4)], True), "the example has none of that size"


def test_least_change_and_least_cost_are_told_apart() -> None:
    found = known(2, {(1, 2): 0.5, (2, 3): 0.25})
    assert costs._unlike(found, [(1, 2)]).endswith("change the state least, costs 0.500; 2–3 cost 0.250.")
    assert not costs._unlike(found, [(2, 3)]) and not costs._unlike(found, [(4, 5)])
    assert not costs._unlike(found, [(1, 2), (2, 3)]), "it cannot be told from the least"


def test_what_is_missing_is_measured_when_it_is_asked_for(
    visit: Visit, lab: Lab, started: list[tuple[Any, ...]]
) -> None:
    keep(known(2, {window: MERGED[window] for window in ((1, 2), (2, 3))}))
    at = fine(visit("layers"))
    size = 6 - describe(str(lab.model)).layers_for_sparsity(0.2) + 1
    sizes = [2] if size == 2 else [2, size]
    assert not started
    at.button(key="measure-windows").click().run()
    ((run, asked, seconds),) = started
    assert run.id == analysis().id and asked == sizes and seconds == 120.0
    assert "up to 2 min" in at.button(key="measure-windows").label


def test_it_begins_by_itself_once(
    visit: Visit, lab: Lab, started: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(window_costs, "LARGE", 1e12)
    fine(visit("layers"))
    assert len(started) == 1
    (analysis().path / background.STATE).write_text(json.dumps({"status": "done"}))
    keep([*known(2, MERGED), WindowCost(0, 2, 0.1, 0.2, 0.3, 0.3, 1)])
    fine(visit("layers", method="come"))  # of which pairs alone matter
    assert len(started) == 1
    (analysis().path / FILE).unlink()
    (analysis().path / background.STOP).touch()  # somebody ended it
    fine(visit("layers"))
    assert len(started) == 1


def test_while_it_is_measured_the_page_says_how_far_and_can_end_it(visit: Visit, lab: Lab) -> None:
    keep(known(2, {(1, 2): 0.3}))
    told = {"status": "working", "message": "Merging layers 2 to 3", **identity(os.getpid())}
    (analysis().path / background.STATE).write_text(json.dumps(told))
    at = fine(visit("layers"))
    assert "Merging layers 2 to 3" in said(at) and "for up to 2 min" in said(at)
    at.button(key="stop-windows").click().run()
    assert (analysis().path / background.STOP).exists()
    (analysis().path / background.STATE).write_text(json.dumps({"status": "failed", "error": "No room.", "hint": "X."}))
    at = visit("layers")
    assert not at.exception and "No room. X." in said(at)


def test_the_example_has_its_own_and_nothing_is_measured_beside_it(
    visit: Visit, started: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(window_costs, "LARGE", 1e12)
    at = fine(visit("layers", model="smollm2-135m", text="python-docs", tokens="4096", seq_len="512"))
    assert not started and "Shipped example" in said(at)
    assert not [button for button in at.button if button.key == "measure-windows"]


def test_in_a_demonstration_only_ones_own_analysis_is_measured(
    visit: Visit, lab: Lab, started: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(window_costs, "LARGE", 1e12)
    monkeypatch.setattr(session, "owns", lambda run: False)
    at = fine(visit("layers"))
    assert not started and at.button(key="measure-windows").disabled


# --- the chart ----------------------------------------------------------------------------------------


FOUND = [
    WindowCost(0, 1, 0.1, 0.25, 0.5, 0.4, 0),
    WindowCost(1, 2, 0.4, 0.15, 0.5, 0.4, 1),
    WindowCost(2, 3, 9.5, 9.0, 9.5, 0.2, 2),
    WindowCost(3, 4, float("inf"), float("inf"), 0.5, 0.4, 3),
]


@pytest.mark.parametrize("split", [False, True])
def test_a_bar_is_the_cost_whatever_it_is_compared_with(split: bool) -> None:
    figure = figures.costs(FOUND, 5, planned=[(1, 2)], selected=(0, 1), split=split)
    bars = next(trace for trace in figure.data if trace.name == "cost")
    assert list(bars.y) == pytest.approx([0.25, 0.15, 9.0]) and not bars.base
    assert list(bars.customdata[1]) == [1, 2] and list(bars.x) == [0.5, 1.5, 2.5]
    assert figure.layout.barmode == "overlay" and len(figure.layout.shapes) == 2


def test_a_tick_stands_at_all_units_kept_above_the_cost_or_below_it() -> None:
    figure = figures.costs(FOUND, 5, split=True)
    (ticks,) = (trace for trace in figure.data if trace.type == "bar" and trace.name != "cost")
    middles = [base + thick / 2 for base, thick in zip(ticks.base, ticks.y, strict=True) if thick]
    assert middles == pytest.approx([0.1, 0.4]), "of that which is cut off none is drawn, in no other place"
    assert list(ticks.customdata[1]) == [1, 2], "a click on it opens the window, too"
    assert {trace.name for trace in figure.data if trace.showlegend is not False} == {"cost", "all units kept"}
    assert "layers 1–2, all units kept, costs 0.400 nats; with fewer units, refitted, 0.150" in figure.layout.title.text
    assert "merging layers 1–2 costs least: 0.150" in figures.costs(FOUND, 5).layout.title.text


@pytest.mark.parametrize(("split", "told"), [(True, ["cost 9", "all units kept 9.5"]), (False, ["cost 9"])])
def test_what_is_cut_off_alone_is_told_by_name_above_its_own_bar(split: bool, told: list[str]) -> None:
    figure = figures.costs(FOUND, 5, split=split)
    top = figure.layout.yaxis.range[1]
    assert top < 2
    (note,) = figure.layout.annotations
    assert all(words in note.text for words in told) and note.text.count("</span>") == len(told)
    assert (note.x, note.y, note.yanchor, note.textangle) == (2.5, top, "bottom", None)
    legend = figure.layout.legend
    assert (legend.yref, legend.y, legend.yanchor) == ("container", 1, "top"), "clear of the numbers at any height"
    whole = figures.costs(FOUND[:2], 5, split=split)
    assert not whole.layout.annotations and whole.layout.margin.t < figure.layout.margin.t


def test_of_several_that_are_cut_off_the_numbers_stand_upright_above_their_bars() -> None:
    far = [replace(FOUND[2], first=first, last=first + 1) for first in (2, 3)]
    notes = figures.costs([*FOUND[:2], replace(FOUND[1], first=4, last=5), *far], 6).layout.annotations
    assert [(note.x, note.textangle) for note in notes] == [(2.5, -90), (3.5, -90)]
    assert all(note.text.endswith("▶</span>9") for note in notes)


@pytest.mark.parametrize("plan", [{"windows": "1-3"}, {"windows": ""}])
@pytest.mark.parametrize("method", ["come", "come-joint"])
def test_a_window_keeps_the_same_on_the_layers_page_and_in_the_plan(visit: Visit, method: str, plan: dict) -> None:
    plan = {"method": method, **plan}
    at = fine(visit("layers", first="1", last="3", **plan))
    title = {"come": "CoMe", "come-joint": "CoMe-Joint, an estimate"}[plan["method"]]
    assert any(f"<p class='come-finding'>{title}: " in element.proto.body for element in at.get("html"))
    (puzzle,) = (chart for chart in at.get("plotly_chart") if "FFN channels" in chart.proto.spec)
    here = [[int(counts[0]) for counts in bar["customdata"]] for bar in json.loads(puzzle.proto.spec)["data"]]
    table = fine(visit("plan", **plan | {"windows": "1-3"})).dataframe[0].value
    assert list(table["Layer"]) == [1, 2, 3]
    kept = [next(name for name in table if name.startswith(kind)) for kind in ("Feed-forward", "Key/value")]
    assert here == table[kept].to_numpy().tolist() and sum(map(sum, here)) > 0


def test_a_click_adds_the_window_that_was_typed_just_before(visit: Visit) -> None:
    at = fine(visit("layers", first="1", last="2", windows=""))
    at.number_input(key="last").set_value(3)
    at = fine(at.button(key="change-plan").click().run())
    assert at.query_params["windows"] in ("1-3", ["1-3"])


def test_what_a_window_replaces_is_told_before_and_after_and_taken_back(visit: Visit, lab: Lab) -> None:
    at = fine(visit("layers", first="1", last="3", windows="3-4"))
    assert at.button(key="change-plan").label == "Replace 3–4" and "Overlaps 3–4 of your plan." in said(at)
    at = fine(at.button(key="change-plan").click().run())
    assert at.button(key="change-plan").label == "Remove"
    assert "1–3 replaced 3–4." in said(at) and at.query_params["windows"] in ("1-3", ["1-3"])
    at = fine(at.button(key="undo-card").click().run())
    assert at.button(key="change-plan").label == "Replace 3–4" and at.query_params["windows"] in ("3-4", ["3-4"])
    assert not [button for button in at.button if button.key == "undo-card"]
    assert fine(visit("layers", first="1", last="3", windows="0-1,3-4")).button(key="change-plan").label == (
        "Replace 2 windows"
    )
    keep(known(2, MERGED))
    labels = {b.key: b.label for b in fine(visit("layers", method="come-joint", windows="3-4")).button}
    assert (labels["add-2–3"], labels["add-1–2"]) == ("replace 3–4 **by 2–3**", "add **1–2**")


def test_a_window_that_is_not_measured_can_be(visit: Visit, lab: Lab, started: list[tuple[Any, ...]]) -> None:
    keep(known(2, MERGED))
    at = fine(visit("layers", first="1", last="2"))
    assert "per token. Of 5 windows of 2 layers, 1 costs less." in said(at)
    assert "0.300 nats" in said(at) and "measure-window" not in {button.key for button in at.button}
    at = fine(visit("layers", first="1", last="3"))
    assert "not measured" in said(at)
    at.button(key="measure-window").click().run()
    assert [(sizes, window) for _, sizes, _, window in started] == [((), (1, 3))]
    told = {"status": "working", "message": "Merging layers 1 to 3", **identity(os.getpid())}
    (analysis().path / background.STATE).write_text(json.dumps(told))
    assert fine(visit("layers", first="1", last="3")).button(key="measure-window").disabled
