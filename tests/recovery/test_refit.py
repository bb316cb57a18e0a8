"""Refit: the closed form, what it must never do, and every family."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import come
from come.measurement.calibrate import calibrate
from come.measurement.hidden_state_cache import HiddenStateCache
from come.measurement.layer_runner import LayerRunner
from come.measurement.statistics import empty_statistics
from come.models.bundle import weights_hash
from come.recovery.recover import recover
from come.transforms.mask import mask
from come.transforms.normal_equations import StateBatches
from come.transforms.rebuild import apply_step, with_plan
from come.transforms.refit import RefitRules, refit_layer, refit_merge
from come.transforms.ridge import best_strength, empty_sums, solve
from tests.recovery.pruned import TOKENS, merged, rebuilt, same_weights, without
from tests.tiny import CASES, tiny_bundle, tiny_tokens


def test_the_solution_is_least_squares() -> None:
    generator = torch.Generator().manual_seed(0)
    inputs, lacking = torch.randn(50, 7, generator=generator), torch.randn(50, 3, generator=generator)
    weight = torch.rand(50, generator=generator)
    sums = empty_sums(7, 3)
    for rows in (slice(0, 20), slice(20, 50)):
        sums.add(inputs[rows], lacking[rows], weight[rows])
    root = weight.sqrt()[:, None].double().numpy()
    expected = np.linalg.lstsq(root * inputs.numpy(), root * lacking.numpy(), rcond=None)[0]
    found = solve(sums, 1e-12)
    assert found is not None
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4, atol=1e-6)

    ridge = 0.3 * float(sums.gram.diagonal().mean())
    stacked = np.vstack([root * inputs.numpy(), np.sqrt(ridge) * np.eye(7)])
    expected = np.linalg.lstsq(stacked, np.vstack([root * lacking.numpy(), np.zeros((7, 3))]), rcond=None)[0]
    found = solve(sums, 0.3)
    assert found is not None
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4, atol=1e-6)
    residual = root * (lacking.numpy() - inputs.numpy() @ expected)
    gained = ((root * lacking.numpy()) ** 2).sum() - (residual**2).sum()
    assert sums.gain(found) == pytest.approx(gained, rel=1e-4)


@pytest.mark.parametrize(("channels", "outputs"), [(40, 8), (60, 150)])
@pytest.mark.parametrize("noise", [0.01, 1.0, 10.0])
def test_the_strength_is_the_one_that_does_most_for_the_held_out_tokens(
    channels: int, outputs: int, noise: float
) -> None:
    """Also where strengths are compared on mixtures of the outputs: in full and in float64, none does better."""
    generator = torch.Generator().manual_seed(1)
    truth = torch.randn(channels, outputs, generator=generator)
    fit, held_out = (empty_sums(channels, outputs) for _ in range(2))
    for sums, tokens in ((fit, 90), (held_out, 30)):
        inputs = torch.randn(tokens, channels, generator=generator) * torch.logspace(-2, 1, channels)
        lacking = inputs @ truth + noise * torch.randn(tokens, outputs, generator=generator)
        sums.add(inputs, lacking, torch.rand(tokens, generator=generator))
    strengths = (1e-9, 1e-3, 1e-1, 10.0)
    gram = held_out.gram.triu() + held_out.gram.triu(1).T
    gains = {}
    for strength in strengths:
        change = solve(fit, strength)
        assert change is not None
        gains[strength] = float(2 * (change * held_out.cross).sum() - (change * (gram @ change)).sum())
        assert held_out.gain(change) == pytest.approx(gains[strength], rel=1e-3)
    found = best_strength(fit, held_out, strengths)
    assert found is not None
    assert gains[found] >= 0.98 * max(gains.values())


def test_no_strength_helps_where_held_out_tokens_say_otherwise() -> None:
    generator = torch.Generator().manual_seed(2)
    fit, held_out = empty_sums(6, 3), empty_sums(6, 3)
    inputs = torch.randn(40, 6, generator=generator)
    lacking = inputs @ torch.randn(6, 3, generator=generator)
    fit.add(inputs, lacking, torch.ones(40))
    held_out.add(inputs, -lacking, torch.ones(40))
    assert best_strength(fit, held_out, (1e-3, 1e-2)) is None


def test_singular_sums_have_no_solution() -> None:
    assert solve(empty_sums(4, 2), 0.1) is None


def held_out_error(runner: LayerRunner, layer: int, states: StateBatches) -> float:
    error = whole = 0.0
    with torch.no_grad():
        for entering, wanted, fitted in states():
            target, left = wanted[fitted:].double(), runner.run(layer, entering)[fitted:].double()
            norms = target.norm(dim=-1)
            error += float(((target - left).square().sum(-1) / norms).sum())
            whole += float(norms.sum())
    return error / whole


@pytest.mark.parametrize("maps", ["ffn", "both"])
@pytest.mark.parametrize("family", CASES)
def test_a_refit_never_raises_the_held_out_error(family: str, maps: str) -> None:
    student, teacher = merged(family)
    before = weights_hash(student.model), weights_hash(teacher.model)
    runner, original = LayerRunner(student), LayerRunner(teacher)
    layer = next(index for index, group in enumerate(student.plan.groups()) if len(group) > 1)
    first, *_, last = student.plan.groups()[layer]

    def states() -> Iterator[tuple[Tensor, Tensor, int]]:
        for rows, fitted in ((slice(0, 15), 15), (slice(15, 24), 5)):
            with torch.no_grad():
                hidden_states = runner.enter(TOKENS[rows])
                for below in range(layer):
                    hidden_states = runner.run(below, hidden_states)
                wanted = original.enter(TOKENS[rows])
                wanted = hidden_states
                for above in range(first, last + 1):
                    wanted = original.run(above, wanted)
            yield hidden_states, wanted, fitted

    rules = RefitRules(maps=maps)  # type: ignore[arg-type]
    found = refit_layer(runner, layer, states, rules)
    assert found.after <= found.before
    assert found.after < found.before, "on this data there is always something to gain"
    assert found.after == pytest.approx(held_out_error(runner, layer, states), rel=1e-3), "as a run of the layer shows"
    assert (weights_hash(student.model), weights_hash(teacher.model)) == before


@pytest.mark.parametrize("family", CASES)
def test_every_family_is_refitted_and_rebuilt_bit_for_bit(family: str, tmp_path: Path) -> None:
    student, teacher = merged(family, dtype=torch.bfloat16)
    before = weights_hash(student.model), weights_hash(teacher.model)
    result = recover(student, teacher, TOKENS, "refit")
    assert (weights_hash(student.model), weights_hash(teacher.model)) == before
    assert not same_weights(result.bundle, student)
    assert result.bundle.dtype == torch.bfloat16
    assert result.plan.steps[:-1] == student.plan.steps
    assert set(result.plan.steps[-1].tensors) <= set(dict(student.model.named_parameters()))
    assert same_weights(rebuilt(teacher, result, tmp_path), result.bundle)


@pytest.mark.parametrize("target", ["student", "teacher"])
@pytest.mark.parametrize("family", ["llama", "gpt2", "opt", "granite", "falcon", "cohere", "gemma2", "olmo2", "glm4"])
def test_a_map_that_was_changed_is_found_again(family: str, target: str) -> None:
    """Where the window's output is within reach of the map, the refit reaches it, biases too."""
    teacher = tiny_bundle(family)
    student = without(teacher, 3)
    layer = teacher.layers[3]
    with torch.no_grad():  # the removed layer adds a constant, the one below another map of its channels
        for path in (teacher.family.attention_output, teacher.family.ffn_output):
            layer.get_submodule(path).weight.zero_()
            if layer.get_submodule(path).bias is not None:
                layer.get_submodule(path).bias.zero_()
    student = without(teacher, 3)
    path = teacher.family.ffn_output
    linear = student.layers[2].get_submodule(path)
    wanted = linear.weight.detach().clone()
    generator = torch.Generator().manual_seed(3)
    spoiled = nn.Parameter(wanted + 0.05 * torch.randn(wanted.shape, generator=generator))
    linear.weight = spoiled
    tokens = tiny_tokens(40, 16)
    result = recover(student, teacher, tokens, "refit", target=target, strengths=(1e-9,), token_weight="none")
    found = result.bundle.layers[2].get_submodule(path).weight
    # Through a norm after the sub-layer the closed form is a first step: it takes the norm's scale as it is.
    still = 0.02 if teacher.family.ffn_post_norm is None else 0.35
    assert (found - wanted).abs().max() < still * (spoiled - wanted).abs().max()


