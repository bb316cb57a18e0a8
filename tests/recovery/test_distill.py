"""Layer-wise distillation: what it learns, and that workers and kills leave no trace in the weights."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

import come
from come.errors import ComeError
from come.events import Event
from come.measurement.layer_runner import LayerRunner
from come.models import Bundle
from come.models.bundle import weights_hash
from come.recovery.recover import recover
from come.training.checkpoint import read_state
from come.training.layer_job import LayerJob, LayerOptions, calls_for, train_layer
from come.training.states import StateStore, advance, embed
from come.training.trainer import batch_of
from come.transforms.replace import replace_weights
from tests.recovery.pruned import TOKENS, merged, rebuilt, same_weights, without
from tests.tiny import CASES, tiny_bundle, tiny_tokens

QUICK: dict[str, Any] = {"steps": 6, "lr": 3e-3, "batch_tokens": 64, "check_every": 2, "precision": "float32"}


def test_overfitting_one_batch_drives_the_loss_down_a_hundredfold() -> None:
    teacher = tiny_bundle(layers=4)
    tokens = tiny_tokens(4, 8)
    tokens = torch.cat([tokens, tokens])  # what is held out is what is trained on
    runner = LayerRunner(teacher)
    for loss in ("kl", "mse", "cosine"):
        with StateStore(tokens, 32, torch.float32) as store:
            entering = embed(runner, tokens, store.new())
            leaving = advance(runner, tokens, entering, range(0, 2), store.new())
            options = LayerOptions(lr=1e-2, steps=200, batch_tokens=32, loss=loss, check_every=20, precision="float32")
            job = LayerJob(
                layer=0,
                module=teacher.layers[0],
                family=teacher.family,
                calls=calls_for(runner, 0, tokens, options),
                entering=entering,
                leaving=leaving,
                held_out=1,
                device=torch.device("cpu"),
                options=options,
                threads=1,
            )
            outcome = train_layer(job).outcome
        assert outcome.best_loss < outcome.start_loss / 100, (loss, outcome.describe())


@pytest.mark.parametrize("how", ["distill-mp", "distill-sp"])
@pytest.mark.parametrize("family", CASES)
def test_every_family_is_trained_and_rebuilt_bit_for_bit(family: str, how: str, tmp_path: Path) -> None:
    student, teacher = merged(family)
    before = weights_hash(student.model), weights_hash(teacher.model)
    result = recover(student, teacher, TOKENS, how, **QUICK)
    assert (weights_hash(student.model), weights_hash(teacher.model)) == before
    assert not same_weights(result.bundle, student)
    assert same_weights(rebuilt(teacher, result, tmp_path), result.bundle)
    merges = {str(layer) for layer, group in enumerate(student.plan.groups()) if len(group) > 1}
    trained = {name.removeprefix(f"{student.family.layers}.").split(".")[0] for name in result.plan.steps[-1].tensors}
    assert trained <= merges


@pytest.mark.parametrize("how", ["distill-mp", "distill-sp"])
def test_it_mends_perplexity_towards_the_teacher(how: str) -> None:
    student, teacher = merged()
    result = recover(student, teacher, TOKENS, how, loss="mse", **QUICK | {"steps": 60})
    with torch.no_grad():
        wanted, before, after = (each.model(TOKENS).logits for each in (teacher, student, result.bundle))
    assert (after - wanted).norm() < 0.9 * (before - wanted).norm()


class Killed(Exception):
    pass


@pytest.mark.slow
def test_two_workers_give_the_weights_of_one_even_if_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = ModuleType("__main__")  # what the processes must not run: they are nobody's script
    script.__file__ = str(tmp_path / "script.py")
    (tmp_path / "script.py").write_text("raise SystemExit('run again')")
    monkeypatch.setitem(sys.modules, "__main__", script)
    student, teacher = merged(target=3)
    assert sum(len(group) > 1 for group in student.plan.groups()) > 1
    layers = [layer for layer, group in enumerate(student.plan.groups()) if len(group) > 1]
    quick = QUICK | {"steps": 200, "precision": "bfloat16", "threads": 1, "checkpoint_minutes": 0}
    events: list[Event] = []

    def kill(event: Event) -> None:
        events.append(event)
        if event.values.get("step", 0) >= 2:
            raise Killed

    kept = tmp_path / "kept"
    with pytest.raises(Killed):
        recover(student, teacher, TOKENS, "distill-mp", workers=2, on_progress=kill, checkpoint=kept, **quick)
    states = {file.name: state[1] for file in kept.glob("*layer*") if (state := read_state(file)) is not None}
    assert any(not state["finished"] for state in states.values()), "the test is to kill layers on their way"
    # One that was through before anybody looked is not told of again.
    through = {layer for layer in layers if states.get(f"1-layer-{layer}.safetensors", {}).get("finished")}
    two = recover(
        student, teacher, TOKENS, "distill-mp", workers=2, on_progress=events.append, checkpoint=kept, **quick
    )
    one = recover(student, teacher, TOKENS, "distill-mp", workers=1, **quick)
    assert same_weights(one.bundle, two.bundle)
    assert one.plan.steps == two.plan.steps
    points = [event.values for event in events if "train_loss" in event.values]
    assert {(point["layer"], point["step"]) for point in points} >= {(layer, 200) for layer in {*layers} - through}
    assert all({"held_out_loss", "lr"} <= set(point) for point in points)


@pytest.mark.parametrize("output", ["layer", "model"])
@pytest.mark.parametrize("how", ["distill-mp", "distill-sp", ["refit", "distill-sp", "logits"]])
@pytest.mark.parametrize("at", [3, 9, 15])
def test_killed_and_resumed_is_as_if_never_killed(how: Any, at: int, output: str, tmp_path: Path) -> None:
    student, teacher = merged(target=3)
    quick = QUICK | {"checkpoint_minutes": 0}
    if how == "distill-mp" and output == "model":
        pytest.skip("only the bottom-up way goes by what leaves the model")
    if how != "distill-mp":
        quick["output"] = output
    expected = recover(student, teacher, TOKENS, how, **quick)
    seen: list[Event] = []

    def kill(event: Event) -> None:
        if "train_loss" in event.values:
            seen.append(event)
        if len(seen) == at:
            raise Killed

    with pytest.raises(Killed):
        recover(student, teacher, TOKENS, how, checkpoint=tmp_path / "kept", on_progress=kill, **quick)
    first = len(seen)
    resumed = recover(student, teacher, TOKENS, how, checkpoint=tmp_path / "kept", on_progress=seen.append, **quick)
    assert len([event for event in seen[first:] if "train_loss" in event.values]) > 0
    assert same_weights(resumed.bundle, expected.bundle)
    assert resumed.plan.notes == expected.plan.notes
    with pytest.raises(ComeError, match="another request"):
        recover(student, teacher, TOKENS, how, checkpoint=tmp_path / "kept", **quick | {"seed": 1})


def test_low_rank_additions_are_folded_in(tmp_path: Path) -> None:
    student, teacher = merged("gpt2")
    result = recover(student, teacher, TOKENS, "distill-mp", rank=2, **QUICK)
    names = set(result.plan.steps[-1].tensors)
    assert names
    assert all(name.endswith("weight") and "ln" not in name for name in names)
    for name in names:
        change = result.bundle.model.get_parameter(name) - student.model.get_parameter(name)
        assert torch.linalg.matrix_rank(change.detach(), rtol=1e-3) <= 2
    assert same_weights(rebuilt(teacher, result, tmp_path), result.bundle)


@pytest.mark.parametrize("budget", [0, 1 << 30])
@pytest.mark.parametrize("how", ["distill-mp", "distill-sp"])
def test_any_memory_budget_gives_the_same(how: str, budget: int) -> None:
    student, teacher = merged()
    one, other = (recover(student, teacher, TOKENS, how, memory_budget=each, **QUICK) for each in (None, budget))
    assert same_weights(one.bundle, other.bundle)


def test_a_rate_that_diverges_is_noted_and_the_start_kept() -> None:
    student, teacher = merged()
    result = recover(student, teacher, TOKENS, "distill-mp", **QUICK | {"lr": 1e3})
    assert same_weights(result.bundle, student)
    assert any("diverged" in note for note in result.plan.notes)


def by_predictions(student: Bundle, teacher: Bundle, tokens: Tensor) -> float:
    """KL(teacher || student) a token, by the models themselves."""
    with torch.no_grad():
        wanted, made = (each.model(tokens).logits.float().log_softmax(-1) for each in (teacher, student))
    return float((wanted.exp() * (wanted - made)).sum(-1).mean())


def test_bottom_up_on_what_leaves_the_model_has_the_loss_of_the_models_themselves(tmp_path: Path) -> None:
    student, teacher = merged(target=3)
    layers = [layer for layer, group in enumerate(student.plan.groups()) if len(group) > 1]
    assert len(layers) > 1
    points: list[dict[str, Any]] = []

    def keep(event: Event) -> None:
        if "train_loss" in event.values:
            points.append(event.values)

    asked = {"output": "model", "on_progress": keep, **QUICK}
    result = recover(student, teacher, TOKENS, "distill-sp", checkpoint=tmp_path, **asked)
    first = {layer: next(point for point in points if point["layer"] == layer) for layer in layers}
    batch = TOKENS[batch_of(0, 4, 21, seed=0)]
    assert first[layers[0]]["train_loss"] == pytest.approx(by_predictions(student, teacher, batch), rel=1e-4)
    # The next one is trained above the layer that is recovered by then, and in a model that has it.
    prefix = f"{student.family.layers}.{layers[0]}."
    new = {name: value for name, value in dict(result.bundle.model.named_parameters()).items() if prefix in name}
    below = replace_weights(student, new)
    assert first[layers[1]]["train_loss"] == pytest.approx(by_predictions(below, teacher, batch), rel=1e-4)
    assert by_predictions(result.bundle, teacher, TOKENS) < by_predictions(below, teacher, TOKENS)
    assert by_predictions(below, teacher, TOKENS) < by_predictions(student, teacher, TOKENS)
    changed = {int(name.split(".")[2]) for name in result.plan.steps[-1].tensors}
    assert layers[0] in changed and changed <= set(layers)


@pytest.mark.parametrize("family", CASES)
def test_every_family_is_trained_on_what_leaves_the_model(family: str, tmp_path: Path) -> None:
    student, teacher = merged(family)
    before = weights_hash(student.model), weights_hash(teacher.model)
    result = recover(student, teacher, TOKENS, "distill-sp", output="model", **QUICK)
    assert (weights_hash(student.model), weights_hash(teacher.model)) == before
    assert by_predictions(result.bundle, teacher, TOKENS) < by_predictions(student, teacher, TOKENS)
    assert same_weights(rebuilt(teacher, result, tmp_path), result.bundle)


def test_low_rank_additions_do_not_go_by_what_leaves_the_model() -> None:
    student, teacher = merged()
    with pytest.raises(ComeError, match="Low-rank additions are trained on what leaves the layer"):
        recover(student, teacher, TOKENS, "distill-sp", output="model", rank=2)


def test_removed_layers_are_made_up_for() -> None:
    teacher = tiny_bundle()
    student = without(teacher, 3)
    result = recover(student, teacher, TOKENS, "distill-sp", **QUICK)
    assert {name.split(".")[2] for name in result.plan.steps[-1].tensors} == {"2"}
    assert come.perplexity(result.bundle, TOKENS) != come.perplexity(student, TOKENS)


def test_it_stops_early_when_told() -> None:
    student, teacher = merged()
    result = recover(student, teacher, TOKENS, "distill-mp", stop=lambda: True, **QUICK)
    assert same_weights(result.bundle, student)
    assert all("stopped early" in note for note in result.plan.notes if "distill-mp" in note)


@pytest.mark.parametrize(
    ("values", "words"), [({"loss": "mae"}, "loss of distill-mp"), ({"rank": 0}, "rank"), ({"workers": 0}, "workers")]
)
def test_options_that_make_no_sense(values: dict[str, Any], words: str) -> None:
    student, teacher = merged()
    with pytest.raises(ComeError, match=words):
        recover(student, teacher, TOKENS, "distill-mp", **values)
