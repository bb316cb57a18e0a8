"""Two visitors of a public demonstration: neither ends, goes on with, removes or packs what the other has started."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable

import pytest
from streamlit.testing.v1 import AppTest

import come.runs
from come.estimation.device import Device
from come.runs import Run
from come.runs.run import CANCEL_REQUEST, STOP_REQUEST
from come.runs.state import identity
from come.serving import side_jobs
from tests.app.conftest import Lab

Visit = Callable[..., AppTest]

CHOICE = {"model": "smollm2-135m", "text": "python-docs"}
CHANGING = ("Cancel", "Resume", "Delete for good", "Stop early, keep the best", "Stop")


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> list[Run]:
    """A public demonstration whose runs are queued and not started: those that were, in order."""
    found: list[Run] = []
    monkeypatch.setenv("COME_DEMO", "1")
    monkeypatch.setattr(come.runs, "launch", lambda *runs, **_: found.extend(runs))
    return found


def at_work(run: Run, **more: object) -> Run:
    run.update(status="running", stage="compress", started=time.time(), **identity(os.getpid()), **more)
    return run


def buttons(at: AppTest) -> set[str]:
    return {button.label for button in at.button} & set(CHANGING)


def said(at: AppTest) -> str:
    kinds = ("markdown", "caption", "code", "error", "warning", "info", "success")
    return " ".join(str(each.value) for kind in kinds for each in at.get(kind))


def test_the_same_choice_started_by_two_visitors_is_two_sweeps(visit: Visit, launched: list[Run]) -> None:
    first = visit("run", **CHOICE, target="27")
    first.button(key="start").click().run()
    assert not first.exception and not first.error
    own = list(launched)
    assert len(own) > 1 and "Cancel" in buttons(first)

    second = visit("run", **CHOICE, target="27")
    second.button(key="start").click().run()
    assert not second.exception and not second.error
    theirs = launched[len(own) :]
    assert {run.id for run in own}.isdisjoint(run.id for run in theirs) and len(theirs) == len(own)
    assert own[0].config.sweep != theirs[0].config.sweep
    mine = {f"cancel-{run.id}" for run in theirs}
    assert {button.key for button in second.button if button.label == "Cancel"} <= mine

    # Who marked a run is told on no page, nor is the visitor's name.
    marks = {run.written_state().visit for run in launched}
    assert len(marks) == 2 and "" not in marks
    for mark in marks:
        assert mark not in said(second) and mark not in said(first)


def test_a_link_to_anothers_run_shows_it_and_changes_nothing(visit: Visit, launched: list[Run]) -> None:
    first = visit("run", **CHOICE, target="27")
    first.button(key="start").click().run()
    run = at_work(launched[0])
    second = visit("run", **CHOICE, run=run.id)
    assert not second.exception and not buttons(second)
    assert socket.gethostname() not in said(second) and str(os.getpid()) not in said(second)
    run.update(status="interrupted", pid=None)
    again = visit("run", **CHOICE, run=run.id)
    assert not again.exception and not buttons(again)


def forged(call: str, run: Run) -> str:
    """What a callback says that a visitor had called on a run, whatever the page shows of it."""
    code = f"""
