"""The plan page: choosing by layers, by share and by hand, and what it says of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict

import pytest
from streamlit.testing.v1 import AppTest

import come.runs
from app.figures import plan as figures
from app.plan import edits, preview, tiles
from app.state import foreseen, request
from app.state.choice import Choice, Draft, plan_fields
from come.errors import ComeError
from come.measurement.measurement import Measurement
from come.models import describe
from come.pruning import kept_units
from come.pruning.windows import WindowCost
from come.report import comparison
from come.runs import Run
from come.runs.window_costs import FILE, VERSION
from tests.app.conftest import Lab
from tests.rewriting import rewrite_plan

Visit = Callable[..., AppTest]
pytestmark = pytest.mark.usefixtures("no_process")


def shown(at: AppTest) -> str:
    """All text of the page's own HTML."""
    return " ".join(element.proto.body for element in at.get("html"))


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


def test_windows_by_hand_can_be_added_moved_and_taken_out(visit: Visit) -> None:
    at = visit("plan", target="4")
    at.get_by_key("aim").set_value("hand").run()
    assert not at.error
    at.button(key="preset-One pair").click().run()
    first = at.number_input(key="first-0").value
    at.number_input(key="first-0").set_value(first - 1 if first else first).run()
    at.button(key="add-window").click().run()
    assert len([each for each in at.number_input if each.key and each.key.startswith("first-")]) == 2
    at.button(key="remove-0").click().run()
    assert not at.exception
    assert len([each for each in at.number_input if each.key and each.key.startswith("first-")]) == 1


def chosen(at: AppTest, name: str) -> str:
    """A parameter of the URL."""
    values = [at.query_params[name]] if name in at.query_params else [""]
    return values[0] if isinstance(values[0], str) else values[0][0]


def test_tiles_drop_merge_and_keep_layers(visit: Visit) -> None:
    at = visit("plan", windows="1-2")
    at.get_by_key("layer-tiles").set_value([4]).run()
    at.button(key="tiles-drop").click().run()
    assert not at.exception and not at.error
    assert (chosen(at, "windows"), chosen(at, "drop")) == ("1-2", "4")
    assert "<b>4</b><span>of 6</span>" in shown(at)
    table = at.dataframe[0].value
    assert list(table["Layer"]) == [1, 2, 4] and list(table["Window"]) == ["1–2", "1–2", "dropped"]
    assert list(table["Key/value (KV) groups of 4"])[2] == 0
    assert at.get_by_key("layer-tiles").value == [] and at.button(key="tiles-merge").disabled

    at.get_by_key("layer-tiles").set_value([0, 2]).run()
    assert at.button(key="tiles-merge").label == "Merge 0–2"
    at.button(key="tiles-merge").click().run()
    assert (chosen(at, "windows"), chosen(at, "drop")) == ("0-2", "4")
    at.get_by_key("layer-tiles").set_value([1, 4]).run()
    at.button(key="tiles-keep").click().run()
    assert (chosen(at, "windows"), chosen(at, "drop")) == ("", "")
    assert at.button(key="go-to-run").disabled
    at.button(key="undo").click().run()
    at.button(key="undo").click().run()
    assert (chosen(at, "windows"), chosen(at, "drop")) == ("1-2", "4")
    at.button(key="redo").click().run()
    assert chosen(at, "windows") == "0-2"


def test_a_window_is_moved_and_dropped_instead(visit: Visit) -> None:
    at = visit("plan", windows="1-2", ratios="0.25-0.75", drop="4")
    at.button(key="up-0").click().run()
    assert chosen(at, "windows") == "2-3"
    assert list(at.dataframe[0].value["Feed-forward (FFN) channels of 48"]) == [12, 36, 0]
    assert at.button(key="up-0").disabled, "layer 4 is dropped"
    at.button(key="down-0").click().run()
    at.button(key="down-0").click().run()
    assert chosen(at, "windows") == "0-1" and at.button(key="down-0").disabled
    at.button(key="drop-0").click().run()
    assert (chosen(at, "windows"), chosen(at, "drop")) == ("", "0,1,4")
    assert not at.exception and not at.error and not at.button(key="go-to-run").disabled
    assert any("Exact" in each.value for each in at.markdown)


def test_dropping_alone_needs_no_analysis(visit: Visit) -> None:
    at = visit("plan", tokens="512", drop="3")
    assert not at.exception and not at.error
    assert any("Removed whole: layer 3." in each.value for each in at.markdown)
    assert "<b>5</b><span>of 6</span>" in shown(at)


def test_a_ready_made_plan_keeps_no_dropped_layer(visit: Visit) -> None:
    for preset in ("30%", "One pair"):
        at = visit("plan", windows="1-2", drop="4")
        at.button(key=f"preset-{preset}").click().run()
        assert not at.error and "drop" not in at.query_params


