"""A probe as a metric of a run: what the library finds, kept for further runs, and no values of others."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from come.errors import ComeError
from come.evaluate import Probe, mean_probe, probe
from come.events import Event
from come.models import load
from come.runs import Run, evaluation, execute, reported
from come.runs.documents import RESULTS, results_of
from tests.asked import questions_file
from tests.runs.conftest import Create


@pytest.fixture
def mine(tmp_path: Path) -> str:
    return questions_file(tmp_path, "mine.jsonl", 40)


@pytest.fixture
def few(tmp_path: Path) -> str:
    return questions_file(tmp_path, "few.jsonl", 12)


def read(run: Run, which: str) -> dict[str, Probe]:
    return {task: Probe.from_results(each) for task, each in run.results()[which]["probe"].items()}


@pytest.mark.slow
def test_a_run_finds_what_the_library_finds(new_run: Create, model: Path, mine: str, few: str) -> None:
    run = new_run(evaluate=["probe"], tasks=[mine, few], task_limit=30, batch_size=2, seed=3)
    seen: list[Event] = []
    execute(run, seen.append)
    asked = {"limit": 30, "batch_size": 2}  # what is held out is the same for all seeds of a sweep
    assert read(run, "original") == probe(load(str(model)), [mine], **asked)
    assert read(run, "pruned") == probe(load(run.path / "model"), [mine], **asked)
    before, after = (read(run, which)["mine.jsonl"] for which in ("original", "pruned"))
    assert (len(before.weights), len(after.weights), before.train, before.held_out) == (7, 5, 21, 9)
    assert reported.not_probed(run.results()) == ["few.jsonl was not probed: 12 questions are fewer than 20."]
    told = {event.message for event in seen if event.stage == "probe"}
    assert {"Probe of the original model: mine.jsonl", "Probe of the pruned model: mine.jsonl"} <= told
    assert {"probe original", "probe pruned"} <= set(run.results()["seconds"])


def test_it_is_not_measured_unless_it_is_asked_for(new_run: Create) -> None:
    run = new_run(method="shortgpt", keep_model=False)
    execute(run)
    assert "probe" not in run.results()["pruned"] and "not_probed" not in run.results()


def test_tasks_without_enough_questions_are_no_fault(new_run: Create, few: str) -> None:
    run = new_run(method="shortgpt", evaluate=["probe"], tasks=[few, "arc_easy"], keep_model=False)
    execute(run)
    assert run.state().status == "done"
    assert run.results()["original"]["probe"] == run.results()["pruned"]["probe"] == {}
    assert len(reported.not_probed(run.results())) == 2


@pytest.fixture
def probed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many layers each model had that was probed since."""
    counts: list[int] = []

    def counting(bundle: Any, *given: Any, **named: Any) -> dict[str, Probe]:
        counts.append(len(bundle.layers))
        return probe(bundle, *given, **named)

    monkeypatch.setattr(evaluation, "probe", counting)
    return counts


@pytest.mark.slow
def test_the_original_is_probed_once_for_all_runs(new_run: Create, mine: str, probed: list[int]) -> None:
    def made(**changes: Any) -> Run:
        run = new_run(**{"method": "shortgpt", "evaluate": ["probe"], "tasks": [mine], "keep_model": False} | changes)
        execute(run)
        return run

    first, second = made(), made(method="random", seed=1)
    assert probed == [6, 4, 4]
    assert first.results()["original"] == second.results()["original"]
    made(task_limit=30)
    assert probed == [6, 4, 4, 6, 4]


@pytest.mark.slow
def test_a_run_that_goes_on_neither_repeats_nor_loses_it(new_run: Create, mine: str, probed: list[int]) -> None:
    def stop_at(run: Run, stage: str) -> Callable[[Event], None]:
        return lambda event: (run.path / "cancel").touch() if event.stage == stage else None

    whole = new_run(evaluate=["probe"], tasks=[mine])
    execute(whole)
    probed.clear()
    run = new_run(evaluate=["probe"], tasks=[mine])
    with pytest.raises(KeyboardInterrupt):
        execute(run, stop_at(run, "probe"))
    assert run.state().status == "cancelled" and "probe" not in run.results()["pruned"]
    with pytest.raises(KeyboardInterrupt):
        execute(run, stop_at(run, "save"))
    assert run.state().status == "cancelled" and "probe" in run.results()["pruned"]
    assert probed == [4, 4]  # the first of them was cut off
    execute(run)
    assert probed == [4, 4]
    for which in ("original", "pruned"):
        assert run.results()[which]["probe"] == whole.results()[which]["probe"]


DAMAGE: dict[str, Any] = {
    "no share": {"accuracy": 1.5},
    "no number": {"stderr": "small"},
    "a truth value": {"chance": True},
    "below nothing": {"gamma": -1.0},
    "no error": {"gain_stderr": None},
    "weights that add up to more": {"weights": [0.9] * 5},
    "too few layers": {"weights": [0.5, 0.5]},
    "a weight below nothing": {"weights": [2.0, -1.0, 0.0, 0.0, 0.0]},
    "other questions": {"held_out": 3},
    "hits that are none": {"hits": "01x"},
    "a list": {"last_hits": [0, 1]},
}


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    weights = [0.1, 0.2, 0.3, 0.2, 0.2]
    whole = Probe(tuple(weights), 2.0, 0.5, 0.1, 0.25, 0.1, 0.25, 0.2, 0.5, 9, 4, (1, 1, 0, 0), (0, 0, 0, 1))
    return {"pruned": {"layers": 4, "parameters": 10, "bytes": 40, "probe": {"mine": whole.to_results()}}}


def test_what_is_kept_reads_as_it_was(good: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / RESULTS).write_text(json.dumps(good))
    kept = results_of(tmp_path)["pruned"]["probe"]["mine"]
    assert Probe.from_results({**kept, "of a later version": 1}).to_results() == good["pruned"]["probe"]["mine"]


@pytest.mark.parametrize("kind", DAMAGE)
def test_values_that_no_probe_has_are_refused(good: dict[str, Any], kind: str, tmp_path: Path) -> None:
    values = json.loads(json.dumps(good))
    values["pruned"]["probe"]["mine"] |= DAMAGE[kind]
    (tmp_path / RESULTS).write_text(json.dumps(values))
    with pytest.raises(ComeError, match=RESULTS):
        results_of(tmp_path)


def test_a_mean_is_over_tasks_with_independent_errors(good: dict[str, Any]) -> None:
    one = Probe.from_results(good["pruned"]["probe"]["mine"])
    other = Probe((0.3, 0.2, 0.1, 0.2, 0.2), 1.0, 0.7, 0.1, 0.25, 0.0, 0.45, 0.1, 0.3, 9, 4, (1,) * 4, (0,) * 4)
    both = mean_probe([one, other])
    assert both.weights == pytest.approx([0.2] * 5)
    assert (both.accuracy, both.chance, both.held_out) == pytest.approx((0.6, 0.4, 8))
    assert both.stderr == pytest.approx((0.1**2 + 0.1**2) ** 0.5 / 2)
    assert mean_probe([one]) == one
