"""The plan page's plans as files and as text: uploaded, edited, read back."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from streamlit.runtime.uploaded_file_manager import DeletedFile
from streamlit.testing.v1 import AppTest

import come.runs
from app.plan import actions
from app.state import request
from app.state.choice import Choice, Draft
from come.errors import ComeError
from come.runs.analyses import begins_alike
from tests.app.conftest import Lab
from tests.app.plan.reading import chosen, shown

Visit = Callable[..., AppTest]
pytestmark = pytest.mark.usefixtures("no_process")


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


def test_a_plan_with_the_usual_options_has_none_of_its_own(lab: Lab) -> None:
    run = lab.create(method="come-joint", options={"windows": [(1, 3)]}, evaluate=[])
    come.runs.execute(run)
    choice, draft = request.from_json((run.path / "plan.json").read_text())
    assert draft == Draft(method="come-joint", windows=[(1, 3)])
    assert begins_alike(run, run.config, choice.bos), "so that its run is found again"
    document = json.loads((run.path / "plan.json").read_text())
    document["calibration"]["bos"] = "<s>"
    assert request.from_json(json.dumps(document))[0].bos == "auto"


def test_a_file_that_was_let_go_of_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(actions.session, "value", lambda _name: DeletedFile("read already"))
    monkeypatch.setattr(actions.session, "set_draft", pytest.fail)
    actions._upload()


def test_the_plans_text_can_be_uploaded_too(visit: Visit) -> None:
    at = visit("plan", target="4")
    at.file_uploader(key="upload").upload("plan.YAML", b"method: come\nwindows: [[1, 2]]\n", "application/yaml").run()
    assert not at.exception and not at.error
    assert at.query_params["windows"] in ("1-2", ["1-2"])
    at.file_uploader(key="upload").upload("bad.yml", b"\xff: [", "application/yaml").run()
    assert ["no YAML" in each.value for each in at.error] == [True]


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
