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


FULL, SLIDING = "full_attention", "sliding_attention"


@pytest.mark.parametrize("family", ["qwen2", "qwen3"])
@pytest.mark.parametrize(
    ("kinds", "stay", "below"),
    [
        ([FULL] * 3 + [SLIDING] * 3, [0, 1, 3, 4], 2),
        ([FULL] * 3 + [SLIDING] * 3, [0, 1, 2], 3),
        ([FULL] * 3 + [SLIDING] * 3, [3, 5], 0),
        ([FULL] * 6, [0, 1, 4], 3),
        ([FULL, SLIDING] * 3, [0, 1, 2, 5], 4),  # no count of layers at the bottom says this
    ],
)
def test_the_count_of_layers_below_the_windows_follows(
    family: str, kinds: list[str], stay: list[int], below: int
) -> None:
    windows = {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 3}
    bundle = tiny_bundle(family, layers=6, layer_types=kinds, **windows)
    pruned = with_layers(bundle, [bundle.layers[layer] for layer in stay], stay)
    assert pruned.model.config.max_window_layers == below
    assert bundle.model.config.max_window_layers == 3


@pytest.mark.parametrize("entry", ["n_layers", "num_layers", "my_decoder_layers"])
def test_an_entry_that_counts_the_layers_follows(entry: str) -> None:
    bundle = tiny_bundle("llama", layers=5, **{entry: 5, "other_layers": 3, "layers_seen": 5})
    config = with_layers(bundle, [bundle.layers[0]], [0]).model.config
    assert (getattr(config, entry), config.other_layers, config.layers_seen) == (1, 3, 5)


@pytest.mark.parametrize(
    ("family", "told", "name", "stay", "every"),
    [
        ("gemma3_text", {"layer_types": [SLIDING, SLIDING, FULL] * 2}, "sliding_window_pattern", [0, 2, 3, 5], 2),
        ("gemma3_text", {"layer_types": [SLIDING, SLIDING, FULL] * 2}, "sliding_window_pattern", [0, 2, 3, 4], 3),
        ("smollm3", {"no_rope_layers": [1, 1, 0] * 2}, "no_rope_layer_interval", [0, 2, 3, 5], 2),
        ("smollm3", {"no_rope_layers": [1, 1, 0] * 2}, "no_rope_layer_interval", [0, 1], 3),
    ],
)
def test_an_entry_that_makes_every_nth_layer_another_follows(
    family: str, told: dict[str, list[object]], name: str, stay: list[int], every: int
) -> None:
    """Where the layers that stay are such a sequence; the list that tells of each layer is always right."""
    bundle = tiny_bundle(family, layers=6, **told, **{name: 3})
    config = with_layers(bundle, [bundle.layers[layer] for layer in stay], stay).model.config
    assert getattr(config, name) == every
    for entries, values in told.items():
        assert getattr(config, entries) == [values[layer] for layer in stay]


@pytest.mark.parametrize(("family", "name"), [("llama", "n_layers"), ("falcon", "n_layer"), ("gpt2", "n_layer")])
def test_a_count_that_a_config_gives_twice_follows_twice(family: str, name: str) -> None:
    bundle = tiny_bundle(family, layers=6)
    setattr(bundle.model.config, name, 6)
    bundle.model.config.n_groups = 6
    config = with_layers(bundle, [bundle.layers[layer] for layer in (0, 5)], [0, 5]).model.config
    assert (getattr(config, name), config.num_hidden_layers, config.n_groups) == (2, 2, 6)
