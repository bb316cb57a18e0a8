"""On a real cluster of two workers, with workers really killed: what comes out is what comes out here."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from come.cli import main
from come.cluster import execute_on, layers
from come.cluster.connect import connected
from come.cluster.layers import layers_on_ray
from come.errors import ComeError
from come.events import Event
from come.recovery.recover import recover
from come.request import RunConfig
from come.runs import Run, Sweep, cancel, cluster_target, create, execute, execute_all, launch, prepare, resume
from tests.cluster.conftest import Cluster, started, wait_until
from tests.recovery.pruned import TOKENS, merged, same_weights
from tests.runs.conftest import Create

pytestmark = pytest.mark.slow

JOB = "come.cluster.job"  # in a job's command line

# Slow on purpose, so that a kill meets it at work.
LONG = {"n_tokens": 32768, "batch_size": 1, "target_layers": None, "keep_model": False}
RECOVERY = {
    "target_layers": 3,
    "keep_model": False,
    "recover": ["distill-mp"],
    "recover_tokens": 4096,
    "recover_options": {"workers": 2, "threads": 1, "steps": 200, "precision": "float32"},
}


def over(*runs: Run) -> Callable[[], bool]:
    return lambda: not any(run.state().active for run in runs)


def alike(ours: Run, theirs: Run) -> None:
    """The same plan, the same weights by their hash, the same figures."""
    assert ours.state().status == theirs.state().status == "done", ours.log() + theirs.log()
    assert ours.plan() == theirs.plan()
    for file in ours.path.glob("weights-*.safetensors"):
        assert file.read_bytes() == (theirs.path / file.name).read_bytes()
    for which in ("original", "pruned"):
        assert ours.results()[which] == theirs.results()[which]


def kill_one(cluster: Cluster, title: str, while_: Run) -> int:
    """Kill the first worker of that title, and of that run where it has one of its own; returns its process id."""

    def workers() -> list[int]:
        found = cluster.workers(title)
        if title != JOB:
            return found
        own = []
        for pid in found:  # the worker of the run before may not have ended yet
            with suppress(psutil.Error):
                if str(while_.path) in psutil.Process(pid).cmdline():
                    own.append(pid)
        return own

    wait_until(lambda: workers() or not while_.state().active, while_)
    pids = workers()
    assert pids, f"it ended before: {while_.state()}\n{while_.log()}"
    os.kill(pids[0], signal.SIGKILL)
    return pids[0]


@pytest.mark.parametrize("by", ["shared folder", "ray"])
def test_a_sweep_whose_worker_is_killed_comes_to_the_same(
    by: str, cluster: Cluster, asked: dict[str, Any], tmp_path: Path
) -> None:
    base = RunConfig(**{**asked, **LONG})
    request = Sweep(base, ["come", "shortgpt", "random"], targets=[4, 1]).cells()
    here, there = prepare(request, tmp_path / "here"), prepare(request, tmp_path / "there")
    address = cluster.address if by == "shared folder" else f"{cluster.client}&files=ray"
    launch(*there, where=address)
    wait_until(lambda: there[1].state().status == "running" or not there[1].state().active, there[1])
    killed = kill_one(cluster, JOB, there[1])
    wait_until(over(*there), there[1])
    assert not psutil.pid_exists(killed) or psutil.Process(killed).status() == psutil.STATUS_ZOMBIE
    execute_all(here)
    for ours, theirs in zip(here, there, strict=True):
        alike(ours, theirs)
    assert any("Lost the worker" in run.log() for run in there)
    assert {run.state().where for run in there} == {address}


def test_layers_are_tasks_and_a_killed_one_is_done_again(cluster: Cluster, new_run: Create) -> None:
    here, there = new_run(**RECOVERY), new_run(**RECOVERY)
    launch(there, where=cluster.address)
    wait_until(lambda: any("train_loss" in e["values"] for e in there.events()) or not there.state().active, there)
    kill_one(cluster, "ray::layer", there)
    wait_until(over(there), there)
    execute(here)
    alike(here, there)
    assert "Lost the worker" not in there.log()  # the run's own worker was not lost: only a layer's was
    points = [event["values"] for event in there.events() if "train_loss" in event["values"]]
    assert len({point["layer"] for point in points}) > 1


def test_a_script_gives_layers_to_ray_and_does_what_has_no_room(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    student, teacher = merged(target=3)
    quick = {"workers": 2, "threads": 1, "steps": 6, "batch_tokens": 64, "precision": "float32"}
    expected = recover(student, teacher, TOKENS, "distill-mp", **quick)
    place = cluster_target(cluster.address)
    assert place is not None
    with connected(place):
        with layers_on_ray():
            there = recover(student, teacher, TOKENS, "distill-mp", **quick)
        monkeypatch.setattr(layers, "PATIENCE", 1.0)
        with layers_on_ray(gpus=1):  # nobody has one
            here = recover(student, teacher, TOKENS, "distill-mp", **quick)
    assert same_weights(there.bundle, expected.bundle) and there.plan == expected.plan
    assert same_weights(here.bundle, expected.bundle)


def test_a_run_killed_in_its_recovery_goes_on_where_its_files_end(cluster: Cluster, new_run: Create) -> None:
    quick = {**RECOVERY, "recover_options": RECOVERY["recover_options"] | {"steps": 100}}  # type: ignore[dict-item]
    here, there = new_run(**quick), new_run(**quick)
    launch(there, where=f"{cluster.client}&files=ray")
    wait_until(lambda: there.state().stage == "recover" or not there.state().active, there)
    kill_one(cluster, JOB, there)
    wait_until(over(there), there)
    execute(here)
    alike(here, there)
    assert "resumed" in [event["stage"] for event in there.events()]


def test_results_come_through_a_url_and_events_too(cluster: Cluster, new_run: Create, tmp_path: Path) -> None:
    here, there = new_run(), new_run()
    place = cluster_target(f"{cluster.address}&files=file://{tmp_path}/bucket")
    assert place is not None
    seen: list[Event] = []
    execute_on(place, there, seen.append)
    execute(here)
    alike(here, there)
    assert {"load", "compress", "done"} <= {event.stage for event in seen}
    assert (there.path / "model" / "config.json").exists()
    kept = tmp_path / "bucket" / there.id
    assert json.loads((kept / "state.json").read_text())["status"] == "done"


def test_a_run_is_cancelled_or_loses_its_driver_and_is_resumed_there(cluster: Cluster, new_run: Create) -> None:
    run, whole = new_run(**RECOVERY), new_run(**RECOVERY)
    launch(run, where=f"{cluster.address}&cpus=1")
    wait_until(lambda: run.state().stage == "recover" or not run.state().active, run)
    cancel(run)
    wait_until(over(run), run)
    assert run.state().status == "cancelled" == run.written_state().status
    wait_until(lambda: not cluster.workers(JOB), run)
    resume(run)
    assert run.state().where == f"{cluster.address}&cpus=1"
    wait_until(lambda: run.state().stage == "recover" or not run.state().active, run)
    driver = run.state().pid
    assert driver is not None and cluster.workers(JOB)
    os.kill(driver, signal.SIGKILL)
    wait_until(over(run), run)
    assert run.state().status == "interrupted" and cluster.workers(JOB)  # the job goes on, until the run is resumed
    resume(run)
    wait_until(over(run), run)
    execute(whole)
    alike(whole, run)


def test_a_worker_killed_each_time_is_a_failed_cell_and_no_more(cluster: Cluster, asked: dict[str, Any]) -> None:
    base = RunConfig(**{**asked, **LONG})
    made = prepare(Sweep(base, ["come"], targets=[4, 2]).cells())
    launch(*made, where=f"{cluster.address}&retries=0")
    wait_until(lambda: made[0].state().status == "running" or not made[0].state().active, made[0])
    kill_one(cluster, JOB, made[0])
    wait_until(over(*made), made[0])
    assert [run.state().status for run in made] == ["failed", "done"], made[0].log()
    assert "was killed once" in made[0].state().error


@pytest.mark.parametrize("by", ["address", "client"])
def test_a_lost_cluster_ends_the_run_and_none_is_started_in_its_place(
    by: str, new_run: Create, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = new_run(**{**LONG, "target_layers": 2})
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))  # where Ray would put a cluster that it starts by itself
    with started() as cluster:
        launch(run, where=cluster.address if by == "address" else f"{cluster.client}&files=ray")
        wait_until(lambda: run.state().status == "running" or not run.state().active, run)
        os.killpg(cluster.pid, signal.SIGKILL)
        wait_until(over(run), run)
    state = run.state()
    assert state.status == "failed" and "was lost" in state.error, f"{state}\n{run.log()}"
    assert not list(tmp_path.glob("**/session_*"))


def test_a_worker_without_the_model(cluster: Cluster, asked: dict[str, Any], tmp_path: Path) -> None:
    folder = shutil.copytree(asked["model"], tmp_path / "mine")
    run = create(RunConfig(**{**asked, "model": str(folder)}))
    shutil.rmtree(folder)
    place = cluster_target(cluster.address)
    assert place is not None
    with pytest.raises(ComeError, match=r"The worker \S+ does not have the run's model .*mine"):
        execute_on(place, run)
    assert run.state().status == "failed"


def test_the_command_line_runs_there(
    cluster: Cluster, asked: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--model", asked["model"], "--text", asked["text"], "--tokens", "512", "--seq-len", "64"]
    arguments += ["--target-layers", "4", "--evaluation-tokens", "256", "--plan-only", "--json"]
    assert main(["run", *arguments, "--on", cluster.client]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["status"] == "done" and told["where"] == cluster.client and told["config"].get("on") is None
