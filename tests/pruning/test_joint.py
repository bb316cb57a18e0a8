"""Units chosen over a whole window, and the output maps that are solved for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from come.measurement.layer_runner import LayerRunner
from come.models import FAMILIES, Bundle
from come.models.depth import with_layers
from come.pruning.joint import joint_candidates
from come.pruning.joint_rules import JointRules
from tests.tiny import CASES, tiny_bundle, tiny_tokens

EXACT = [
    case
    for case in CASES
    # Norms after sub-layers, and norms whose biases cannot be folded, are averaged.
    if FAMILIES[case.partition(":")[0]].ffn_post_norm is None and case not in ("falcon:one-norm", "falcon:multi-query")
]


def silence(bundle: Bundle, layer: int) -> None:
    """Make a layer give what it is given."""
    for path in (bundle.family.attention_output, bundle.family.ffn_output):
        for value in bundle.layers[layer].get_submodule(path).parameters():
            value.data = torch.zeros_like(value)


def states(runner: LayerRunner, tokens: Tensor, layer: int) -> Iterator[tuple[Tensor, Tensor]]:
    for part in tokens.split(2):
        entering = runner.enter(part)
        for below in range(layer):
            entering = runner.run(below, entering)
        yield part, entering


@pytest.mark.parametrize("family", EXACT)
def test_the_first_layers_attention_is_kept_whole(family: str) -> None:
    bundle, tokens = tiny_bundle(family), tiny_tokens(6, 16)
    runner = LayerRunner(bundle)
    (merged,) = joint_candidates(bundle, runner, (1, 2), lambda: states(runner, tokens, 1), JointRules())
    assert merged.step.kv_groups == [list(range(bundle.shape.kv_heads)), []]
    assert sum(map(len, merged.step.channels)) == bundle.shape.channels
    assert all(merged.step.channels), "its FFN has units of both"


@pytest.mark.parametrize("family", EXACT)
@pytest.mark.parametrize("idle", [1, 2])
def test_of_a_layer_that_does_nothing_nothing_is_kept(family: str, idle: int) -> None:
    bundle, tokens = tiny_bundle(family), tiny_tokens(6, 16)
    silence(bundle, idle)
    runner = LayerRunner(bundle)
    rules = JointRules(strengths=(0.1,), attention="chosen")
    (merged,) = joint_candidates(bundle, runner, (1, 2), lambda: states(runner, tokens, 1), rules)
    busy = 3 - idle
    assert [len(groups) for groups in merged.step.kv_groups] == [
        bundle.shape.kv_heads if layer == busy else 0 for layer in (1, 2)
    ]
    assert [len(channels) for channels in merged.step.channels] == [
        bundle.shape.channels if layer == busy else 0 for layer in (1, 2)
    ]
    layers = [bundle.layers[0], merged.module, *list(bundle.layers)[3:]]
    pruned = with_layers(bundle, layers, [0, merged.origin, *range(3, len(bundle.layers))])
    with torch.inference_mode():
        ours, theirs = pruned.model(tokens).logits, bundle.model(tokens).logits
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)
