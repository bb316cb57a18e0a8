"""Taylor: saliences against one backward pass through the whole model."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

import come
from come.models import Bundle
from come.pruning.methods.taylor import saliences
from tests.tiny import CASES, tiny_bundle, tiny_tokens

TOKENS = tiny_tokens(5, 14)


def reference(bundle: Bundle) -> list[float]:
    """The sum of abs(w * grad w) over each layer's linear maps."""
    logits = bundle.model(TOKENS, use_cache=False).logits.float()
    torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), TOKENS[:, 1:].flatten()).backward()
    return [
        sum(
            float((each.weight * each.weight.grad).detach().abs().sum())
            for each in layer.modules()
            if isinstance(each, nn.Linear | Conv1D)
        )
        for layer in bundle.layers
    ]


@pytest.mark.parametrize("family", CASES)
def test_saliences_are_those_of_one_backward_pass(family: str) -> None:
    expected = reference(tiny_bundle(family))
    found = saliences(tiny_bundle(family), TOKENS, batch_size=2)
    assert found.dtype == torch.float32
    assert found.tolist() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("family", CASES)
def test_a_bfloat16_model_has_the_saliences_of_its_weights_in_float32(family: str) -> None:
    bundle, exact = tiny_bundle(family), tiny_bundle(family)
    bundle.model.to(torch.bfloat16)
    exact.model.load_state_dict(bundle.model.state_dict())
    found = saliences(bundle, TOKENS, batch_size=2)
    assert found.tolist() == pytest.approx(reference(exact), rel=0.15)


def test_any_memory_budget_gives_the_same_saliences() -> None:
    bundle = tiny_bundle()
    found = [saliences(bundle, TOKENS, memory_budget=budget, batch_size=2) for budget in (None, 0, 20_000)]
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


def test_the_layers_of_lowest_salience_go_within_what_plus_leaves() -> None:
    bundle = tiny_bundle(layers=10)
    scores = reference(tiny_bundle(layers=10))
    for plus, candidates in ((True, range(4, 8)), (False, range(10))):
        gone = sorted(candidates, key=scores.__getitem__)[:2]
        result = come.compress(bundle, TOKENS, "taylor", target_layers=8, plus=plus)
        assert result.plan.groups() == [[layer] for layer in range(10) if layer not in gone]