def test_own_ratios_come_from_a_slider(visit: Visit) -> None:
    at = visit("plan", windows="1-2")
    at.toggle(key="own-ratios").set_value(True).run()
    at.slider(key="cut-0").set_value(75).run()
    assert list(at.dataframe[0].value["Feed-forward (FFN) channels of 48"]) == [36, 12]


def test_undo_and_redo(visit: Visit) -> None:
    at = visit("plan", target="4")
    at.button(key="preset-30%").click().run()
    assert at.slider(key="share").value == 30
    at.button(key="undo").click().run()
    assert at.slider(key="target").value == 4
    at.button(key="redo").click().run()
    assert at.slider(key="share").value == 30


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


@pytest.mark.parametrize(("widget", "value"), [("first-1", 4), ("cut-1", 30), ("own-ratios", False)])
def test_what_a_browser_sends_of_a_plan_that_was_changed_since_does_no_harm(
    visit: Visit, widget: str, value: int
) -> None:
    at = visit("plan", windows="1-2,3-4", ratios="0.25-0.75,0.5-0.5")
    last = at.session_state["_draft"] = Draft(windows=[(1, 2)])
    at.get_by_key(widget).set_value(value).run()
    assert not at.exception and not at.error
    assert at.session_state["_draft"] == last


def test_layers_in_few_words() -> None:
    assert preview.ranges([3, 4, 5, 9]) == "3–5, 9" and preview.ranges([0, 1]) == "0–1"
    assert preview.ranges([7]) == "7" and preview.ranges([]) == ""


def test_a_model_without_analysis_can_still_be_planned(visit: Visit) -> None:
    at = visit("plan", tokens="512", target="4")
    assert not at.exception and not at.error
    assert not at.button(key="go-to-run").disabled


def test_an_uploaded_request_takes_over_and_a_bad_one_is_one_sentence(visit: Visit, lab: Lab) -> None:
    at = visit("plan", target="4")
    good = lab.fields | {"method": "come", "options": {"windows": [[2, 3]], "drop": [5, 0]}}
    at.file_uploader(key="upload").upload("plan.json", json.dumps(good).encode(), "application/json").run()
    assert not at.exception and not at.error
    assert at.number_input(key="first-0").value == 2 and chosen(at, "drop") == "0,5"
    for bad in (
        b"{",
        b"[1]",
        b'{"colour": 1}',
        b'{"method": "nothing"}',
        json.dumps({**good, "sparsity": 0.2}).encode(),
        json.dumps({**good, "options": {"drop": [5]}}).encode(),
        json.dumps({**good, "options": {"windows": [[2, 3]], "drop": "all"}}).encode(),
        json.dumps({**good, "options": {"windows": [[2, 3]], "drop": [3]}}).encode(),
    ):
        at.file_uploader(key="upload").upload("bad.json", bad, "application/json").run()
        assert len(at.error) == 1
        assert at.number_input(key="first-0").value == 2


# --- the request as a document, and the figure -----------------------------------------------------


def test_a_request_survives_the_way_through_json() -> None:
    choice = Choice(tokens=2048, seed=3)
    for draft in (
        Draft(target_layers=24),
        Draft(sparsity=0.1, options={"exponent": 0.5}),
        Draft(windows=[(4, 5), (9, 11)], ratios=[(0.4, 0.6), (0.2, 0.3, 0.5)]),
        Draft(windows=[(4, 5)], dropped=(9, 12)),
        Draft(windows=[], dropped=(0,)),
        Draft(method="random", target_layers=20, options={"seed": 2}),
    ):
        assert request.from_json(request.to_json(request.config(choice, draft))) == (choice, draft)


def test_the_plan_of_a_run_is_read_as_what_to_ask_for(lab: Lab) -> None:
    for run in (run for run in come.runs.list_runs(lab.runs) if run.plan()):
        plan = run.plan()
        choice, draft = request.from_json((run.path / "plan.json").read_bytes())
        assert (choice.model, choice.tokens, choice.seq_len) == (plan.base.source, 1024, 64)
        assert draft.method == plan.method
        if run.config.method == "come":
            assert draft.windows == [(group[0], group[-1]) for group in plan.groups() if len(group) > 1]
            assert not {"target_layers", "windows", "drop"} & draft.options.keys()
        else:
            assert draft.target_layers == plan.layers == 4
        assert request.config(choice, draft).method == plan.method
    with pytest.raises(ComeError, match="no plan that can be read"):
        request.from_json('{"steps": []}')


def test_an_upload_that_fails_says_so_where_the_click_was(visit: Visit) -> None:
    at = visit("plan", target="4")
    at.file_uploader(key="upload").upload("bad.json", b"{", "application/json").run()
    assert len(at.error) == 1
    assert [len(place.get("error")) for place in at.get("popover") if place.get("file_uploader")] == [1]


