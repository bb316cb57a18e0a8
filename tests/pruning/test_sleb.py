"""SLEB: the same removals as by scoring whole models, for the work of the layers above each removal."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import come
from come.measurement.hidden_state_cache import HiddenStateCache
from come.measurement.layer_runner import LayerRunner
from come.models import Bundle
from come.plan.steps import Remove
from come.pruning.methods import sleb
from come.pruning.methods.sleb import losses_without
from come.transforms.rebuild import apply_step
from tests.tiny import CASES, tiny_bundle, tiny_tokens

TOKENS = tiny_tokens(6, 16)


def loss(bundle: Bundle) -> float:
    """The mean loss over the calibration tokens, by the model's own forward."""
    with torch.inference_mode():
        logits = bundle.model(TOKENS, use_cache=False).logits.float()
    return float(torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), TOKENS[:, 1:].flatten()))


def removals(bundle: Bundle, target: int) -> list[Remove]:
    """What goes when a whole model is scored for every candidate."""
    steps = []
    while len(bundle.layers) > target:
        candidates = [Remove(layers=[layer]) for layer in range(len(bundle.layers))]
        steps.append(min(candidates, key=lambda step: loss(apply_step(bundle, step))))
        bundle = apply_step(bundle, steps[-1])
    return steps


@pytest.mark.parametrize("family", CASES)
def test_it_removes_what_scoring_whole_models_would(family: str) -> None:
    bundle = tiny_bundle(family)
    result = come.compress(bundle, TOKENS, "sleb", target_layers=3, batch_size=4)
    assert result.plan.steps == removals(bundle, 3)


@pytest.mark.parametrize("family", CASES)
def test_the_losses_are_those_of_the_smaller_models(family: str) -> None:
    bundle = tiny_bundle(family)
    expected = [loss(apply_step(bundle, Remove(layers=[layer]))) for layer in range(6)]
    found = losses_without(bundle, TOKENS, HiddenStateCache(6, 32, TOKENS.numel(), 4, 0), batch_size=4)
    assert found.tolist() == pytest.approx(expected, rel=1e-5)


def test_only_layers_above_a_removal_are_run(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[int] = []
    run = LayerRunner.run

    def counting(self: LayerRunner, layer: int, *args: Any) -> Any:
        ran.append(layer)
        return run(self, layer, *args)

    monkeypatch.setattr(LayerRunner, "run", counting)
    bundle, counts = tiny_bundle(layers=8), [0]
    result = come.compress(
        bundle, TOKENS, "sleb", target_layers=5, batch_size=6, on_step=lambda _: counts.append(len(ran))
    )
    above, first = 8, 0  # how many layers there are, and the lowest border that is not known yet
    for record, before, after in zip(result.history, counts, counts[1:], strict=False):
        candidates = above * (above - 1) // 2
        assert after - before == candidates + (above - first)
        above, first = above - 1, min(record.window[0], above - 2)


@pytest.mark.parametrize("budget", [0, 6 * 16 * 32 * 4, 3 * 6 * 16 * 32 * 4])
def test_any_memory_budget_gives_the_same_removals(budget: int) -> None:
    bundle = tiny_bundle(layers=8)
    results = [
        come.compress(bundle, TOKENS, "sleb", target_layers=4, memory_budget=each, batch_size=4)
        for each in (budget, None)
    ]
    assert results[0].plan.steps == results[1].plan.steps


def test_a_candidate_that_overflows_is_not_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = tiny_bundle()
    best = removals(bundle, 5)[0].layers[0]
    scored = sleb.suffix_losses

    def overflowing(runner: LayerRunner, states: Tensor, tokens: Tensor, layers: range) -> Tensor:
        losses = scored(runner, states, tokens, layers)
        return losses.fill_(torch.nan) if layers.start == best + 1 else losses

    monkeypatch.setattr(sleb, "suffix_losses", overflowing)
    left = [layer for layer in range(6) if layer != best]
    second = min(left, key=lambda layer: loss(apply_step(bundle, Remove(layers=[layer]))))
    result = come.compress(bundle, TOKENS, "sleb", target_layers=5)
    assert result.plan.steps == [Remove(layers=[second])]


def test_progress_only_ever_grows_to_the_end() -> None:
    steps: list[int] = []
    come.compress(tiny_bundle(), TOKENS, "sleb", target_layers=4, on_progress=lambda event: steps.append(event.step))
    assert steps == sorted(steps)
    assert steps[-1] == 1000
