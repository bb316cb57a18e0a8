"""Removals with a refit of the layer beside each gap: what it solves, every family, resumed and rebuilt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import come
from come.measurement.hidden_state_cache import HiddenStateCache
from come.measurement.layer_runner import LayerRunner
from come.models import Bundle
from come.models.bundle import weights_hash
from come.plan.plan import Plan
from come.plan.steps import Remove, Replace
from come.pruning.forecast import Known
from come.pruning.methods.random import chosen
from come.pruning.methods.skip import between
from come.pruning.methods.sleb import losses_without
from come.pruning.options import RemovalOptions
from come.pruning.registry import methods
from come.pruning.removal import beside, neighbours
from come.pruning.schedule import Calibration
from come.transforms.rebuild import apply_step, replay
from tests.tiny import CASES, tiny_bundle, tiny_folder, tiny_tokens

TOKENS = tiny_tokens(40, 16)
HELD_OUT = TOKENS[-5:]
REMOVALS = sorted(name for name, method in methods().items() if issubclass(method.options, RemovalOptions))
SPREAD = {"magnitude": {"plus": False}, "taylor": {"plus": False}, "random": {"seed": 1}}


def written(plan: Plan, folder: Path) -> Plan:
    """A plan as it is read back from a folder, with its weights."""
    plan.write(folder / "plan.json")
    return Plan.read(folder / "plan.json")


def test_all_methods_that_remove_layers_have_it_and_leave_it_off() -> None:
    assert REMOVALS == ["deeper", "inheritune", "magnitude", "random", "reverse", "shortgpt", "skip", "sleb", "taylor"]
    assert not any(methods()[name].defaults()["refit"] for name in REMOVALS)


@pytest.mark.parametrize("name", REMOVALS)
def test_it_comes_nearer_rebuilds_and_resumes(name: str, tmp_path: Path) -> None:
    bundle, options = tiny_bundle(layers=8), {"refit": True, **SPREAD.get(name, {})}
    before = weights_hash(bundle.model)
    plans: list[Plan] = []
    result = come.compress(bundle, TOKENS, name, target_layers=5, on_step=plans.append, **options)
    plain = come.compress(bundle, TOKENS, name, target_layers=5, **SPREAD.get(name, {}))
    assert weights_hash(bundle.model) == before
    assert len(result.bundle.layers) == 5
    assert len(result.history) == 3
    assert all(record.refit and record.refit[1] <= record.refit[0] for record in result.history)
    assert any(isinstance(step, Replace) and step.made_by == "refit" for step in result.plan.steps)
    assert all(len(neighbours(step.layers)) == 1 for step in result.plan.steps if isinstance(step, Remove))
    if name != "sleb":  # whose later choices see the refitted model
        assert result.plan.groups() == plain.plan.groups()
    assert weights_hash(replay(bundle, written(result.plan, tmp_path)).model) == weights_hash(result.bundle.model)
    for number, plan in enumerate(plans):
        (tmp_path / str(number)).mkdir()
        again = come.compress(
            bundle, TOKENS, name, target_layers=5, done=written(plan, tmp_path / str(number)), **options
        )
        assert again.plan == result.plan
        assert weights_hash(again.bundle.model) == weights_hash(result.bundle.model)


@pytest.mark.parametrize("family", CASES)
def test_the_layer_beside_the_gap_gives_what_both_gave(family: str) -> None:
    """On the held-out tokens, measured once more by hand: the error falls, and is the one that is told."""
    bundle = tiny_bundle(family, layers=7)
    result = come.compress(bundle, TOKENS, "reverse", target_layers=4, keep_last=1, refit=True)
    told = result.history[0].refit
    plain = apply_step(bundle, result.plan.steps[0])
    assert told is not None
    assert errors(bundle, plain, result.bundle, (2, 5)) == pytest.approx(told, rel=2e-3)
    assert told[1] <= told[0]


@pytest.mark.parametrize("family", CASES)
def test_without_a_layer_below_the_one_above_is_refitted(family: str) -> None:
    seed = next(seed for seed in range(100) if chosen(6, 5, seed) == [0])
    bundle = tiny_bundle(family, layers=6)
    result = come.compress(bundle, TOKENS, "random", target_layers=5, seed=seed, refit=True)
    told = result.history[0].refit
    assert told is not None
    plain = apply_step(bundle, Remove(layers=[0]))
    assert errors(bundle, plain, result.bundle, (0, 1)) == pytest.approx(told, rel=2e-3)
    (replaced,) = [step for step in result.plan.steps if isinstance(step, Replace)] or [None]
    prefix = f"{bundle.family.layers}.0.{bundle.family.ffn_output}."
    assert replaced is None or all(name.startswith(prefix) for name in replaced.tensors)


def errors(original: Bundle, plain: Bundle, refitted: Bundle, window: tuple[int, int]) -> tuple[float, float]:
    """Before and after: sum of ||target - output||^2 / ||target|| on the held-out tokens, by that of the targets."""
    first, last = window
    wanted = running(original, HELD_OUT, range(first, last + 1), entering(original, first))
    found = []
    for model in (plain, refitted):
        given = running(model, HELD_OUT, range(first, first + 1), entering(original, first))
        weight = 1 / wanted.norm(dim=-1)
        error = (weight * (wanted - given).square().sum(-1)).sum() / (weight * wanted.square().sum(-1)).sum()
        found.append(float(error))
    return found[0], found[1]


@torch.no_grad()
def running(bundle: Bundle, tokens: Tensor, layers: range, states: Tensor) -> Tensor:
    """What leaves the last of some layers."""
    runner = LayerRunner(bundle)
    runner.enter(tokens)
    for layer in layers:
        states = runner.run(layer, states)
    return states


@torch.no_grad()
def entering(bundle: Bundle, layer: int) -> Tensor:
    """What enters a layer for the last eighth of the sequences, those that are held out."""
    return running(bundle, HELD_OUT, range(layer), LayerRunner(bundle).enter(HELD_OUT))


def silent(bundle: Bundle, *layers: int) -> Bundle:
    """The model with layers that add nothing to the hidden states."""
    family = bundle.family
    with torch.no_grad():
        for layer in layers:
            for path in (family.attention_output, family.ffn_output):
                for parameter in bundle.layers[layer].get_submodule(path).parameters():
                    parameter.zero_()
    return bundle


@pytest.mark.parametrize("name", ["shortgpt", "deeper"])
def test_a_layer_that_adds_nothing_goes_without_a_trace(name: str) -> None:
    bundle = silent(tiny_bundle(layers=6), 3)
    result = come.compress(bundle, TOKENS, name, target_layers=5, refit=True)
    plain = come.compress(bundle, TOKENS, name, target_layers=5)
    assert result.plan.steps == [Remove(layers=[3])]
    assert result.history[0].refit == (0, 0)
    assert weights_hash(result.bundle.model) == weights_hash(plain.bundle.model)


def test_each_choice_of_sleb_sees_the_refitted_model() -> None:
    bundle = tiny_bundle(layers=7)
    plans: list[Plan] = []
    result = come.compress(bundle, TOKENS, "sleb", target_layers=4, refit=True, on_step=plans.append)
    for before, record in zip([result.plan.model_copy(update={"steps": []}), *plans], result.history, strict=False):
        model = replay(bundle, before)
        cache = HiddenStateCache.of(model, TOKENS, 0)
        assert int(losses_without(model, TOKENS, cache).argmin()) == record.window[0]


@pytest.mark.parametrize("name", ["sleb", "taylor"])
def test_any_memory_budget_gives_the_same_weights(name: str) -> None:
    bundle, options = tiny_bundle(layers=8), {"refit": True, **SPREAD.get(name, {})}
    one = TOKENS.numel() * 32 * 4
    found = [
        come.compress(bundle, TOKENS, name, target_layers=5, memory_budget=budget, batch_size=4, **options)
        for budget in (None, 0, 2 * one)
    ]
    assert len({weights_hash(each.bundle.model) for each in found}) == 1


def test_blocks_and_the_layers_beside_them() -> None:
    assert neighbours([0, 2, 3, 7]) == [[0], [2, 3], [7]]
    assert neighbours([]) == []
    assert [beside(block) for block in ([0, 1], [2, 3], [7])] == [(0, 2), (1, 3), (6, 7)]


def test_the_work_counts_a_refit_for_each_gap(tmp_path: Path) -> None:
    facts = come.describe(str(tiny_folder(tmp_path, layers=8)))
    known, tokens = Known(facts, 5), Calibration(4096, 512)

    def refits(name: str, **options: Any) -> int:
        method = methods()[name]
        plain = method.schedule(known, method.parse(options), tokens)
        assert plain.refits == 0
        counted = method.schedule(known, method.parse({**options, "refit": True}), tokens)
        assert counted.refit_layers > 0 or name == "sleb"
        return counted.refits

    assert refits("reverse") == refits("inheritune") == refits("deeper") == 1
    assert refits("skip") == len(neighbours(sorted(between(8, 5)))) > 1
    assert refits("sleb") == refits("shortgpt") == 3