def test_ratios_and_cuts_are_two_ways_to_say_the_same() -> None:
    assert edits.cuts((0.2, 0.3, 0.5)) == [20, 50]
    assert edits.from_cuts([50, 20]) == (0.2, 0.3, 0.5)


def test_the_strips_stack_what_was_kept() -> None:
    final = figures.final_layers(6, 48, 4, [(1, (12, 36), (1, 3))], removed=[5])
    assert [[piece.layer for piece in pieces] for pieces in final] == [[0], [1, 2], [3], [4]]
    figure = figures.strips(6, 48, 4, final)
    solid, hatched = figure.data[0], figure.data[1]
    heights = dict.fromkeys(range(6), 0.0)
    for x, height, base in zip(solid.x, solid.y, solid.base, strict=True):
        if base >= figures.BEFORE and base < figures.BEFORE + figures.ATTENTION[0]:
            heights[x] += height / figures.FEED_FORWARD[1]
    assert heights == pytest.approx({0: 1, 1: 0.25, 2: 0.75, 3: 1, 4: 1, 5: 0})
    assert set(hatched.x) == {1, 2, 5}
    assert figure.layout.title.text == "2 layers become 1 and 1 layer goes; 3 stay whole"


def test_a_run_of_windows_and_dropped_layers_does_what_the_page_showed(visit: Visit, lab: Lab) -> None:
    draft = Draft(windows=[(1, 2)], ratios=[(0.25, 0.75)], dropped=(4,))
    run = lab.create(**plan_fields(draft), evaluate=[])
    come.runs.execute(run)
    at = visit("plan", windows="1-2", ratios="0.250000-0.750000", drop="4")
    assert "run: done" in shown(at), "the plan is known as the one that was run"
    facts = describe(str(lab.model))
    plan = run.plan()
    assert plan is not None and plan.groups() == [[0], [1, 2], [3], [5]]
    (analysis,) = [each for each in come.runs.list_runs() if each.config.kind == "analyze"]
    measured = Measurement.load(analysis.path / "analysis.safetensors")
    found = foreseen.forecast(draft, measured, facts)
    assert found is not None
    promised = kept_units.of_windows(found.windows, facts, found.removed)
    made = kept_units.of_plan(plan, facts)
    assert (promised.groups, promised.layers) == (made.groups, made.layers)


def test_going_to_the_run_page_tells_what_is_dropped(visit: Visit) -> None:
    at = visit("plan", windows="1-2", drop="4")
    at.button(key="go-to-run").click().run()
    assert not at.exception and not at.error
    assert any("6 → 4 layers" in each.value and "dropping 4" in each.value for each in at.markdown)


def test_going_to_the_run_page_keeps_the_plan(visit: Visit) -> None:
    at = visit("plan", target="4")
    at.button(key="go-to-run").click().run()
    assert not at.exception and not at.error
    assert at.button(key="start")
    assert any("6 → 4 layers" in each.value for each in at.markdown)


def test_a_window_far_outside_of_the_model_is_shown_and_mended(visit: Visit) -> None:
    at = visit("plan", windows="0-900000000")
    assert not at.exception and any("does not fit a model" in each.value for each in at.error)
    first, last = at.number_input(key="first-0"), at.number_input(key="last-0")
    assert (first.min, first.max, last.value, last.max) == (0, 5, 900_000_000, 900_000_000)
    assert at.toggle(key="own-ratios").disabled
    at = last.set_value(1).run()
    assert not at.exception and not at.error and chosen(at, "windows") == "0-1"
    assert at.number_input(key="last-0").max == 5


def test_windows_that_reach_anywhere_are_counted_within_the_model() -> None:
    facts = describe("smollm2-135m")
    far = 10**18  # a list of so many layers would not fit any memory
    assert edits.next_window(Draft(windows=[(0, far)]), facts) is None
    assert edits.next_window(Draft(windows=[(-far, -3), (29, far), (20, 3)], dropped=(far,)), facts) == (15, 16)
    assert kept_units.groups_of({0: far}, 4) == [[0, 1, 2, 3]]
    assert kept_units.groups_of({2: 0}, 4) == [[0], [1], [2], [3]]


