"""The new layer, piece by piece, against the layers it was made of."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from come.errors import ComeError
from come.merge.concatenate import concatenate, take_step
from come.merge.plan import Concatenate
from come.models import FAMILIES, Bundle
from come.models.bundle import weights_hash
from tests.tiny import tiny_bundle, tiny_tokens


def per_head_outputs(bundle: Bundle, layer: nn.Module, hidden_states: Tensor) -> Tensor:
    """What each query head of a layer puts out, (sequences, tokens, heads, head_dim)."""
    seen: list[Tensor] = []
    output = layer.get_submodule(bundle.family.attention_output)
    handle = output.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    arguments: dict[str, Any] = {"attention_mask": None}
    if hasattr(bundle.model.model, "rotary_emb"):
        positions = torch.arange(hidden_states.shape[1])[None]
        arguments["position_embeddings"] = bundle.model.model.rotary_emb(hidden_states, positions)
    with torch.inference_mode():
        layer.self_attn(hidden_states=hidden_states, **arguments)
    handle.remove()
    return seen[0].unflatten(-1, (bundle.model.config.num_attention_heads, -1))


@pytest.mark.parametrize("family", FAMILIES)
def test_each_kept_query_head_attends_with_its_own_kv_head(family: str) -> None:
    bundle = tiny_bundle(family)
    config = bundle.model.config
    kv_heads = getattr(config, "num_key_value_heads", config.num_attention_heads)
    group = config.num_attention_heads // kv_heads
    if family != "opt":
        assert group > 1, "without grouped queries this proves little"
    if family == "qwen3":  # norms shared by all heads are mixed by the ratio; equal ones show the heads alone
        for name in ("q_norm", "k_norm"):
            getattr(bundle.layers[2].self_attn, name).weight.data = getattr(
                bundle.layers[1].self_attn, name
            ).weight.data
    kept = [[kv_heads - 1], list(range(kv_heads - 1))]
    step = Concatenate(window=(1, 2), ratio=[0.5, 0.5], kv_groups=kept, channels=[list(range(20)), list(range(28))])
    merged, _ = concatenate(bundle, step)
    hidden_states = torch.randn(2, 12, config.hidden_size, generator=torch.Generator().manual_seed(1))
    ours = per_head_outputs(bundle, merged, hidden_states)
    expected = []
    for layer, groups in zip((1, 2), kept, strict=True):
        outputs = per_head_outputs(bundle, bundle.layers[layer], hidden_states)
        expected += [outputs[:, :, one * group + head] for one in groups for head in range(group)]
    torch.testing.assert_close(ours, torch.stack(expected, dim=2), rtol=1e-5, atol=1e-6)
    if group > 1:  # what tiling the mask of KV heads over the query heads would have kept
        tiled = []
        for layer, groups in zip((1, 2), kept, strict=True):
            outputs = per_head_outputs(bundle, bundle.layers[layer], hidden_states)
            tiled += [outputs[:, :, head] for head in range(config.num_attention_heads) if head % kv_heads in groups]
        assert not torch.allclose(ours, torch.stack(tiled, dim=2), atol=1e-3)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_ffn_keeps_its_channels_whole(family: str) -> None:
    bundle = tiny_bundle(family)
    table = bundle.family
    kept = [[0, 5, 47], list(range(45))]
    kv_heads = getattr(bundle.model.config, "num_key_value_heads", bundle.model.config.num_attention_heads)
    step = Concatenate(window=(0, 1), ratio=[0.25, 0.75], kv_groups=[[0], list(range(1, kv_heads))], channels=kept)
    merged, _ = concatenate(bundle, step)
    layers = [bundle.layers[0], bundle.layers[1]]
    for path in table.ffn_inputs:
        for name, _ in merged.get_submodule(path).named_parameters():
            expected = torch.cat(
                [getattr(layer.get_submodule(path), name)[rows] for layer, rows in zip(layers, kept, strict=True)]
            )
            assert torch.equal(getattr(merged.get_submodule(path), name), expected)
    down = torch.cat(
        [layer.get_submodule(table.ffn_output).weight[:, rows] for layer, rows in zip(layers, kept, strict=True)], 1
    )
    assert torch.equal(merged.get_submodule(table.ffn_output).weight, down)
    if merged.get_submodule(table.ffn_output).bias is not None:
        biases = [layer.get_submodule(table.ffn_output).bias for layer in layers]
        torch.testing.assert_close(merged.get_submodule(table.ffn_output).bias, 0.25 * biases[0] + 0.75 * biases[1])
    for path in table.norms:
        norms = torch.stack([layer.get_submodule(path).weight for layer in layers])
        torch.testing.assert_close(merged.get_submodule(path).weight, norms.mean(0))
    for path in table.head_norms:
        first, second = (layer.get_submodule(path).weight for layer in layers)
        torch.testing.assert_close(merged.get_submodule(path).weight, 0.25 * first + 0.75 * second)


def test_a_layer_that_keeps_everything_is_taken_as_it_is() -> None:
    bundle = tiny_bundle("opt")
    step = Concatenate(
        window=(2, 4),
        ratio=[0.0, 1.0, 0.0],
        kv_groups=[[], list(range(8)), []],
        channels=[[], list(range(48)), []],
    )
    merged, origin = concatenate(bundle, step)
    assert origin == 3
    assert merged is bundle.layers[3]
    pruned = take_step(bundle, step)
    for ours, theirs in zip(pruned.layers[2].parameters(), bundle.layers[3].parameters(), strict=True):
        assert ours is theirs


def test_the_original_is_left_alone_and_unchanged_weights_are_shared() -> None:
    bundle = tiny_bundle()
    before = weights_hash(bundle.model)
    step = Concatenate(
        window=(1, 2),
        ratio=[0.5, 0.5],
        kv_groups=[[0, 1], [2, 3]],
        channels=[list(range(24)), list(range(24))],
    )
    pruned = take_step(bundle, step)
    assert weights_hash(bundle.model) == before
    assert len(bundle.layers) == 6
    assert pruned.layers[0].mlp.up_proj.weight is bundle.layers[0].mlp.up_proj.weight
    assert pruned.layers[2].mlp.up_proj.weight is bundle.layers[3].mlp.up_proj.weight
    tokens = tiny_tokens()
    output = pruned.model.generate(tokens[:1], max_new_tokens=8, do_sample=False)
    assert torch.equal(output, pruned.model.generate(tokens[:1], max_new_tokens=8, do_sample=False, use_cache=False))


def test_units_that_the_model_does_not_have_are_refused() -> None:
    step = Concatenate(window=(0, 1), ratio=[0.5, 0.5], kv_groups=[[0, 1], [2, 9]], channels=[[0], [1]])
    with pytest.raises(ComeError, match="KV groups"):
        concatenate(tiny_bundle(), step)