def test_nothing_lost_changes_no_bit() -> None:
    teacher = tiny_bundle()
    with torch.no_grad():
        for path in ("self_attn.o_proj", "mlp.down_proj"):
            teacher.layers[3].get_submodule(path).weight.zero_()
    student = without(teacher, 3)
    result = recover(student, teacher, TOKENS, "refit", maps="both")
    assert same_weights(result.bundle, student)
    assert result.plan.steps == student.plan.steps
    assert any("left as it was" in note for note in result.plan.notes)


@pytest.mark.parametrize("gone", [(0, 1), (3, 4), (5,)])
def test_removed_layers_are_answered_for(gone: tuple[int, ...]) -> None:
    teacher = tiny_bundle()
    student = without(teacher, *gone)
    result = recover(student, teacher, TOKENS, "refit")
    answering = {0: 0, 3: 2, 5: 4}[gone[0]]
    assert {name.split(".")[2] for name in result.plan.steps[-1].tensors} == {str(answering)}


@pytest.mark.parametrize("budget", [0, 1 << 30])
def test_any_memory_budget_gives_the_same(budget: int) -> None:
    student, teacher = merged()
    one, other = (recover(student, teacher, TOKENS, "refit", memory_budget=each) for each in (None, budget))
    assert same_weights(one.bundle, other.bundle)


