"""Sweeps on the run page and the compare page: one object each."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

import come.runs
from app.state import time_left
from come.runs import Run
from come.runs.ahead import Outlook
from come.runs.state import identity
from tests.app import synthetic

Visit = Callable[..., AppTest]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Run]:
    """A sweep of two methods, two sizes and two seeds, of which the last four wait."""
    monkeypatch.setenv("COME_RUNS", str(tmp_path / "made-up"))
    runs = synthetic.sweep(tmp_path / "made-up", ("come", "shortgpt"), (27, 24), (0, 1), measure=("ppl",))
    for run in runs[4:]:
        run.update(status="queued", finished=None, created=time.time(), **identity(os.getpid()))
    return runs


def fine(at: AppTest) -> AppTest:
    assert not at.exception
    assert not [error.value for error in at.error]
    return at


def cells(at: AppTest) -> list[str]:
    table = next(each.value for each in at.dataframe if "State" in each.value and "Seed" in each.value)
    return list(table["State"])


def test_a_sweep_is_one_object_with_its_cells(visit: Visit, made: list[Run]) -> None:
    at = fine(visit("run"))
    assert any("4 of 8 done" in each.value for each in at.markdown)
    assert any("CoMe and ShortGPT at 27 and 24 layers, 2 seeds" in each.label for each in at.expander)
    assert sorted(set(cells(at))) == ["done", "queued"]
    assert not [button for button in at.button if button.label == "Cancel"]  # no line for each cell besides
    at = fine(at.multiselect(key=f"states-of-{made[0].config.sweep}").set_value(["queued"]).run())
    assert cells(at) == ["queued"] * 4


def test_all_of_it_is_cancelled_and_resumed(visit: Visit, made: list[Run], monkeypatch: pytest.MonkeyPatch) -> None:
    at = visit("run")
    at = fine(at.button(key=f"cancel-all-{made[0].config.sweep}").click().run())
    assert [run.state().status for run in made] == ["done"] * 4 + ["cancelled"] * 4
    launched: list[str] = []
    monkeypatch.setattr("come.runs.process.launch", lambda *runs, **_: launched.extend(run.id for run in runs))
    resume = at.button(key=f"resume-all-{made[0].config.sweep}")
    assert resume.label == "Resume 4"
    fine(resume.click().run())
    assert launched == [run.id for run in made[4:]]


def test_the_compare_page_shows_it_too_and_takes_its_runs_alone(visit: Visit, made: list[Run], tmp_path: Path) -> None:
    synthetic.write(tmp_path / "made-up", "9999", synthetic.results_of("sleb", 27, 0, ("ppl",)), "sleb", 27)
    at = fine(visit("compare"))
    assert any("4 of 8 done" in each.value for each in at.markdown)
    assert "SLEB" in set(at.dataframe[0].value["Method"])
    at = fine(visit("compare", sweep=str(made[0].config.sweep)))
    assert "SLEB" not in set(at.dataframe[0].value["Method"])
    assert len(come.runs.list_runs()) == 9


def test_what_waits_is_as_slow_as_what_was_done(made: list[Run], monkeypatch: pytest.MonkeyPatch) -> None:
    for run in made[:4]:
        run.update(started=1000.0, finished=1090.0)
    monkeypatch.setattr(
        time_left, "_foreseen", lambda asked: [{"compress": 20.0, "evaluate original": 10.0}] * len(asked)
    )
    each = time_left.of_runs(made)
    assert [each[run.id].left for run in made] == pytest.approx([0.0] * 4 + [90.0] * 4)
    total = time_left.of_all(made)
    assert total.share == pytest.approx(0.5) and total.left == pytest.approx(360)


def test_all_that_tells_the_time_left_of_a_sweep_tells_the_same(
    visit: Visit, made: list[Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    def foreseen(runs: list[Run]) -> dict[str, Outlook]:
        return {run.id: Outlook(0.0, 0.0, 50.0) if run.state().active else Outlook(1.0, 9.0, 0.0) for run in runs}

    monkeypatch.setattr(time_left, "of_runs", foreseen)
    made[4].update(status="running", started=time.time(), **identity(os.getpid()))
    at = fine(visit("run", run=made[4].id))
    told = [
        *(each.value for each in (*at.markdown, *at.caption)),
        *(str(each.proto.text) for each in at.get("progress")),
    ]
    assert [each for each in told if " left" in each] == [each for each in told if "about 3 min 20 s left" in each]
    assert sum("about 3 min 20 s left" in each for each in told) == 2, "the bar of all runs and the sweep's line"
