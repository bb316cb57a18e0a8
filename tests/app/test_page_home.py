"""The home page: what it shows first, its demo, recent runs, the tour; and what a demo server refuses."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

import come.runs
from app.figures.plan import Piece
from app.home import ribbons
from app.run import demo
from come.report import comparison
from come.runs import Run
from tests.app.conftest import Lab, the_app
from tests.rewriting import rewrite_request

Visit = Callable[..., AppTest]


def fine(at: AppTest) -> AppTest:
    assert not at.exception
    assert not [error.value for error in at.error]
    return at


def test_a_visit_begins_here(visit: Visit) -> None:
    st.cache_data.clear()
    for run in come.runs.list_runs():
        come.runs.delete(run)
    at = fine(the_app().run())
    assert at.title[0].value == "CoMe Lab"
    assert at.button(key="demo").label.startswith("Run the demo, about ")
    said = " ".join(each.value for each in [*at.caption, *at.markdown])
    html = " ".join(each.proto.body for each in at.get("html"))
    assert html.index("30 layers become 27: CoMe-Joint makes one of layers ") < html.index("At 27 layers CoMe-Joint")
    assert ribbons.READING in said
    assert (
        "30 to 27 layers, three ways: CoMe-Joint merges one window" in said
        and "<b>30 layers</b>" in html
        and "At 27 layers CoMe-Joint" in html
    )
    assert not re.search(r"\b2[2-4] layers", said + html), "one thing is told: the demo's size is the example's"
    assert len(at.get("plotly_chart")) == 2


def test_recent_runs_and_the_tour_are_links(visit: Visit, lab: Lab) -> None:
    at = fine(visit("home"))
    links = [link.proto for link in at.get("page_link")]
    runs = [run.id for run in come.runs.list_runs(lab.runs)]
    assert [run for run in runs if any(run in link.query_string for link in links)] == runs
    stops = [link.label for link in links if link.label.startswith("**")]
    assert stops[:3] == ["**1. Model**", "**2. Channels**", "**3. Layers**"]


def test_ones_own_newest_result_comes_before_the_example(visit: Visit, lab: Lab) -> None:
    newest = next(run for run in come.runs.list_runs(lab.runs) if run.config.kind == "compress")
    at = fine(visit("home"))
    html = " ".join(each.proto.body for each in at.get("html"))
    assert f"{comparison.run_name(newest)}: perplexity " in html and "\u00a0→\u00a0" in html
    captions = [each.value for each in at.caption]
    assert any("Your newest result" in each for each in captions) and not any("example" in each for each in captions)
    assert not any("interval" in each for each in captions)  # none is shown
    (link,) = [link for link in at.get("page_link") if link.proto.label == "Open it"]
    assert f"run={newest.id}" in link.proto.query_string


def test_the_demo_is_the_one_primary_button_and_the_lesson_stands_beside_it(visit: Visit, lab: Lab) -> None:
    at = fine(visit("home"))
    assert [button.key for button in at.button if button.proto.type == "primary"] == ["demo"]
    assert "Learn it in eight steps" in [link.proto.label for link in at.get("page_link")]
    for run in come.runs.list_runs():
        come.runs.delete(run)
    assert fine(visit("home")).button(key="demo").proto.type == "primary"


def test_of_a_sweep_the_headline_is_its_verdict(visit: Visit, lab: Lab) -> None:
    for run in come.runs.list_runs(lab.runs):
        if run.config.kind == "compress":
            rewrite_request(run, json.loads((run.path / "config.json").read_text()) | {"sweep": "demo-1"})
    html = " ".join(each.proto.body for each in fine(visit("home")).get("html"))
    assert "At 4 layers" in html and "\u00a0→\u00a0" not in html
    assert "layers become 4: " in html


def test_what_became_of_the_layers_is_one_sentence() -> None:
    def layers(*groups: Sequence[int]) -> list[list[Piece]]:
        return [[Piece(layer, 1, 1) for layer in group] for group in groups]

    assert ribbons.sentence(3, layers([0], [1], [2]), "X") == "X leaves all 3 layers in place"
    assert ribbons.sentence(4, layers([0], [1, 2], [3]), "X") == (
        "4 layers become 3: X makes one of layers 1–2; 2 stay as they are"
    )
    assert ribbons.sentence(4, layers([0, 1], [2, 3]), "X").endswith("X makes one of layers 0–1 and one of 2–3")
    assert "makes 3 layers of 6" in ribbons.sentence(6, layers([0, 1], [2, 3], [4, 5]), "X")
    assert ribbons.sentence(4, layers([0], [1]), "X") == "4 layers become 2: X removes layers 2–3; 2 stay as they are"
    assert "X removes 5; 1 stays as it is" in ribbons.sentence(6, layers([0]), "X")
    assert "makes one of layers 0–1 and removes layer 2" in ribbons.sentence(4, layers([0, 1], [3]), "X")


def test_a_newest_run_whose_layers_cannot_be_drawn_leaves_its_chart(
    visit: Visit, lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ribbons.made_of, "of", lambda run: None)
    at = fine(visit("home"))
    assert len(at.get("plotly_chart")) == 1 and ribbons.READING not in [each.value for each in at.caption]


def test_without_runs_there_is_the_example_and_no_empty_list(visit: Visit, lab: Lab) -> None:
    for run in come.runs.list_runs():
        come.runs.delete(run)
    at = fine(visit("home"))
    assert not at.header and any("Shipped example" in each.value for each in at.caption)


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
