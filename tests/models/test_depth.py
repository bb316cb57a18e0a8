from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from come.models.bundle import weights_hash
from come.models.depth import with_layers
from tests.tiny import CASES, tiny_bundle, tiny_tokens


@pytest.mark.parametrize("family", CASES)
def test_fewer_layers_share_weights_and_leave_the_original_alone(family: str) -> None:
    bundle = tiny_bundle(family, layers=5)
    before, config = weights_hash(bundle.model), bundle.model.config.to_dict()
    tokens = tiny_tokens()
    with torch.inference_mode():
        expected = bundle.model(tokens).logits
    stay = [0, 3, 4]
    pruned = with_layers(bundle, [bundle.layers[layer] for layer in stay], stay)
    assert len(pruned.layers) == pruned.model.config.num_hidden_layers == 3
    for new, old in enumerate(stay):
        for ours, theirs in zip(pruned.layers[new].parameters(), bundle.layers[old].parameters(), strict=True):
            assert ours is theirs
        assert pruned.layers[new] is not bundle.layers[old]
        indices = {module.layer_idx for module in pruned.layers[new].modules() if hasattr(module, "layer_idx")}
        assert indices == {new}
    assert weights_hash(bundle.model) == before
    assert bundle.model.config.to_dict() == config
    with torch.inference_mode():
        assert torch.equal(bundle.model(tokens).logits, expected)


@pytest.mark.parametrize("family", CASES)
def test_what_a_layer_was_is_what_plain_transformers_makes_of_it(family: str, tmp_path: Path) -> None:
    """Layers of two kinds, taken out unevenly: the saved config must tell of each what the layer does."""
    bundle = tiny_bundle(family, layers=6)
    stay = [0, 3, 4]
    pruned = with_layers(bundle, [bundle.layers[layer] for layer in stay], stay)
    pruned.model.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    tokens = tiny_tokens(2, 24)
    with torch.inference_mode():
        assert torch.equal(again(tokens).logits, pruned.model(tokens).logits)
    for module in pruned.layers.modules():
        assert getattr(module, "config", pruned.model.config) is pruned.model.config


def test_per_layer_lists_of_the_config_follow() -> None:
    kinds = ["full_attention", "sliding_attention", "full_attention", "sliding_attention"]
    bundle = tiny_bundle("qwen2", layers=4, layer_types=kinds, use_sliding_window=True, sliding_window=8)
    pruned = with_layers(bundle, [bundle.layers[1], bundle.layers[2]], [1, 2])
    assert pruned.model.config.layer_types == ["sliding_attention", "full_attention"]
    assert bundle.model.config.layer_types == kinds
