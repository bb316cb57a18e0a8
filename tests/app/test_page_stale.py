"""What lies on disk may have changed since, or be half written, or another version's: a visit goes on."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable

import pytest
from streamlit.testing.v1 import AppTest

import come.runs
from app.inspect import inspected_run
from app.run import demo
from app.state import session, visit
from come.errors import ComeError
from come.runs import Run
from come.runs.state import identity
from come.serving.limits import DEMO
from tests.app.conftest import Lab
from tests.tiny import tiny_folder

Visit = Callable[..., AppTest]

PAGES = ("home", "run", "compare", "inspect")


def fine(at: AppTest) -> AppTest:
    assert not at.exception
    assert not [error.value for error in at.error]
    return at


def said(at: AppTest) -> str:
    return " ".join(element.value for element in [*at.error, *at.caption, *at.markdown, *at.success])


def newest(lab: Lab, kind: str = "compress") -> Run:
    return next(run for run in come.runs.list_runs(lab.runs) if run.config.kind == kind)


def at_work(run: Run) -> Run:
    run.update(status="running", stage="compress", started=time.time(), finished=None, **identity(os.getpid()))
    return run


@pytest.mark.parametrize(("layers", "seed"), [(4, 0), (8, 0), (6, 1)])
def test_an_analysis_is_not_shown_for_what_was_written_in_its_models_place(
    visit: Visit, lab: Lab, tmp_path, layers: int, seed: int
) -> None:
    model = tiny_folder(tmp_path)
    run = lab.create(kind="analyze", model=str(model))
    come.runs.execute(run)
    fields = (str(model), str(lab.text), 1024, 64)
    assert come.runs.analysis_for(*fields) == run
    (model / "README.md").write_text("A card changes nothing.")
    assert come.runs.analysis_for(*fields) == run
    tiny_folder(tmp_path, layers=layers, seed=seed)
    assert come.runs.analysis_for(*fields) is None
    for page in ("model", "layers"):
        assert "Analysed over" not in said(fine(visit(page, model=str(model))))


@pytest.mark.slow
def test_an_analysis_of_another_depth_is_none_even_where_nothing_tells_what_it_is_of(
    visit: Visit, lab: Lab, tmp_path
) -> None:
    model = tiny_folder(tmp_path)
    run = lab.create(kind="analyze", model=str(model))
    come.runs.execute(run)
    run.update(sources={})
    tiny_folder(tmp_path, layers=4)
    assert come.runs.analysis_for(str(model), str(lab.text), 1024, 64) == run
    for page in ("model", "layers", "channels", "plan"):
        fine(visit(page, model=str(model)))


@pytest.mark.slow
def test_an_edited_text_is_another_one(lab: Lab, tmp_path) -> None:
    text = tmp_path / "notes.txt"
    shutil.copy(lab.text, text)
    run = lab.create(kind="analyze", text=str(text))
    come.runs.execute(run)
    text.write_text(text.read_text() + " And more.")
    assert come.runs.analysis_for(str(lab.model), str(text), 1024, 64) is None


@pytest.mark.parametrize(
    ("results", "says"),
    [
        (None, "The run is done."),
        ("{}", "The run is done."),
        ("{", "is no JSON document"),
        ('{"original": {}, "pruned": {"perplexity": 3.0}}', "original.layers"),
    ],
)
def test_results_that_lack_something_take_no_page_down(visit: Visit, lab: Lab, results: str | None, says: str) -> None:
    for run in come.runs.list_runs(lab.runs):
        if run.config.kind == "compress":
            path = run.path / "results.json"
            path.unlink() if results is None else path.write_text(results)
    for page in PAGES:
        assert not visit(page, target="4").exception
    assert says in said(visit("run", target="4", run=newest(lab).id)).replace("\\", "")


def test_a_request_of_another_version_at_work_takes_no_page_down(visit: Visit, lab: Lab) -> None:
    run = at_work(newest(lab))
    config = run.path / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "future": 1, "sweep": "demo-1"}))
    for page in PAGES:
        fine(visit(page, target="4"))
    assert demo.active_run() is None


@pytest.mark.parametrize("gone", [False, True])
@pytest.mark.parametrize("opened", [False, True])
def test_a_run_that_ended_or_was_deleted_before_the_click_is_told_of(
    visit: Visit, lab: Lab, opened: bool, gone: bool
) -> None:
    run = at_work(newest(lab))
    at = fine(visit("run", target="4", **({"run": run.id} if opened else {})))
    button = at.button(key=f"cancel-{run.id}")
    if gone:
        shutil.rmtree(run.path)
    else:
        run.update(status="done", finished=time.time())
    at = button.click().run()
    assert not at.exception
    assert ("is not there any more" if gone else "nothing to cancel") in said(at)


def test_a_deleted_run_cannot_be_resumed(lab: Lab) -> None:
    run = newest(lab)
    shutil.rmtree(run.path)
    with pytest.raises(ComeError):
        come.runs.resume(run)


def test_resuming_counts_among_the_requests_of_a_demonstration(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    stopped = newest(lab)
    stopped.update(status="cancelled", pid=None)
    for target in (5, 4, 3, 2):
        at_work(lab.create(method="random", target_layers=target))
    with pytest.raises(ComeError, match="waiting"):
        come.runs.resume(stopped, DEMO.__class__(waiting=DEMO.waiting))
    assert stopped.state().status == "cancelled"


def test_a_demonstration_names_no_folder_of_its_server_on_the_compare_page(
    visit: Visit, lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    newest(lab).update(status="failed", error="The disk of /srv/secret/runs is full.")
    monkeypatch.setenv("COME_DEMO", "1")
    at = visit("compare")
    assert not at.exception
    everything = said(at) + " ".join(str(frame.value) for frame in at.dataframe)
    assert "is full" in everything and "/srv/secret" not in everything


def test_whoever_starts_an_analysis_from_inspect_may_end_it(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    launched: list[Run] = []
    monkeypatch.setattr(session, "visit", lambda: "this visit")
    monkeypatch.setattr(come.runs, "launch", lambda *runs, **_: launched.extend(runs))
    visit.start_analysis(inspected_run.analysis_of(newest(lab).config))
    assert [(run.config.kind, run.written_state().visit) for run in launched] == [("analyze", "this visit")]


def test_a_link_to_the_newest_run_stays_one_to_that_run(visit: Visit, lab: Lab) -> None:
    first = inspected_run.first_shown(inspected_run.runs()).id
    at = fine(visit("inspect"))
    assert at.query_params["run"] in (first, [first])


def test_a_link_to_the_playground_names_its_models(visit: Visit) -> None:
    at = fine(visit("playground"))
    (linked,) = at.query_params["with"] if isinstance(at.query_params["with"], list) else [at.query_params["with"]]
    assert linked.split(",") == at.session_state["with"]
    at = fine(visit("playground", **{"with": ""}))
    assert at.session_state["with"] == []