@pytest.mark.parametrize("model", ["/etc", "/etc/passwd", "/no/such/folder", "somebody/else"])
def test_an_uploaded_plan_tells_nothing_of_what_lies_on_a_demonstrations_server(
    visit: Visit, lab: Lab, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    monkeypatch.setenv("COME_DEMO", "1")
    at = visit("plan", model="smollm2-135m", text="python-docs")
    plan = json.dumps({"model": model, "target_layers": 4}).encode()
    at.file_uploader(key="upload").upload("plan.json", plan, "application/json").run()
    assert not at.exception
    (error,) = [each.value for each in at.error]
    assert f"{model.rpartition('/')[2]} is not offered here" in error
    assert at.query_params.get("model", ["smollm2-135m"]) in ("smollm2-135m", ["smollm2-135m"])


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
    assert "of 3 windows of 4 layers, none costs clearly less than 0–3 (0.300 nats" in words
    assert list(at.dataframe[0].value["Window"]) == ["0–3"] * 4
    assert (chosen(at, "target"), chosen(at, "windows")) == ("3", "")  # the link says what was asked for
    # The run is told to merge just these, and is found again by that.
    at.button(key="go-to-run").click().run()
    assert any("merging 0–3" in each.value for each in at.markdown)
    (command,) = [code.value for code in at.code if code.value.startswith("come run")][:1]
    assert "--method come-joint" in command and "windows=[[0,3]]" in command.replace(" ", "")
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
    at = visit("plan", method="come", target="3")
    at.button(key="preset-One pair").click().run()
    assert chosen(at, "method") == ""  # CoMe's own, by SBI


def test_windows_of_a_method_that_fits_them_stay_its_own(visit: Visit, lab: Lab) -> None:
    at = visit("plan", method="come-joint", windows="1-2")
    assert not at.exception and not at.error
    assert not [toggle for toggle in at.toggle if toggle.key == "own-ratios"]  # they are an outcome
    assert "solved for" in " ".join(each.value for each in at.markdown)
    at.get_by_key("layer-tiles").set_value([4]).run()
    at.button(key="tiles-drop").click().run()
    assert (chosen(at, "method"), chosen(at, "windows"), chosen(at, "drop")) == ("come-joint", "1-2", "4")
    at.selectbox(key="method-choice").set_value("come").run()  # which takes windows, too
    assert (chosen(at, "method"), chosen(at, "windows"), chosen(at, "drop")) == ("", "1-2", "4")
    at.selectbox(key="method-choice").set_value("shortgpt").run()
    assert (chosen(at, "target"), chosen(at, "windows")) == ("4", "")
    at = visit("plan", method="come-joint", windows="1-2", ratios="0.3-0.7")
    assert any("ratios=0.3-0.7" in each.value for each in at.warning)


def test_the_plan_can_be_edited_as_text(visit: Visit) -> None:
    at = visit("plan", target="4")
    text = at.text_area(key="plan-text")
    assert text.value.splitlines()[-1] == "target_layers: 4"
    text.set_value("method: come\nwindows: [[1, 2]]\ndrop: [4]\n").run()
    assert not at.exception and not at.error
    assert "<b>4</b><span>of 6</span>" in shown(at) and at.segmented_control(key="aim").value == "hand"
    at.text_area(key="plan-text").set_value("windows: [[1, 9]]").run()
    assert len(at.error) == 1 and at.text_area(key="plan-text").value == "windows: [[1, 9]]"
    assert "<b>4</b><span>of 6</span>" in shown(at)  # the plan stays what it was
    at.button(key="undo").click().run()
    assert not at.error and at.text_area(key="plan-text").value.splitlines()[-1] == "target_layers: 4"


def test_tiles_stay_where_they_are_whatever_the_plan_is() -> None:
    """The tiles of a window touch each other, and no rule reaches behind a row's end."""
    rows = f"repeat({tiles.ROW}, minmax(0, {tiles.WIDTH}))"
    for windows in ([], [(8, 9), (12, 14)], [(0, 19)]):
        style = tiles._style(Draft(windows=windows), 30)
        assert rows in style and "margin-right" not in style
        joined = [n for first, last in windows for n in range(first + 1, last + 1) if n % tiles.ROW]
        assert [n for n in range(30) if f"{tiles._tile(n)} {{ margin-left: -{tiles.GAP}; }}" in style] == joined
        assert style.count("margin-left") == len(joined)


def test_windows_that_its_run_took_are_told_where_others_are_drawn(visit: Visit, lab: Lab) -> None:
    def told(at: AppTest) -> list[str]:
        assert not at.exception and not at.error
        return [each.value for each in at.info if "took other windows" in each.value]

    run = next(run for run in come.runs.list_runs(lab.runs) if run.config.method == "come" and run.plan())
    asked = {"method": "come", "target": str(run.config.target_layers)}
    assert not told(visit("plan", **asked))  # the run took what is drawn
    plan = json.loads((run.path / "plan.json").read_text())
    first, last = plan["steps"][0]["window"]
    plan["steps"][0]["window"] = [first - 1, last - 1] if first else [first + 1, last + 1]
    rewrite_plan(run, plan)
    (words,) = told(visit("plan", **asked))
    made = run.plan()
    assert made is not None
    taken = kept_units.of_plan(made, describe(str(lab.model))).windows
    assert words.endswith("layers " + ", ".join(f"{one} to {other}" for one, other in taken) + ".")
