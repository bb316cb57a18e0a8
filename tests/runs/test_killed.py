"""Runs that are killed at random moments, by method and way of recovery: resumed, they end with the same bits.

How many kills: KILLS (20 by default, over all cases); which: KILL_SEED. To repeat many of them:

    KILLS=200 python -m pytest -m slow tests/runs/test_killed.py
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import random
import sys
import time
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import come
from come.errors import ComeError
from come.recovery.registry import ways
from come.request import RunConfig
from come.runs import Run, create, delete, execute
from tests.runs.test_process import wait_until
from tests.tiny import tiny_folder

KILLS, SEED = int(os.environ.get("KILLS", "20")), int(os.environ.get("KILL_SEED", "0"))
MOST_KILLS_OF_A_RUN = 3
TRAINING = {"steps": 12, "batch_tokens": 64, "checkpoint_minutes": 0, "check_every": 3}
METHODS = sorted(come.methods())
WAYS = sorted(ways())
# Every method without recovery, every way after one method, and ways in a row; distill-mp in processes of its own too.
CASES = [
    *((method, (), {}) for method in METHODS),
    *(("come", (way,), {}) for way in WAYS),
    ("come", ("refit", "distill-mp", "logits"), {}),
    ("come", ("distill-mp",), {"workers": 2}),
    ("shortgpt", ("logits",), {}),
]


def _execute(path: str, environment: dict[str, str]) -> None:
    """In a process of its own, which was forked from one that has loaded the program."""
    import torch

    os.environ |= environment
    torch.set_num_threads(1)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        execute(Run(Path(path)))
    except ComeError:
        os._exit(2)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("killed")
    tiny_folder(folder, layers=6)
    (folder / "numbers.txt").write_text("\n".join(f"{n} times {n} is {n * n}." for n in range(2500)))
    return folder


@pytest.fixture(scope="module")
def server() -> Any:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["come.runs.pipeline", "come.runs.execute", "tests.runs.test_killed"])
    return context


@pytest.fixture
def environment(place: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    found = {"COME_HOME": str(place / "home"), "COME_RUNS": str(place / "runs")}
    for name, value in found.items():
        monkeypatch.setenv(name, value)
    # A new process would begin with what is called __main__ here, which a test of the page has left as a page's script.
    monkeypatch.setitem(sys.modules, "__main__", types.ModuleType("__main__"))
    return found


def asked(place: Path, method: str, recover: tuple[str, ...], options: dict[str, Any]) -> RunConfig:
    """A small request; of a way, those of the options that it has."""
    keeps_all = "plus" in come.methods()[method].defaults()  # of six layers, unless it is told not to
    known = set.intersection(*(set(ways()[name].defaults()) for name in recover)) if recover else set()
    return RunConfig(
        model=str(place / "tiny-llama"),
        text=str(place / "numbers.txt"),
        method=method,
        target_layers=4,
        options={"plus": False} if keeps_all else {},
        n_tokens=512,
        seq_len=64,
        evaluation_tokens=256,
        recover=list(recover),
        recover_tokens=1024,
        recover_options={name: value for name, value in TRAINING.items() if name in known} | options,
    )


def end(server: Any, run: Run, environment: dict[str, str], after: float | None = None) -> tuple[bool, float]:
    """Execute a run in a process; kill it after so many seconds. Says whether it was killed, and how long it took."""
    process = server.Process(target=_execute, args=(str(run.path), environment))
    process.start()
    began = time.monotonic()
    process.join(after)
    killed = process.is_alive()
    if killed:
        process.kill()
    process.join()
    return killed, time.monotonic() - began


def bits(run: Run) -> dict[str, str]:
    """What a run has come to: its plan, its weights, its model, and its figures but for times."""
    files = [run.path / "plan.json", *run.path.glob("*.safetensors"), *(run.path / "model").glob("*.safetensors")]
    found = {str(path.relative_to(run.path)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    results = run.results()
    figures = {name: results.get(name) for name in ("original", "unrecovered", "pruned", "calibration", "evaluation")}
    windows = [record["window"] for record in results.get("history", [])]
    return found | {"figures": json.dumps(figures, sort_keys=True), "history": json.dumps(windows)}


def moments() -> Iterator[tuple[str, tuple[str, ...], dict[str, Any], random.Random, int]]:
    """Which cases are killed how often: all in turn, until there are enough kills."""
    drawn, left = random.Random(SEED), KILLS
    order = CASES.copy()
    drawn.shuffle(order)
    while left > 0:
        for method, recover, options in order:
            kills = min(left, drawn.randint(1, MOST_KILLS_OF_A_RUN))
            left -= kills
            yield method, recover, options, random.Random(drawn.random()), kills
            if left <= 0:
                return


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_killed_runs_end_with_the_same_bits(place: Path, server: Any, environment: dict[str, str]) -> None:
    whole: dict[str, tuple[dict[str, str], float]] = {}
    killed = late = resumed = 0
    for method, recover, options, drawn, kills in moments():
        config = asked(place, method, recover, options)
        key = f"{method} {recover} {options}"
        if key not in whole:
            run = create(config)
            _, took = end(server, run, environment)
            assert run.state().status == "done", f"{key}: {run.state()} {run.log()}"
            whole[key] = bits(run), took
            delete(run)
        expected, took = whole[key]
        run = create(config)
        for _ in range(kills):
            was, _ = end(server, run, environment, drawn.uniform(0.02, took))
            killed, late = killed + was, late + (not was)
            wait_until(lambda run=run: run.state().status in ("interrupted", "queued", "done"), run)
            if not was:
                break
        if run.state().status != "done":
            resumed += 1
            end(server, run, environment)
        assert run.state().status == "done", f"{key}: {run.state()} {run.log()}"
        assert bits(run) == expected, key
        stages = [event["stage"] for event in run.events()]
        assert stages.count("done") == 1
        delete(run)
        print(f"{killed} killed, {late} had ended before, {resumed} resumed: {key}", flush=True)
    assert killed + late >= min(KILLS, 1)


class Killed(BaseException):
    """As sudden as a kill."""


@pytest.mark.parametrize(
    "method", [pytest.param(method, marks=() if method == "streamline" else pytest.mark.slow) for method in METHODS]
)
def test_an_interrupted_run_keeps_one_entry_a_step(place: Path, environment: dict[str, str], method: str) -> None:
    config = asked(place, method, (), {}).model_copy(update={"keep_model": False, "evaluate": []})
    whole, cut = create(config), create(config)
    execute(whole)

    def listen(event: Any) -> None:
        if (cut.path / "plan.json").exists():
            raise Killed

    with pytest.raises(Killed):
        execute(cut, listen)
    cut.update(pid=2**30, process_start_id="gone 0")
    execute(cut)
    assert bits(cut) == bits(whole)
