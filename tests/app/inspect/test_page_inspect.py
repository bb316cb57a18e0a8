"""The inspect page: which run, which layer, where a channel went, what is missing and how to get it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence

import pytest
from streamlit.testing.v1 import AppTest

import come.runs
from app import example_runs
from app.components import poll
from app.inspect import follow_unit, inspected_run
from come.errors import ComeError
from come.measurement.top_contexts import Context
from come.plan.plan import Base, Plan
from come.plan.steps import Average, Mask, Remove, Replace, Step
from come.request import RunConfig
from come.runs import Run
from come.runs.state import identity
from tests.app.conftest import Lab
from tests.rewriting import rewrite_request

Visit = Callable[..., AppTest]
CUT = "Cut"


def fine(at: AppTest) -> AppTest:
    assert not at.exception
    assert not [error.value for error in at.error]
    return at


def said(at: AppTest) -> str:
    shown = [*at.markdown, *at.caption, *at.header, *at.warning, *at.info]
    return " ".join(each.value for each in shown) + findings(at)


def findings(at: AppTest) -> str:
    return " ".join(html.proto.body for html in at.get("html") if "come-finding" in html.proto.body)


def run_of(lab: Lab, method: str) -> Run:
    return next(run for run in come.runs.list_runs(lab.runs) if run.config.method == method and run.plan())


def with_steps(lab: Lab, *steps: Step, model: str | None = None) -> Run:
    """A finished run whose plan has these steps."""
    run = lab.create(target_layers=4)
    if model is not None:
        config = run.config.model_copy(update={"model": model})
        rewrite_request(run, config.model_dump(mode="json"))
    base = Base(source="tiny", fingerprint="0", model_type="llama", layers=6, parameters=1000)
    Plan(base=base, dtype="float32", method="come", steps=list(steps)).write(run.path / "plan.json")
    run.update(status="done")
    return run


def test_the_newest_run_of_come_is_open_at_its_most_mixed_layer(visit: Visit, lab: Lab) -> None:
    at = fine(visit("inspect"))
    run = run_of(lab, "come")
    assert at.selectbox(key="run").value == run.id
    place = at.selectbox(key="new-layer").value
    plan = run.plan()
    assert plan is not None and len(plan.groups()[place]) > 1
    assert f"New layer {place}" in said(at)
    assert "of 4 new layers" in findings(at)
    table = at.dataframe[0].value
    assert table["FFN channels"].sum() == 48 and table["KV groups"].sum() == 4
    assert table["FFN share"].sum() == pytest.approx(100)


def test_runs_of_one_name_and_minute_can_be_told_apart(visit: Visit, lab: Lab) -> None:
    first, second = (with_steps(lab, Remove(layers=[layer])) for layer in (1, 2))
    at = fine(visit("inspect"))
    runs = at.selectbox(key="run")
    assert len(set(runs.options)) == len(runs.options)
    for run in (first, second):
        assert fine(at.selectbox(key="run").set_value(run.id).run()).selectbox(key="run").value == run.id


@pytest.mark.parametrize("part", ["ffn", "attention"])
def test_links_restore_run_layer_part_and_channel(visit: Visit, lab: Lab, part: str) -> None:
    run = run_of(lab, "shortgpt")
    at = fine(visit("inspect", **{"run": run.id, "new-layer": "3", "part": part, "find": "layer 0 channel 1"}))
    assert at.selectbox(key="run").value == run.id
    assert at.selectbox(key="new-layer").value == 3
    assert at.text_input(key="find").value == "layer 0 channel 1"
    assert "New layer 3" in said(at)


@pytest.mark.parametrize("link", [{"run": "nobody"}, {"new-layer": "99"}, {"part": "?"}, {"find": "x"}, {"other": "x"}])
def test_a_link_that_makes_no_sense_shows_the_default(visit: Visit, link: dict[str, str]) -> None:
    fine(visit("inspect", **link))


def test_another_run_opens_at_its_own_most_mixed_layer(visit: Visit, lab: Lab) -> None:
    at = fine(visit("inspect"))
    other = run_of(lab, "shortgpt")
    at = fine(at.selectbox(key="run").set_value(other.id).run())
    plan = other.plan()
    assert plan is not None
    removed = {*range(6)} - {layer for group in plan.groups() for layer in group}
    assert at.selectbox(key="new-layer").value == min(removed) - 1, "before the first that was removed"
    assert "2 layers are gone" in findings(at)
    assert at.query_params["run"] in (other.id, [other.id])


def test_a_channel_is_found_where_the_plan_says(visit: Visit, lab: Lab) -> None:
    plan = run_of(lab, "come").plan()
    assert plan is not None
    first, _ = plan.steps[0].window  # type: ignore[union-attr]
    kept = plan.steps[0].channels[0]  # type: ignore[union-attr]
    lost = next(unit for unit in range(48) if unit not in kept)
    at = fine(visit("inspect", find=f"layer {first} channel {lost}"))
    assert f"channel {lost} of layer {first}** is dropped at step 1" in said(at)
    assert "rank" in said(at)
    at = fine(at.text_input(key="find").set_value(f"{first} {kept[0]}").run())
    assert f"channel {kept[0]} of layer {first}**" in said(at)


@pytest.mark.parametrize(
    ("text", "words"), [("seven", "Write two numbers"), ("99 1", "layers 0 to 5"), ("1 999", "0 to 47")]
)
def test_what_cannot_be_found_is_a_sentence(visit: Visit, text: str, words: str) -> None:
    assert words in said(fine(visit("inspect", find=text)))


def test_the_layer_of_a_found_channel_is_one_click_away(visit: Visit) -> None:
    at = fine(visit("inspect", **{"find": "layer 0 channel 1", "new-layer": "3"}))
    at = fine(at.button(key="open-found").click().run())
    assert at.selectbox(key="new-layer").value == 0


def test_without_a_measurement_it_is_said_and_one_can_be_made(visit: Visit, lab: Lab, monkeypatch) -> None:
    for run in come.runs.list_runs(lab.runs):
        if run.config.kind == "analyze":
            come.runs.delete(run)
    at = fine(visit("inspect"))
    assert "of 4 new layers" in findings(at)  # the picture needs the plan alone
    assert "were not measured" in said(at), "what can be measured is shown first, not tiles in no order that tells"
    tiles = fine(visit("inspect", view="Kept"))
    assert "no sensitivity is measured yet" in said(tiles)
    assert not [group for group in tiles.button_group if group.key == "order"], "there is one order alone"
    launched: list[Run] = []
    monkeypatch.setattr(come.runs, "launch", launched.append)
    at = fine(at.button(key="analyse-run").click().run())
    assert [run.config.kind for run in launched] == ["analyze"]
    assert launched[0].config.model == str(lab.model)
    assert not [button for button in at.button if button.key == "analyse-run"]  # its progress instead


def test_averages_masks_and_replaced_weights_are_shown_as_what_they_are(visit: Visit, lab: Lab) -> None:
    put = Replace(file="w.safetensors", sha256="0", tensors=["model.layers.1.mlp.down_proj.weight"], made_by="refit")
    # Written by hand: the tensors themselves are not needed to show the plan.
    run = with_steps(lab, Average(window=(1, 3), weights=[-1.0, 1.0, 1.0]))
    path = run.path / "plan.json"
    plan = Plan.read(path).with_step(put)
    path.write_text(plan.model_dump_json())
    at = fine(visit("inspect", run=run.id))
    assert at.selectbox(key="new-layer").value == 1
    assert "weighted sum of those of layers 1 to 3" in findings(at)
    assert at.dataframe[0].value["Weight"].tolist() == [-1.0, 1.0, 1.0]
    assert "fitted or trained anew, in step 2 of the plan" in said(at)
    masked = with_steps(lab, Mask(channels={2: list(range(12))}, parameters=10))
    at = fine(visit("inspect", run=masked.id, find="layer 2 channel 3"))
    assert at.selectbox(key="new-layer").value == 2
    assert at.dataframe[0].value["Source"].tolist() == ["2", "silenced"]
    assert "is silenced at step 1" in said(at)


def test_a_run_whose_model_is_gone_is_still_drawn(visit: Visit, lab: Lab) -> None:
    run = with_steps(lab, Remove(layers=[2]), model="/no/such/model")
    at = fine(visit("inspect", run=run.id))
    assert "1 layer is gone" in findings(at)
    assert "cannot be read now" in said(at)


def test_a_plan_that_cannot_be_read_is_a_sentence(visit: Visit, lab: Lab) -> None:
    run = with_steps(lab, Remove(layers=[2]))
    (run.path / "plan.json").write_text("{}")
    at = visit("inspect", run=run.id)
    assert not at.exception
    assert "not a valid plan" in at.error[0].value


def test_two_runs_of_one_model_are_compared(visit: Visit, lab: Lab) -> None:
    at = fine(visit("inspect", view="Two runs"))
    assert at.selectbox(key="other").value == run_of(lab, "shortgpt").id
    assert "in no layer do both runs choose among the FFN channels" in findings(at)  # one removes, the other merges
    assert all("example" not in option for option in at.selectbox(key="other").options)  # of another model
    assert any(caption.value.startswith("Pale: ") for caption in at.caption), "no dashes are drawn"


@pytest.mark.parametrize("method", ["come", "come-joint"])
def test_of_keys_and_values_the_rule_is_told_where_there_is_one(visit: Visit, lab: Lab, method: str) -> None:
    rule = "A window keeps its first layer's attention, however sensitive the others."
    run = run_of(lab, "come")
    if method != "come":
        asked = run.config.model_copy(update={"method": method, "options": {}})
        (run.path / "config.json").write_text(asked.model_dump_json())
    assert (rule in said(fine(visit("inspect", run=run.id, part="attention", view="Kept")))) == (method != "come")
    assert rule not in said(fine(visit("inspect", run=run.id, view="Kept")))
    plan = run.plan()
    assert plan is not None
    untouched = next(place for place, group in enumerate(plan.groups()) if len(group) == 1)
    link = {"run": run.id, "part": "attention", "new-layer": str(untouched)}
    assert rule not in said(fine(visit("inspect", view="Kept", **link))), "no window made that layer"
    assert "Dotted:" not in said(fine(visit("inspect", view=CUT, **link))), "nothing of it is dropped"


def test_the_example_is_shown_where_there_is_nothing_else(visit: Visit, lab: Lab, monkeypatch) -> None:
    shipped = lab.runs.rename(lab.runs.with_name("shipped"))
    monkeypatch.setattr(example_runs, "FOLDER", shipped.resolve())
    at = fine(visit("inspect", view=CUT))
    assert "Shipped example" in said(at)
    assert "lie left of the cut" in findings(at)  # the shipped analysis ranks its channels
    monkeypatch.setattr(example_runs, "FOLDER", lab.runs.with_name("nowhere"))
    at = fine(visit("inspect"))
    assert "No run with a plan yet" in said(at)


def test_the_shipped_example_itself_opens(visit: Visit, lab: Lab) -> None:
    shutil.rmtree(lab.runs)
    at = fine(visit("inspect", view=CUT))
    assert "of 27 new layers" in findings(at)  # as the demo and the chart on home
    assert "were not measured" not in said(at)
    assert "of 24 new layers" in findings(fine(visit("inspect", target="24")))  # the plan's own size


def test_the_run_that_was_opened_last_is_shown(visit: Visit, lab: Lab) -> None:
    run, other = run_of(lab, "shortgpt"), run_of(lab, "come")
    at = fine(visit("run", run=run.id))
    at = fine(at.switch_page("../pages/inspect.py").run())
    assert at.selectbox(key="run").value == run.id
    at = fine(at.selectbox(key="run").set_value(other.id).run())
    at = fine(at.switch_page("../pages/home.py").run())
    at = fine(at.switch_page("../pages/inspect.py").run())
    assert at.selectbox(key="run").value == other.id, "what was chosen here stays, as no other was opened since"


@pytest.mark.parametrize("view", ["Kept", "Steps", "Two runs"])
def test_one_view_is_drawn_at_a_time(visit: Visit, view: str) -> None:
    at = fine(visit("inspect", view=view))
    drawn = {"Follow one": "Kept", "become 4 in": "Steps", "both runs choose": "Two runs"}
    assert [name for words, name in drawn.items() if words in said(at)] == [view]


def test_contexts_are_asked_for_and_shown_as_text(visit: Visit, lab: Lab, monkeypatch) -> None:
    asked: list[tuple[RunConfig, int, int]] = []

    def answer(config: RunConfig, layer: int, channel: int) -> Sequence[Context]:
        asked.append((config, layer, channel))
        return [Context("a <b>\n", "x", " y", 1.5, 0, 3)]

    monkeypatch.setattr(follow_unit, "top_contexts", answer)
    at = fine(visit("inspect", find="layer 0 channel 1"))
    assert not asked  # not before it is asked for
    at = fine(at.button(key="contexts-0-1").click().run())
    assert [(layer, channel) for _, layer, channel in asked] == [(0, 1)]
    table = next(html.proto.body for html in at.get("html") if "come-contexts" in html.proto.body)
    assert "a &lt;b&gt;" in table and "<mark>x</mark>" in table

    def refuse(*_: object) -> Sequence[Context]:
        raise ComeError("Nobody is there.")

    monkeypatch.setattr(follow_unit, "top_contexts", refuse)
    at = fine(visit("inspect", find="layer 0 channel 1"))
    at = fine(at.button(key="contexts-0-1").click().run())
    assert "Nobody is there." in said(at)


def test_a_link_to_a_run_that_is_not_there_says_so_until_another_is_chosen(visit: Visit, lab: Lab) -> None:
    def warned(at: AppTest) -> bool:
        return any("There is no run “nobody”" in each.value for each in at.warning)

    at = fine(visit("inspect", run="nobody"))
    assert warned(at) and warned(at.run())
    chosen = at.selectbox(key="run")
    other = next(run_id for run_id in (run.id for run in inspected_run.runs()) if run_id != chosen.value)
    assert not warned(chosen.set_value(other).run())


def test_a_plan_at_work_is_followed_step_by_step(visit: Visit, lab: Lab) -> None:
    run = with_steps(lab, Remove(layers=[1]))
    run.update(status="running", stage="compress", **identity(os.getpid()))
    at = fine(visit("inspect", run=run.id))
    assert "still at work" in said(at)
    assert "Watch the run" in [link.proto.label for link in at.get("page_link")]
    grown = inspected_run.growth(run)
    assert not any(grown() for _ in range(poll.LOOK_AT_RUNS))
    plan = Plan.read(run.path / "plan.json")
    plan.with_step(Remove(layers=[2])).write(run.path / "plan.json")
    assert any(grown() for _ in range(poll.LOOK_AT_RUNS))
    ended = inspected_run.growth(run)
    run.update(status="done")
    assert any(ended() for _ in range(poll.LOOK_AT_RUNS))
    assert "still at work" not in said(fine(visit("inspect", run=run.id)))
    deleted = inspected_run.growth(run)
    come.runs.delete(run)
    assert any(deleted() for _ in range(poll.LOOK_AT_RUNS))
