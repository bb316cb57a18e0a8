"""The home page: what it shows first, its demo, recent runs, the tour; and what a demo server refuses."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

import come.runs
from app.run import demo
from come.runs import Run
from tests.app.conftest import Lab, the_app

Visit = Callable[..., AppTest]


def fine(at: AppTest) -> AppTest:
    assert not at.exception
    assert not [error.value for error in at.error]
    return at


def test_a_visit_begins_here(visit: Visit) -> None:
    st.cache_data.clear()
    at = fine(the_app().run())
    assert at.title[0].value == "CoMe Lab"
    assert at.button(key="demo").label.startswith("Run the demo, about ")
    said = " ".join(each.value for each in at.caption)
    assert "your own plan: 22 layers" in said and "from 30 to 27 layers" in said and "runs at 27, 24, 21" in said
    assert len(at.get("plotly_chart")) == 1


def test_recent_runs_and_the_tour_are_links(visit: Visit, lab: Lab) -> None:
    at = fine(visit("home"))
    links = [link.proto for link in at.get("page_link")]
    runs = [run.id for run in come.runs.list_runs(lab.runs)]
    assert [run for run in runs if any(run in link.query_string for link in links)] == runs
    stops = [link.label for link in links if link.label.startswith("**")]
    assert stops[:3] == ["**1. Model**", "**2. Channels**", "**3. Layers**"]


def test_without_runs_it_says_so(visit: Visit, lab: Lab) -> None:
    for run in come.runs.list_runs():
        come.runs.delete(run)
    at = fine(visit("home"))
    assert any(each.value.startswith("None yet.") for each in at.caption)


def test_the_demo_is_a_sweep_of_three_methods(visit: Visit, lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    launched: list[Run] = []
    prepared: list[object] = []

    def prepare(cells: list[object], allowed: object, visit: str) -> list[Run]:
        prepared.extend(cells)
        return [lab.create(method=cell.method, target_layers=4, sweep=cell.sweep) for cell in cells]  # type: ignore[attr-defined]

    monkeypatch.setattr(come.runs, "prepare", prepare)  # the bundled model is too large for this test
    monkeypatch.setattr(come.runs, "launch", lambda *runs, **_: launched.extend(runs))
    at = visit("home")
    at.button(key="demo").click().run()
    fine(at)
    assert [run.config.method for run in launched] == ["come-joint", "come", "shortgpt"]
    assert len({run.config.sweep for run in launched}) == 1
    assert [(cell.n_tokens, cell.target_layers, cell.keep_model) for cell in prepared] == [(2048, 27, False)] * 3  # type: ignore[attr-defined]
    assert at.title[0].value == "Run" and at.query_params["run"] in (launched[0].id, [launched[0].id])
    assert demo.active_run() is not None
    again = visit("home")
    assert again.button(key="demo").label == "See the demo that is running"


# --- a public demonstration ---------------------------------------------------------------------------


def test_a_demo_server_says_what_it_limits_and_shows_no_paths(
    visit: Visit, lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COME_DEMO", "1")
    at = visit("home", model="smollm2-135m", text="python-docs")
    fine(at)
    assert any("Public demonstration" in str(each.proto) for each in at.get("popover"))
    at = visit("run")  # the tiny model, by its path
    assert not at.exception
    assert any("is not offered here" in error.value for error in at.error)
    at = visit("run", model="smollm2-135m", text="/etc/passwd")
    assert any("The text passwd is not offered here" in error.value for error in at.error)
    assert not at.exception and "start" not in {button.key for button in at.button}
    run = next(run for run in come.runs.list_runs(lab.runs) if run.config.method == "come")
    at = visit("run", run=run.id)
    shown = " ".join(each.value for kind in ("markdown", "caption", "code", "error") for each in at.get(kind))
    assert str(lab.model.parent) not in shown and str(lab.runs) not in shown
    assert not [button for button in at.button if button.key in ("delete", "drop-all", "drop-own")]


def test_a_visitor_of_a_demo_server_may_end_only_their_own_runs(
    visit: Visit, lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = lab.create(target_layers=3)
    monkeypatch.setenv("COME_DEMO", "1")
    at = visit("run", run=others.id, model="smollm2-135m", text="python-docs")
    fine(at)
    assert not [button for button in at.button if button.label in ("Cancel", "Delete for good")]
