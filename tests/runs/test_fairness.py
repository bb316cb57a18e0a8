"""Visits take turns, however many runs each queues; nobody is overtaken by all who come later."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from come.processes import NICE
from come.request import RunConfig
from come.runs import Run, create
from come.runs import queue as queues
from come.runs.queue import TURNS, _ahead, turn


@pytest.fixture(autouse=True)
def no_model_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("come.runs.store.checked", lambda config: (config, 27))
    monkeypatch.setattr(queues, "LOOK_AGAIN", 0.01)


def waiting(folder: Path, visit: str, created: float, process: int) -> Run:
    """A queued run of a visit, as if a process of that number waited with it (it counts as alive)."""
    run = create(RunConfig(target_layers=27), folder, visit=visit)
    # Another host's process is believed by its heartbeat.
    run.update(created=created, pid=process, host=f"host-{process}", heartbeat=time.time() + 600)
    assert run.state().active
    return run


def served(runs: list[Run]) -> list[str]:
    """In which order runs get their turns, by the visits' names."""
    order, left = [], list(runs)
    while left:
        first = [run for run in left if _ahead(run) == 0]
        assert len(first) == 1, "exactly one of those who wait comes first"
        with turn(first[0], lambda message: None):
            order.append(first[0].written_state().visit)
            first[0].update(status="done")
        left.remove(first[0])
    return order


def test_a_visit_that_had_its_turn_waits_for_the_others(tmp_path: Path) -> None:
    now = time.time() - 1000
    runs = [waiting(tmp_path, "greedy", now + place, 100 + place) for place in range(4)]
    runs += [waiting(tmp_path, "one", now + 50, 200), waiting(tmp_path, "two", now + 60, 300)]
    assert served(runs) == ["greedy", "one", "two", "greedy", "greedy", "greedy"]


def test_ever_new_visits_do_not_keep_an_old_one_waiting(tmp_path: Path) -> None:
    now = time.time() - 1000
    (tmp_path / TURNS).write_text(json.dumps({"old": now - 500}))
    runs = [waiting(tmp_path, "old", now, 100)]
    runs += [waiting(tmp_path, f"new-{place}", now + 1 + place, 200 + place) for place in range(5)]
    assert served(runs)[0] == "old"


def test_without_visits_who_waits_goes_by_age(tmp_path: Path) -> None:
    now = time.time() - 1000
    runs = [waiting(tmp_path, "", now + place, 100 + place) for place in range(4)]
    for run in runs:
        assert _ahead(run) == runs.index(run)
    with turn(runs[0], lambda message: None):
        runs[0].update(status="done")
    assert [_ahead(run) for run in runs[1:]] == [0, 1, 2]


@pytest.mark.parametrize(
    "damage", ["", "null", "[]", "[" * 30_000, '{"a": "x"}', '{"a": NaN}', '{"a": 1e999}', "\x00", '{"a": null}']
)
def test_a_damaged_table_of_turns_holds_up_nobody(tmp_path: Path, damage: str) -> None:
    run = waiting(tmp_path, "one", time.time() - 100, 100)
    (tmp_path / TURNS).write_text(damage)
    with turn(run, lambda message: None):
        assert set(json.loads((tmp_path / TURNS).read_text())) >= {"one"}


def test_a_process_gives_way_to_whoever_started_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import psutil

    from come.processes import start_detached

    program = tmp_path / "polite.py"
    program.write_text(
        "import psutil, pathlib\nfrom come.processes import give_way\ngive_way()\n"
        "pathlib.Path('nice.txt').write_text(str(psutil.Process().nice()))\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    assert start_detached("polite").wait(60) == 0
    assert int((tmp_path / "nice.txt").read_text()) == min(psutil.Process().nice() + NICE, 19)
