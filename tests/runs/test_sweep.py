from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import pytest

from come.errors import ComeError
from come.events import Event
from come.plan.steps import Remove
from come.request import RunConfig
from come.runs import Sweep, cancel, create, execute, execute_all, launch, list_runs, pipeline, prepare, shared
from tests.runs.conftest import Create

Asked = dict[str, Any]


def sweep(asked: Asked, **changes: Any) -> Sweep:
    base = {**asked, "target_layers": None, "keep_model": False, "evaluate": ["ppl"]}
    return Sweep(**{"base": RunConfig(**base), "methods": ["come", "shortgpt", "random"], "targets": [3, 4], **changes})


def test_the_cells_are_methods_by_targets_by_seeds(asked: Asked) -> None:
    cells = sweep(asked, seeds=[0, 1], options={"come": {"span": 3}}).cells()
    assert [(cell.seed, cell.method, cell.target_layers) for cell in cells] == [
        (seed, method, target) for seed in (0, 1) for method in ("come", "shortgpt", "random") for target in (4, 3)
    ]
    assert len({cell.sweep for cell in cells}) == 1 and cells[0].sweep
    assert [cell.options for cell in cells[:3]] == [{"span": 3}, {"span": 3}, {}]
    assert cells[0].sweep == sweep(asked, seeds=[0, 1], options={"come": {"span": 3}}).cells()[0].sweep
    assert cells[0].sweep != sweep(asked).cells()[0].sweep


