"""Strangers' runs: whose they are, how many, how long and how large; asked for at once, and one after the other."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from come.errors import ComeError
from come.estimation.device import Device
from come.request import RunConfig
from come.runs import Run, create, delete, list_runs, prepare
from come.runs.state import identity
from come.runs.sweep import as_sweep
from come.serving import limits, side_jobs
from come.serving.limits import DEMO
from come.serving.quota import make_room

REQUEST = RunConfig(target_layers=27, n_tokens=1024)
CELLS = [REQUEST, REQUEST.model_copy(update={"method": "shortgpt"})]


@pytest.fixture(autouse=True)
def demo(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("COME_DEMO", "1")
    monkeypatch.setenv("COME_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("COME_HOME", str(tmp_path / "home"))
    return tmp_path / "runs"


def ended(folder: Path, visit: str, size: int = 0) -> Run:
    run = create(REQUEST, folder, visit=visit)
    (run.path / "weights").write_bytes(b"0" * size)
    run.update(status="done")
    return run


def test_the_same_request_of_two_visits_makes_two_sweeps(demo: Path) -> None:
    first = prepare(as_sweep(CELLS, visit="a"), allowed=DEMO, visit="a")
    second = prepare(as_sweep(CELLS, visit="b"), allowed=DEMO, visit="b")
    assert {run.id for run in first}.isdisjoint(run.id for run in second)
    assert first[0].config.sweep != second[0].config.sweep
    assert {run.written_state().visit for run in second} == {"b"}
    again = prepare(as_sweep(CELLS, visit="a"), allowed=DEMO, visit="a")
    assert [run.id for run in again] == [run.id for run in first]
    # By the same name, too: it is no secret, and takes up nobody else's.
    named = prepare(as_sweep(CELLS, first[0].config.sweep), allowed=DEMO, visit="c")
    assert {run.id for run in first}.isdisjoint(run.id for run in named)


def test_on_ones_own_machine_the_same_sweep_is_taken_up() -> None:
    first = prepare(as_sweep(CELLS))
    assert [run.id for run in prepare(as_sweep(CELLS))] == [run.id for run in first]


def test_no_process_is_told_of(demo: Path) -> None:
    told = ComeError("The run x is running already (process 4711 on box-7).")
    assert limits.without_paths(str(told)) == "The run x is running already."


def test_one_visit_does_not_hold_the_queue(demo: Path) -> None:
    for _ in range(2):
        create(REQUEST, allowed=DEMO, visit="a")
    with pytest.raises(ComeError, match="2 requests of yours are at work or waiting"):
        create(REQUEST, allowed=DEMO, visit="a")
    with pytest.raises(ComeError, match="2 requests of yours"):
        prepare(as_sweep(CELLS, visit="a"), allowed=DEMO, visit="a")
    create(REQUEST, allowed=DEMO, visit="b")


def test_requests_that_come_at_once_do_not_all_take_the_last_place(demo: Path) -> None:
    ready, refused = threading.Barrier(12), []

    def ask(visit: str) -> None:
        ready.wait()
        try:
            create(REQUEST, allowed=DEMO, visit=visit)
        except ComeError as error:
            refused.append(error)

    threads = [threading.Thread(target=ask, args=(f"visit-{number % 4}",)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert DEMO.waiting is not None
    assert len(list_runs(demo)) == DEMO.waiting + 1 and len(refused) == 12 - len(list_runs(demo))


@pytest.mark.parametrize("fields", [{"method": "sleb", "target_layers": 1}, {"method": "come-p", "target_layers": 5}])
def test_what_is_foreseen_to_take_too_long_is_refused(demo: Path, fields: dict[str, object]) -> None:
    config = RunConfig.model_validate({"n_tokens": 8192} | fields)
    with pytest.raises(ComeError, match=r"expected to take about .*, and 20 minutes are allowed here"):
        create(config, allowed=DEMO, visit="a")
    assert not demo.exists()


def test_many_runs_that_take_too_long_together_are_refused(demo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = Device("two processor cores", {"float32": 6e10, "bfloat16": 6e10}, 3e9, 2**34)
    monkeypatch.setattr("come.runs.foreseen.usual_device", lambda _: slow)
    asked = {"n_tokens": 8192, "target_layers": 24, "evaluate": ["ppl", "acc"], "task_limit": 150, "tasks": ["bundled"]}
    cells = [RunConfig.model_validate(asked | {"seed": seed}) for seed in range(6)]
    with pytest.raises(ComeError, match="These runs are expected to take about"):
        prepare(as_sweep(cells, visit="a"), allowed=DEMO, visit="a")


def test_a_run_records_how_long_it_may_work(demo: Path) -> None:
    assert DEMO.run_minutes_at_most is not None
    assert create(REQUEST, allowed=DEMO, visit="a").state().seconds_at_most == 60 * DEMO.run_minutes_at_most
    assert create(REQUEST).state().seconds_at_most is None


# --- the disk ----------------------------------------------------------------------------------------


def test_the_oldest_ended_runs_of_a_visit_make_room(demo: Path) -> None:
    own = [ended(demo, "a", 1000) for _ in range(3)]
    others, nobodys = ended(demo, "b", 50_000), ended(demo, "", 90_000)
    for place, run in enumerate([*own, others, nobodys]):  # ids sort by second of creation: make them differ
        run.path.rename(run.path.with_name(f"2026010{place + 1}-000000-x-{place}"))
    size = Run(demo / "20260101-000000-x-0").size_bytes()
    make_room(demo, "a", size, 3 * size + 100, 10**9)
    assert sorted(run.id[:8] for run in list_runs(demo)) == ["20260102", "20260103", "20260104", "20260105"]
    with pytest.raises(ComeError, match="the runs of one visit may take"):
        make_room(demo, "a", 10**6, 10**5, 10**9)


def test_of_all_visits_the_oldest_go_but_none_at_work_nor_what_is_nobodys(demo: Path) -> None:
    runs = [ended(demo, visit, 10_000) for visit in ("", "a", "b", "c", "d")]
    named = [run.path.rename(run.path.with_name(f"2026010{place}-000000-x")) for place, run in enumerate(runs, 1)]
    working = Run(named[1])
    working.update(status="running", **identity(os.getpid()))
    packing = Run(named[2])
    (packing.path / "takeaway").mkdir()
    file = packing.path / "takeaway" / "float32.json"
    side_jobs._write(file, "working", identity(os.getpid()))
    make_room(demo, "e", 10_000, 10**6, 45_000)
    assert [run.path for run in reversed(list_runs(demo))] == [named[0], named[1], named[2], named[4]]
    with pytest.raises(ComeError, match="visitors' runs have used up"):
        make_room(demo, "e", 10_000, 10**6, 25_000)
    assert working.path.exists() and packing.path.exists() and named[0].exists()


def test_there_are_so_many_runs_and_no_more(demo: Path) -> None:
    for number in range(6):
        ended(demo, "a" if number % 2 else "b")
    ended(demo, "")
    make_room(demo, "a", 0, 10**9, 10**9, visit_runs=2, all_runs=4)
    visits = [run.written_state().visit for run in list_runs(demo)]
    assert visits.count("a") <= 2 and visits.count("a") + visits.count("b") == 4 and visits.count("") == 1


def test_a_new_run_makes_room_for_itself(demo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    old = ended(demo, "a", 3_000_000)
    kept = REQUEST.model_copy(update={"keep_model": False, "method": "shortgpt"})  # whose plan holds no weights
    create(kept, allowed=replace(DEMO, visit_bytes=2_500_000), visit="a")
    assert not old.path.exists() and len(list_runs(demo)) == 1


def test_a_download_waits_for_no_other_of_the_same_visit(demo: Path) -> None:
    one, other, strangers = ended(demo, "a"), ended(demo, "a"), ended(demo, "b")
    for run in (one, other, strangers):
        (run.path / "takeaway").mkdir()
    me = identity(os.getpid())
    side_jobs._write(one.path / "takeaway" / "float32.json", "working", me)
    with pytest.raises(ComeError, match="Another download of yours"):
        side_jobs.start(other, "come.serving.pack", other.path / "takeaway" / "float32.json", "float32", most=1)
    assert side_jobs.at_work(other) == [] and side_jobs.at_work(strangers) == []


def test_a_packing_job_that_waits_holds_little() -> None:
    import subprocess
    import sys

    for module in ("pack", "reload_check", "window_costs", "layers_needed"):
        code = f"import come.serving.{module}, sys; print([name for name in ('torch', 'numpy') if name in sys.modules])"
        found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert found.stdout.strip() == "[]", module


def test_deleting_ones_own_frees_the_room(demo: Path) -> None:
    run = ended(demo, "a", 50_000)
    with pytest.raises(ComeError):
        make_room(demo, "a", 30_000, 60_000, 10**9, keep=[run])
    delete(run)
    make_room(demo, "a", 30_000, 60_000, 10**9)
