"""Norms folded into the units that they feed: a merge of one layer's attention and another's FFN does just that."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from come.measurement.layer_runner import LayerRunner
from come.models import Bundle
from come.models.depth import share
from come.plan.steps import Concatenate
from come.transforms.concatenate import concatenate
from come.transforms.folding import note_of_folding, unfolded_norms
from tests.tiny import CASES, tiny_bundle, tiny_tokens

SIDE_BY_SIDE = {"cohere", "cohere:qk-norm", "gpt_neox", "falcon", "falcon:one-norm", "falcon:multi-query"}
STAY = {"falcon:one-norm", "falcon:multi-query"}  # norms with biases that feed maps without


def silenced(layer: nn.Module, path: str) -> nn.Module:
    """The layer without what its output map at ``path`` adds."""
    copy = share(layer)
    for name, value in list(copy.get_submodule(path).named_parameters()):
        setattr(copy.get_submodule(path), name, nn.Parameter(torch.zeros_like(value)))
    return copy  # type: ignore[no-any-return]


def share_what_no_unit_owns(bundle: Bundle) -> None:
    """Give layer 1 the norms after sub-layers and the output biases of layer 0."""
    family = bundle.family
    lower, upper = bundle.layers[0], bundle.layers[1]
    for path in (family.attention_post_norm, family.ffn_post_norm, family.attention_output, family.ffn_output):
        if path is not None:
            for name in ("bias",) if path in (family.attention_output, family.ffn_output) else ("weight",):
                if getattr(upper.get_submodule(path), name, None) is not None:
                    getattr(upper.get_submodule(path), name).data = getattr(lower.get_submodule(path), name).data


@torch.inference_mode()
def through(runner: LayerRunner, layer: int, states: Tensor, module: nn.Module) -> Tensor:
    return runner.run(layer, states, module)


@pytest.mark.parametrize("family", CASES)
def test_units_do_behind_their_own_norms_what_they_did_in_their_layers(family: str) -> None:
    bundle, tokens = tiny_bundle(family), tiny_tokens(2, 12)
    share_what_no_unit_owns(bundle)
    groups, channels = list(range(bundle.shape.kv_heads)), list(range(bundle.shape.channels))
    step = Concatenate(window=(0, 1), ratio=[1, 0], kv_groups=[groups, []], channels=[[], channels], fold=True)
    merged, _ = concatenate(bundle, step)
    assert bool(unfolded_norms(bundle, 0)) == bool(note_of_folding(bundle, step)) == (family in STAY)
    if family in STAY:
        for path in bundle.family.averaged_norms:
            if path in dict(merged.named_modules()):
                weights = [layer.get_submodule(path).weight for layer in list(bundle.layers)[:2]]
                torch.testing.assert_close(merged.get_submodule(path).weight, torch.stack(weights).mean(0))
        return
    runner = LayerRunner(bundle)
    with torch.inference_mode():
        entering = runner.enter(tokens)
    attention_only = silenced(bundle.layers[0], bundle.family.ffn_output)
    ffn_only = silenced(bundle.layers[1], bundle.family.attention_output)
    after = through(runner, 0, entering, attention_only)
    if family in SIDE_BY_SIDE:
        expected = after + through(runner, 1, entering, ffn_only) - entering
    else:
        expected = through(runner, 1, after, ffn_only)
    torch.testing.assert_close(through(runner, 0, entering, merged), expected, rtol=1e-4, atol=1e-5)
