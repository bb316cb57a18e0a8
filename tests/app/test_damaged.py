"""Pages over damaged runs: each says which cannot be read and why, and goes on with the rest."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from come.runs import Run, list_runs
from tests.app.conftest import Lab
from tests.runs.damage import INSTEAD, damaged_contents, put_instead

Visit = Callable[..., AppTest]
PAGES = ("home", "run", "compare", "inspect", "model", "layers", "plan", "playground")
FILES = ("config.json", "state.json", "results.json", "events.jsonl", "plan.json")


def fine(at: AppTest) -> AppTest:
    assert not at.exception, [exception.value for exception in at.exception]
    return at


def _pruned(lab: Lab) -> Run:
    return next(run for run in list_runs(lab.runs) if run.readable and run.config.kind == "compress")


def _copies(lab: Lab, whole: Path, file: str, every: int = 1) -> list[Run]:
    """A copy of a run for each kind of damage to a file of it."""
    made = []
    for number, (_, content) in enumerate(damaged_contents((whole / file).read_bytes(), every)):
        run = Run(shutil.copytree(whole, lab.runs / f"{whole.name[:-4]}{file[:1]}{number:03}"))
        (run.path / file).write_bytes(content)
        made.append(run)
    for number, instead in enumerate(INSTEAD):
        if number % every == 0 and instead != "nothing":
            run = Run(shutil.copytree(whole, lab.runs / f"{whole.name[:-4]}{file[:1]}x{number:02}"))
            put_instead(run.path / file, instead)
            made.append(run)
    return made


def test_pages_tell_of_damaged_runs_and_go_on(lab: Lab, visit: Visit) -> None:
    whole = _pruned(lab).path
    damaged = [run for file in FILES for run in _copies(lab, whole, file, every=9)]
    unreadable = [run for run in damaged if not run.readable]
    assert len(unreadable) > 10
    table = fine(visit("run")).dataframe[0].value
    assert list(table["Status"] if "Status" in table else table["status"]).count("unreadable") == len(unreadable)
    for page in ("home", "compare", "inspect"):
        fine(visit(page))
    run = unreadable[0]
    opened = fine(visit("run", run=run.id))
    assert any(run.state().error[:40] in error.value.replace("\\", "") for error in opened.error)
    fine(opened.button(key="delete").click().run())
    assert not run.path.exists()


@pytest.mark.slow
@pytest.mark.attack
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("file", FILES)
def test_every_page_stands_every_damage(lab: Lab, visit: Visit, file: str) -> None:
    damaged = _copies(lab, _pruned(lab).path, file)
    for page in PAGES:
        fine(visit(page))
    for run in damaged:
        fine(visit("run", run=run.id))
        if run.readable:
            fine(visit("inspect", run=run.id))
    assert len(damaged) >= 30
