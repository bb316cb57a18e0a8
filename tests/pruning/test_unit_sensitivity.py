"""Units ranked by Fisher information: against autograd through whole models, on the model as it is at each step."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import come
from come.measurement.calibrate import calibrate
from come.measurement.hidden_state_cache import HiddenStateCache
from come.measurement.layer_runner import LayerRunner
from come.measurement.statistics import empty_statistics
from come.models import Bundle
from come.models.bundle import weights_hash
from come.plan.steps import Concatenate
from come.pruning.allocate import concatenation
from come.pruning.unit_sensitivity import by_fisher
from come.transforms.rebuild import apply_step, replay
from tests.pruning.test_fisher import whole_model_gradients
from tests.tiny import CASES, tiny_bundle, tiny_tokens

TOKENS = tiny_tokens(6, 16)


def fisher(bundle: Bundle, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """The mean squared gradients, of KV groups, (layers, kv_heads), and of FFN channels, (layers, channels)."""
    each = [whole_model_gradients(bundle, sequence) for sequence in tokens]
    kv_groups, channels = (torch.stack(kind).square().mean(0) for kind in zip(*each, strict=True))
    return kv_groups, channels


@pytest.mark.parametrize("family", CASES)
def test_it_is_the_mean_squared_gradient_of_whole_models(family: str) -> None:
    bundle = tiny_bundle(family)
    kv_groups, channels = fisher(bundle, TOKENS)
    units = by_fisher(bundle, TOKENS, batch_size=4)
    for layer in range(6):
        torch.testing.assert_close(units(layer)[0], kv_groups[layer], rtol=5e-3, atol=1e-9)
        torch.testing.assert_close(units(layer)[1], channels[layer], rtol=5e-3, atol=1e-9)


@pytest.mark.parametrize("budget", [0, None])
def test_from_a_layer_on_and_from_what_a_pass_kept_it_has_the_same_bits(budget: int | None) -> None:
    bundle = tiny_bundle("qwen3")
    borders = HiddenStateCache.of(bundle, TOKENS, budget)
    calibrate(LayerRunner(bundle), TOKENS, empty_statistics(bundle, TOKENS, [2]), borders=borders, batch_size=4)
    whole = by_fisher(bundle, TOKENS, batch_size=4)
    part = by_fisher(bundle, TOKENS, 3, borders=borders, batch_size=4)
    for layer in range(3, 6):
        assert all(torch.equal(ours, theirs) for ours, theirs in zip(part(layer), whole(layer), strict=True))
    assert not part(2)[1].any() and whole(2)[1].all()


@pytest.mark.parametrize("family", ["llama", "qwen3", "opt", "gpt2"])
@pytest.mark.parametrize("select", ["sbi", "kl", "loss", "removal-loss"])
def test_each_step_keeps_the_units_of_most_information_in_the_model_by_then(family: str, select: str) -> None:
    original = tiny_bundle(family)
    result = come.compress(original, TOKENS, target_layers=4, select=select, sensitivity="fisher")
    bundle, measured = original, TOKENS if select == "sbi" else TOKENS[:-1]
    for step in result.plan.steps:
        assert isinstance(step, Concatenate)
        assert step == _kept_by_fisher(bundle, measured, step)
        bundle = apply_step(bundle, step)
    plain = come.compress(original, TOKENS, target_layers=4, select=select)
    assert plain.plan.steps != result.plan.steps


def _kept_by_fisher(bundle: Bundle, tokens: Tensor, step: Concatenate) -> Concatenate:
    kv_groups, channels = fisher(bundle, tokens)
    layers = slice(step.window[0], step.window[1] + 1)
    return concatenation(step.window, step.ratio, list(kv_groups[layers]), list(channels[layers]))


@pytest.mark.parametrize("method", ["come", "come-p"])
@pytest.mark.parametrize("windows", [None, [(3, 4), (0, 1)]])
def test_both_methods_and_windows_by_hand_rank_by_it(method: str, windows: Any) -> None:
    original = tiny_bundle()
    options: dict[str, Any] = {"windows": windows} if windows else {"target_layers": 5}
    options |= {"granularity": 4} if method == "come-p" else {}
    result = come.compress(original, TOKENS, method, sensitivity="fisher", **options)
    kv_groups, channels = fisher(original, TOKENS)
    for gone, step in enumerate(result.plan.steps):
        assert isinstance(step, Concatenate)
        layers = slice(step.window[0] + gone, step.window[1] + 1 + gone)
        assert step == concatenation(step.window, step.ratio, list(kv_groups[layers]), list(channels[layers]))
    assert weights_hash(replay(original, result.plan).model) == weights_hash(result.bundle.model)


def test_windows_by_hand_go_on_where_they_were_interrupted() -> None:
    original, plans = tiny_bundle(), []
    options: dict[str, Any] = {"windows": [(0, 1), (3, 4)], "sensitivity": "fisher", "refit": True}
    whole = come.compress(original, TOKENS, on_step=plans.append, **options)
    assert len(plans) == 2
    assert come.compress(original, TOKENS, done=plans[0], **options).plan == whole.plan
