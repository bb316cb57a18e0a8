"""The plan page: choosing by layers and by share, by which method, and what it says of it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from streamlit.testing.v1 import AppTest

import come.runs
from app.plan import preview
from come.models import describe
from tests.app.conftest import Lab
from tests.app.plan.reading import chosen, shown

Visit = Callable[..., AppTest]
pytestmark = pytest.mark.usefixtures("no_process")


def test_the_default_is_a_fifth_of_the_parameters(visit: Visit, lab: Lab) -> None:
    at = visit("plan")
    assert not at.exception and not at.error
    layers = describe(str(lab.model)).layers_for_sparsity(0.2)
    assert at.slider(key="share").value == 20
    assert f"<b>{layers}</b><span>of 6</span>" in shown(at)


def test_a_target_by_layers_says_what_is_left(visit: Visit) -> None:
    at = visit("plan", target="4")
    assert at.slider(key="target").value == 4
    assert "<b>4</b><span>of 6</span>" in shown(at)
    at.slider(key="target").set_value(3).run()
    assert "<b>3</b><span>of 6</span>" in shown(at)
    assert at.query_params["target"] in ("3", ["3"])


def test_the_table_says_what_each_layer_keeps(visit: Visit) -> None:
    at = visit("plan", windows="1-2", ratios="0.25-0.75")
    table = at.dataframe[0].value
    assert list(table["Layer"]) == [1, 2] and set(table["Window"]) == {"1–2"}
    assert list(table["Feed-forward (FFN) channels of 48"]) == [12, 36]
    assert list(table["Key/value (KV) groups of 4"]) == [1, 3]
    assert any("Exact" in each.value for each in at.markdown)


def test_an_automatic_plan_is_called_an_estimate(visit: Visit) -> None:
    at = visit("plan", target="4")
    assert any("An estimate" in each.value for each in at.markdown)
    assert len(set(at.dataframe[0].value["Window"])) == 2


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        ({"windows": "1-2,2-3"}, "overlap"),
        ({"windows": "4-9"}, "does not fit"),
        ({"windows": "1-2", "drop": "2"}, "dropped and merged at once"),
        ({"windows": "1-2", "drop": "6"}, "no layer 6"),
        ({"drop": "0,1,2,3,4,5"}, "No layer would be left"),
        ({"windows": "1-4", "ratios": "0.5-0.2-0.2-0.3"}, "sum"),
        ({"target": "9"}, "out of range"),
        ({"remove": "0.99"}, "out of reach"),
    ],
)
def test_a_bad_plan_is_one_sentence_and_nothing_is_lost(visit: Visit, params: dict, sentence: str) -> None:
    at = visit("plan", **params)
    assert not at.exception
    assert len(at.error) == 1 and sentence in at.error[0].value
    assert at.selectbox(key="method-choice").value == "come"
    for name, value in params.items():
        if name != "ratios":
            assert at.query_params[name] in (value, [value])


def test_options_are_drawn_from_the_dataclass(visit: Visit) -> None:
    at = visit("plan", target="4")
    at.number_input(key="option-span").set_value(3).run()
    assert not at.error
    assert all("–" in window for window in at.dataframe[0].value["Window"])
    assert at.query_params["options"] in ("span:3", ["span:3"])
    at.number_input(key="option-span").set_value(2).run()
    assert "options" not in at.query_params


def test_an_option_that_is_a_number_or_a_switch_by_the_method_is_explained_as_what_it_is(visit: Visit) -> None:
    at = visit("plan", target="4", method="reverse")
    assert at.number_input(key="option-keep_last").help.startswith("How many")
    at = visit("plan", target="4", method="slm")
    assert (
        at.toggle(key="option-keep_last").help == "Leaves the very last layer as it is, as the published program does."
    )


def test_a_method_that_chooses_as_it_goes_says_that_the_run_decides(visit: Visit) -> None:
    at = visit("plan", target="4")
    at.selectbox(key="method-choice").set_value("sleb").run()
    assert not at.exception and not at.error
    assert any("decided in the run" in note.value for note in at.info)
    assert "hand" not in at.get_by_key("aim").options


def test_a_method_that_decides_from_one_measurement_is_foreseen_and_gone_on_with_by_hand(
    visit: Visit, lab: Lab
) -> None:
    at = visit("plan", target="4")
    at.selectbox(key="method-choice").set_value("shortgpt").run()
    assert not at.exception and not at.error and not at.info
    plan = next(run for run in come.runs.list_runs(lab.runs) if run.config.method == "shortgpt").plan()
    assert plan is not None
    gone = sorted({*range(6)} - {layer for group in plan.groups() for layer in group})
    assert any(f"Removed whole: layers {preview.ranges(gone)}." in each.value for each in at.markdown)
    assert any("Exact for this analysis: whole layers go." in each.value for each in at.markdown)
    at.get_by_key("aim").set_value("hand").run()
    assert chosen(at, "drop") == ",".join(map(str, gone)) and chosen(at, "windows") == ""
    assert at.selectbox(key="method-choice").value == "come"


def test_layers_in_few_words() -> None:
    assert preview.ranges([3, 4, 5, 9]) == "3–5, 9" and preview.ranges([0, 1]) == "0–1"
    assert preview.ranges([7]) == "7" and preview.ranges([]) == ""


def test_a_model_without_analysis_can_still_be_planned(visit: Visit) -> None:
    at = visit("plan", tokens="512", target="4")
    assert not at.exception and not at.error
    assert not at.button(key="go-to-run").disabled