def test_of_many_tokens_only_the_last_are_solved_on() -> None:
    student, teacher = merged()
    last = TOKENS[-4:]
    one = recover(student, teacher, TOKENS, "refit", most_tokens=last.numel() + 1)
    assert same_weights(one.bundle, recover(student, teacher, last, "refit").bundle)
    assert not same_weights(one.bundle, recover(student, teacher, TOKENS, "refit").bundle)


def test_silenced_units_stay_silent() -> None:
    teacher = tiny_bundle()
    plan = without(teacher, 5).plan.model_copy(update={"steps": []})
    step = mask(teacher, {2: [0, 1]}, {2: list(range(20)), 4: list(range(48))})
    student = with_plan(apply_step(teacher, step), plan.with_step(step))
    for how in ("refit", "distill-mp", "logits", "lora"):
        result = recover(student, teacher, TOKENS, how, **({} if how == "refit" else {"steps": 3, "lr": 1e-3}))
        assert result.plan.steps != student.plan.steps, how
        recovered = result.bundle.layers
        assert not recovered[2].mlp.down_proj.weight[:, :20].any(), how
        assert not recovered[4].mlp.down_proj.weight.any(), how
        width = recovered[2].self_attn.o_proj.weight.shape[1] // 2
        assert not recovered[2].self_attn.o_proj.weight[:, :width].any(), how


def test_a_refit_within_the_loop_is_the_one_after_it() -> None:
    """The first merge, refitted from the loop's own borders, equals a refit of the finished model."""
    teacher = tiny_bundle()
    student = come.compress(teacher, TOKENS, target_layers=5).bundle
    (step,) = student.plan.steps
    runner = LayerRunner(teacher)
    borders = HiddenStateCache(6, 32, TOKENS.numel(), 4, budget=1 << 30)
    calibrate(runner, TOKENS, empty_statistics(teacher, TOKENS, [2]), batch_size=5, borders=borders)
    found = [
        refit_merge(teacher, student, step.window, TOKENS, RefitRules(), held_out=3, borders=each, batch_size=5)
        for each in (borders, None)
    ]
    after = recover(student, teacher, TOKENS, "refit", batch_size=5)
    prefix = f"model.layers.{step.window[0]}."
    for name, value in found[0].tensors.items():
        assert torch.equal(value, found[1].tensors[name])
        torch.testing.assert_close(value, after.bundle.model.get_parameter(prefix + name), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("passes", [None, 2, 1])
def test_a_refit_runs_each_new_layer_once(passes: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside the plain loop: the new layer; what lies between the windows of one pass; what no border gives."""
    teacher = tiny_bundle(layers=8)
    ran = _layer_runs(monkeypatch)
    options: dict[str, Any] = {} if passes is None else {"passes": passes}
    windows = [
        record.window
        for record in come.compress(teacher, TOKENS, target_layers=5, batch_size=5, refit=True, **options).history
    ]
    found, expected, layers, start = ran[0], 0, 8, 0
    at_once = {None: 1, 2: 2, 1: 3}[passes]
    for number, (first, last) in enumerate(windows):
        new_pass = number % at_once == 0
        if new_pass:
            expected += layers - start  # the measuring pass
            start, reached = first, first
        expected += first - reached  # between windows
        expected += 2 if not new_pass or last + 1 == layers else 0  # the window, for what it gave
        expected += 1  # the new layer
        layers, reached = layers - 1, first
    assert found == expected * len(TOKENS)


def test_windows_by_hand_are_refitted_without_starting_over(monkeypatch: pytest.MonkeyPatch) -> None:
    teacher = tiny_bundle(layers=8)
    ran = _layer_runs(monkeypatch)
    result = come.compress(teacher, TOKENS, windows=[(1, 2), (5, 6)], batch_size=5, refit=True)
    assert [record.refit is not None for record in result.history] == [True, True]
    # All layers to measure; layer 0, the window, the new layer; from there to layer 3, the window, the new layer.
    assert ran[0] == (8 + (1 + 2 + 1) + (3 + 2 + 1)) * len(TOKENS)


def _layer_runs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Counts, from now on, how many sequences go through layers."""
    ran, run = [0], LayerRunner.run

    def counted(runner: LayerRunner, layer: int, hidden_states: Tensor, module: nn.Module | None = None) -> Tensor:
        ran[0] += len(hidden_states)
        return run(runner, layer, hidden_states, module)

    monkeypatch.setattr(LayerRunner, "run", counted)
    return ran
