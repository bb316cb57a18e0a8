"""Every method, at three sizes with three seeds, on a cluster of two nodes of which one is killed, as is the driver."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from come.pruning.registry import methods
from come.request import RunConfig
from come.runs import Run, Sweep, execute_all, launch, prepare, resume_all
from tests.cluster.conftest import second_node, started, wait_until
from tests.cluster.test_cluster import alike

pytestmark = [pytest.mark.slow, pytest.mark.timeout(0)]

# What a model of six layers, and a test, need; the methods are tested by themselves.
OPTIONS: dict[str, dict[str, Any]] = {
    "taylor": {"plus": False},
    "magnitude": {"plus": False},
    "streamline": {"steps": 4},
}


def how_many(runs: list[Run], fits: Callable[[str], bool]) -> int:
    return sum(fits(run.state().status) for run in runs)


def test_every_method_comes_to_the_same_though_a_node_and_the_driver_are_lost(
    asked: dict[str, Any], tmp_path: Path
) -> None:
    names = list(methods())
    request = Sweep(
        RunConfig(**asked | {"target_layers": None, "keep_model": False}),
        names,
        targets=[5, 4, 3],
        seeds=[0, 1, 2],
        options=OPTIONS,
    ).cells()
    here, there = prepare(request, tmp_path / "here"), prepare(request, tmp_path / "there")
    execute_all(here)
    with started(cpus=1) as cluster, second_node(cluster) as node:
        launch(*there, where=f"{cluster.client}&files=ray")
        wait_until(lambda: how_many(there, lambda status: status == "done") > len(there) // 6)
        os.killpg(node.pid, signal.SIGKILL)  # with all that works on it
        wait_until(lambda: how_many(there, lambda status: status == "done") > len(there) // 3)
        (driver,) = {run.state().pid for run in there if run.state().active and run.state().pid}
        assert driver is not None
        os.kill(driver, signal.SIGKILL)
        wait_until(lambda: not how_many(there, lambda status: status in ("queued", "running")))
        left = [run for run in there if run.state().status != "done"]
        assert left and all(run.state().status == "interrupted" for run in left)
        resume_all(left)
        wait_until(lambda: not how_many(there, lambda status: status in ("queued", "running")), seconds=3600)
    for ours, theirs in zip(here, there, strict=True):
        if ours.state().status == "done":
            alike(ours, theirs)
        else:  # a method that refuses so small a model does so there, too
            assert (theirs.state().status, theirs.state().error) == (ours.state().status, ours.state().error)
    assert how_many(here, lambda status: status == "done") > 0.9 * len(here)