import streamlit as st
from pathlib import Path
from app.components import packing
from app.layers import costs
from app.run import detail, take_home
from app.state import session
from come.runs import Run
from come.serving import layers_needed, pack, reload_check, window_costs
run = Run(Path({str(run.path)!r}))
{call}
st.markdown(session.take_problem() or "nothing said")
"""
    at = AppTest.from_string(code, default_timeout=120).run()
    assert not at.exception
    return str(at.markdown[0].value)


FORGED = (
    "session.cancel(run)",
    "detail._resume(run)",
    "detail._delete(run)",
    "detail._stop_early(run)",
    "take_home._drop([run])",
    'packing.begin(pack.start, run, "float32")',
    'packing.begin(pack.start, run, "plan")',
    "packing.begin(reload_check.start, run)",
    "packing.begin(window_costs.start, run, [2], 60.0)",
    "packing.begin(window_costs.stop, run)",
    "packing.begin(layers_needed.start, run, 0.0, 6, 60.0)",
    "packing.begin(layers_needed.stop, run)",
)


@pytest.mark.parametrize("call", FORGED)
@pytest.mark.parametrize(
    "status",
    [
        "done",
        *(pytest.param(each, marks=[pytest.mark.slow, pytest.mark.attack]) for each in ("running", "interrupted")),
    ],
)
def test_a_forged_click_on_anothers_run_is_refused(lab: Lab, launched: list[Run], call: str, status: str) -> None:
    run = next(run for run in come.runs.list_runs(lab.runs) if run.config.method == "come")
    run.update(visit="0123456789abcdef")
    if status == "running":
        at_work(run)
    elif status == "interrupted":
        run.update(status="interrupted", finished=time.time())
    before = sorted((path.name, path.stat().st_size) for path in run.path.rglob("*") if not path.name.startswith("."))
    assert "was not started in this visit" in forged(call, run)
    after = sorted((path.name, path.stat().st_size) for path in run.path.rglob("*") if not path.name.startswith("."))
    assert after == before and not launched and not side_jobs.at_work(run)
    assert not (run.path / CANCEL_REQUEST).exists() and not (run.path / STOP_REQUEST).exists()


def test_what_nobody_marked_is_nobodys(lab: Lab, launched: list[Run]) -> None:
    run = next(run for run in come.runs.list_runs(lab.runs) if run.config.method == "come")
    assert run.written_state().visit == ""
    assert "was not started in this visit" in forged("detail._delete(run)", run)
    assert run.path.is_dir()


def test_on_ones_own_machine_all_is_ones_own(lab: Lab) -> None:
    run = next(run for run in come.runs.list_runs(lab.runs) if run.config.method == "come")
    assert forged("detail._delete(run)", run) == "nothing said"
    assert not run.path.exists()


def test_plans_are_not_kept_under_a_name_among_strangers(lab: Lab, launched: list[Run]) -> None:
    call = """
from app.plan import saved_plans
from come.errors import ComeError
try:
    saved_plans.save("mine", session.choice(), session.draft())
except ComeError as error:
    session.set_problem(str(error))
"""
    run = come.runs.list_runs(lab.runs)[0]
    assert "Plans are not kept under a name here" in forged(call, run)
    assert not (lab.runs / "plans").exists() or not list((lab.runs / "plans").iterdir())


def test_a_request_that_takes_too_long_is_not_offered(
    visit: Visit, lab: Lab, launched: list[Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(dtype: str) -> Device:
        return Device("two processor cores", {dtype: 6e10}, 3e9, 2**34)

    for module in ("app.components.cost_line", "come.runs.foreseen"):
        monkeypatch.setattr(f"{module}.usual_device", slow)
    at = visit("run", **CHOICE, method="sleb", target="1")
    at.checkbox(key="rival-shortgpt").uncheck()
    at.checkbox(key="rival-come").uncheck().run()
    assert not at.exception and at.button(key="start").disabled
    assert any("minutes are allowed here" in warning.value for warning in at.warning)
    at.button(key="start").proto.disabled = False  # another client than a browser may click it all the same
    at.button(key="start").click().run()
    assert not at.exception and not launched
    call = """
from app.run import new_run
from come.request import RunConfig
new_run._start([RunConfig(method="sleb", target_layers=1)])
"""
    assert "are allowed here" in forged(call, come.runs.list_runs(lab.runs)[0]) and not launched


def test_a_visit_is_told_by_a_mark_that_does_not_tell_its_name(launched: list[Run]) -> None:
    code = "import streamlit as st\nfrom app.state import session\nst.text(session.visitor() + ' ' + session.visit())"
    name, mark = AppTest.from_string(code, default_timeout=240).run().text[0].value.split()
    assert mark and mark not in name and name not in mark