@pytest.mark.slow
def test_a_sweep_comes_to_what_its_runs_come_to_alone(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    loads: list[str] = []
    load = shared.load
    monkeypatch.setattr(shared, "load", lambda model, *rest: (loads.append(model), load(model, *rest))[1])
    made = prepare(sweep(asked).cells())
    execute_all(made)
    assert loads == [asked["model"]]
    assert [run.state().status for run in made] == ["done"] * 6
    for run in made:
        alone = RunConfig(**{**run.config.model_dump(), "sweep": ""})
        other = create(alone)
        execute(other)
        assert other.plan() == run.plan()
        theirs, ours = other.results(), run.results()
        assert ours["pruned"] == theirs["pruned"] and ours["original"] == theirs["original"]
        assert [step["window"] for step in ours["history"]] == [step["window"] for step in theirs["history"]]


@pytest.mark.slow
def test_a_step_by_step_method_goes_on_from_its_milder_result(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    begun_with: list[int] = []
    compress = pipeline.compress
    monkeypatch.setattr(
        pipeline,
        "compress",
        lambda *args, done=None, **named: (
            begun_with.append(len(done.steps) if done else 0),
            compress(*args, done=done, **named),
        )[1],
    )
    execute_all(prepare(sweep(asked, methods=["come", "random"], targets=[5, 4, 2]).cells()))
    assert begun_with == [0, 1, 2, 0, 0, 0]


@pytest.mark.slow
def test_random_draws_by_the_seed_of_the_run(asked: Asked) -> None:
    made = prepare(sweep(asked, methods=["random"], targets=[3], seeds=[0, 1, 2, 3]).cells())
    execute_all(made)
    gone = {
        tuple(step.layers) for run in made for step in (run.plan() or pytest.fail()).steps if isinstance(step, Remove)
    }
    assert len(gone) > 1


def test_one_failing_cell_does_not_stop_the_others(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    compress = pipeline.compress

    def fail(bundle: Any, tokens: Any, method: str, **named: Any) -> Any:
        if method == "shortgpt":
            raise ComeError("It cannot be.", "Let it be.")
        return compress(bundle, tokens, method, **named)

    monkeypatch.setattr(pipeline, "compress", fail)
    cells = sweep(asked, methods=["shortgpt", "come", "random"], targets=[4], options={"come": {"windows": [[0, 9]]}})
    made = prepare(cells.cells())
    execute_all(made)
    assert [run.state().status for run in made] == ["failed", "failed", "done"]
    assert made[0].state().error == "It cannot be."
    assert made[1].state().error


@pytest.mark.slow
def test_the_same_sweep_again_does_what_is_left(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    cells = sweep(asked, methods=["come", "random"], targets=[4]).cells()
    first = prepare(cells)
    execute(first[0])
    again = prepare(cells)
    assert [run.id for run in again] == [run.id for run in first]
    done: list[str] = []
    execute_all(again, lambda event: done.append(event.stage))
    assert [run.state().status for run in again] == ["done", "done"]
    assert "load" in done and len(list_runs()) == 2


def test_a_sweep_of_nothing_is_refused(asked: Asked) -> None:
    for changes, words in (
        ({"methods": []}, "needs a method"),
        ({"targets": []}, "needs targets"),
        ({"sparsities": [0.1]}, "needs targets"),
        ({"seeds": []}, "needs a seed"),
        ({"methods": ["comet"]}, "no method 'comet'"),
    ):
        with pytest.raises(ComeError, match=words):
            sweep(asked, **changes).cells()
    with pytest.raises(ComeError, match="layers"):
        prepare(sweep(asked, targets=[99]).cells())
    assert list_runs() == []


@pytest.mark.slow
def test_every_seed_is_measured_on_its_own_text(asked: Asked) -> None:
    made = prepare(sweep(asked, methods=["shortgpt"], targets=[4], seeds=[0, 1]).cells())
    execute_all(made)
    alone = create(RunConfig(**{**made[1].config.model_dump(), "sweep": ""}))
    execute(alone)
    first, second, expected = (run.results()["history"][0]["block_influence"] for run in (*made, alone))
    assert second == expected != first


def once(act: Callable[[], None]) -> Callable[[Event], None]:
    acted: list[bool] = []

    def listen(event: Event) -> None:
        if event.stage == "compress" and not acted:
            acted.append(True)
            act()

    return listen


def test_cancelling_one_cell_leaves_the_others(asked: Asked) -> None:
    made = prepare(sweep(asked, methods=["come", "shortgpt", "random"], targets=[4]).cells())
    execute_all(made, once(lambda: [cancel(made[1]), (made[0].path / "cancel").touch()][0]))
    assert [run.state().status for run in made] == ["cancelled", "cancelled", "done"]


@pytest.mark.slow
def test_ctrl_c_ends_all_of_it(asked: Asked) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    made = prepare(sweep(asked, targets=[4]).cells())
    with pytest.raises(KeyboardInterrupt):
        execute_all(made, once(interrupt))
    assert [run.state().status for run in made] == ["cancelled"] * 3
    execute_all(made)
    assert [run.state().status for run in made] == ["done"] * 3


def test_a_sweep_runs_in_one_process_of_its_own(asked: Asked) -> None:
    made = prepare(sweep(asked, methods=["come", "random"], targets=[4]).cells())
    launch(*made)
    pids = {run.written_state().pid for run in made}
    assert len(pids) == 1 and os.getpid() not in pids
    until = time.monotonic() + 120
    while any(run.state().active for run in made) and time.monotonic() < until:
        time.sleep(0.2)
    assert [run.state().status for run in made] == ["done", "done"], made[0].log()


@pytest.mark.slow
def test_accuracy_and_speed_are_measured_where_asked(new_run: Create, tmp_path: Any) -> None:
    questions = tmp_path / "mine.jsonl"
    lines = [
        f'{{"question": "One and {i} make", "choices": ["{i + 1}.", "{i + 3}."], "answer": {i % 2}}}' for i in range(12)
    ]
    questions.write_text("\n".join(lines))
    run = new_run(evaluate=["ppl", "acc", "speed"], tasks=[str(questions)], task_limit=10, keep_model=False)
    execute(run)
    results = run.results()
    for which in ("original", "pruned"):
        assert results[which]["accuracy"]["mine.jsonl"]["items"] == 10
        assert results[which]["accuracy"]["mine.jsonl"]["chance"] == 0.5
        assert results[which]["speed"]["decode_tokens_per_second"] > 0
        assert results[which]["bits_per_byte"] > 0
    assert results["pruned"]["kl"] > 0
    assert "mean" in results["pruned"]["retention"]
    assert {"accuracy original", "accuracy pruned", "speed"} <= set(results["seconds"])
