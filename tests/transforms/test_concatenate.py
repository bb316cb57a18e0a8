"""The new layer, piece by piece, against the layers it was made of."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import come
from come.errors import ComeError
from come.measurement.layer_runner import LayerRunner
from come.models import Bundle, Fused
from come.models.bundle import weights_hash
from come.models.depth import with_layers
from come.models.family import path_of
from come.plan.steps import Concatenate
from come.transforms.concatenate import concatenate
from come.transforms.rebuild import apply_step
from tests.tiny import CASES, tiny_bundle, tiny_tokens


def per_head_outputs(bundle: Bundle, layer: nn.Module, place: int, tokens: Tensor) -> Tensor:
    """What each query head puts out of a layer that stands first in the model, (sequences, tokens, heads, head_dim).

    ``place`` says whose entry in the config's per-layer lists the layer has.
    """
    alone = with_layers(bundle, [layer], [place])
    seen: list[Tensor] = []
    with torch.inference_mode():
        runner = LayerRunner(alone)
        hidden_states = runner.enter(tokens)
        with runner.watching(0, {bundle.family.attention_output: seen.append}):
            runner.run(0, hidden_states)
    return seen[0].unflatten(-1, (bundle.shape.heads, -1))


def isolate_heads(bundle: Bundle, layers: tuple[int, int]) -> None:
    """Make what is no head's own the same in two layers, so that a head puts out the same wherever it stands."""
    lower, upper = (bundle.layers[layer] for layer in layers)
    for path in (*bundle.family.averaged_norms, *bundle.family.head_norms):
        for name, parameter in named(upper, path):
            parameter.data = getattr(lower.get_submodule(path), name).data
    for path in bundle.family.norms_by_head:
        for layer in (lower, upper):
            for _, weight in named(layer, path):
                if weight.ndim == 1:
                    # OLMo 2 divides by the size of all heads together: drown it, and leave the weights.
                    layer.get_submodule(path).variance_epsilon = 1e8
                    weight.data *= 1e4


def named(layer: nn.Module, path: str) -> list[tuple[str, nn.Parameter]]:
    """A module's parameters by name; none where this variant of the family lacks the module."""
    modules = dict(layer.named_modules())
    return list(modules[path].named_parameters()) if path in modules else []


@pytest.mark.parametrize("family", CASES)
def test_each_kept_query_head_attends_with_its_own_kv_head(family: str) -> None:
    bundle, tokens = tiny_bundle(family), tiny_tokens(2, 12)
    kv_heads, heads = bundle.shape.kv_heads, bundle.shape.heads
    group = heads // kv_heads
    if family not in ("opt", "gpt2", "gpt_neox", "gpt_neox:sequential", "falcon:by-head"):
        assert group > 1, "without grouped queries this proves little"
    window = (0, 1)
    if family == "gemma2":  # a window of one kind: the other kind is in test_compatible
        bundle = tiny_bundle(family, layer_types=["full_attention"] * 6)
    isolate_heads(bundle, window)
    kept = [[kv_heads - 1], list(range(kv_heads - 1))]
    step = Concatenate(window=window, ratio=[0.5, 0.5], kv_groups=kept, channels=[list(range(20)), list(range(28))])
    merged, place = concatenate(bundle, step)
    ours = per_head_outputs(bundle, merged, place, tokens)
    theirs = [per_head_outputs(bundle, bundle.layers[layer], layer, tokens) for layer in window]
    expected = [
        outputs[:, :, one * group + head]
        for outputs, groups in zip(theirs, kept, strict=True)
        for one in groups
        for head in range(group)
    ]
    torch.testing.assert_close(ours, torch.stack(expected, dim=2), rtol=1e-5, atol=1e-6)
    assert not torch.allclose(theirs[0], theirs[1], atol=1e-3)
    if 1 < kv_heads < heads:  # what tiling the mask of KV heads over the query heads would have kept
        tiled = [
            outputs[:, :, head]
            for outputs, groups in zip(theirs, kept, strict=True)
            for head in range(heads)
            if head % kv_heads in groups
        ]
        assert not torch.allclose(ours, torch.stack(tiled, dim=2), atol=1e-3)


def split_parts(bundle: Bundle, layer: nn.Module, entry: str | Fused, name: str) -> list[Tensor]:
    """The maps of FFN channels behind one entry of the table, each with its channels first."""
    tensor = bundle.family.matrix(layer, path_of(entry)) if name == "weight" else None
    if tensor is None:
        tensor = layer.get_submodule(path_of(entry)).bias
    return list(tensor.chunk(2 if isinstance(entry, Fused) else 1))


@pytest.mark.parametrize("family", CASES)
def test_the_ffn_keeps_its_channels_whole(family: str) -> None:
    bundle = tiny_bundle(family)
    table = bundle.family
    kept = [[0, 5, 47], list(range(45))]
    groups = [[0], list(range(1, bundle.shape.kv_heads))]
    step = Concatenate(window=(0, 1), ratio=[0.25, 0.75], kv_groups=groups, channels=kept)
    merged, _ = concatenate(bundle, step)
    layers = [bundle.layers[0], bundle.layers[1]]
    for entry in table.ffn_inputs:
        for name, _ in named(merged, path_of(entry)):
            theirs = [split_parts(bundle, layer, entry, name) for layer in layers]
            for part, ours in enumerate(split_parts(bundle, merged, entry, name)):
                assert torch.equal(ours, torch.cat([each[part][rows] for each, rows in zip(theirs, kept, strict=True)]))
    down = [table.matrix(layer, table.ffn_output)[:, rows] for layer, rows in zip(layers, kept, strict=True)]
    assert torch.equal(table.matrix(merged, table.ffn_output), torch.cat(down, 1))
    for path in (table.ffn_output, table.attention_output):
        if getattr(merged.get_submodule(path), "bias", None) is not None:
            biases = [layer.get_submodule(path).bias for layer in layers]
            torch.testing.assert_close(merged.get_submodule(path).bias, 0.25 * biases[0] + 0.75 * biases[1])
    for path in table.averaged_norms:
        for name, norm in named(merged, path):
            both = [getattr(layer.get_submodule(path), name) for layer in layers]
            torch.testing.assert_close(norm, torch.stack(both).mean(0))
    for path in table.head_norms:
        first, second = (layer.get_submodule(path).weight for layer in layers)
        torch.testing.assert_close(merged.get_submodule(path).weight, 0.25 * first + 0.75 * second)


@pytest.mark.parametrize("family", ["olmo2", "cohere:qk-norm"])
@pytest.mark.parametrize("groups", [[[3], [0, 1, 2]], [[1, 3], [0, 2]]])
def test_norms_with_an_entry_a_head_go_with_their_heads(family: str, groups: list[list[int]]) -> None:
    bundle = tiny_bundle(family)  # 4 KV groups, each of 2 query heads of 4 channels
    channels = [list(range(24)), list(range(24))]
    step = Concatenate(window=(0, 1), ratio=[0.5, 0.5], kv_groups=groups, channels=channels)
    merged, _ = concatenate(bundle, step)
    for path, width in (("self_attn.q_norm", 8), ("self_attn.k_norm", 4)):
        weights = [bundle.layers[layer].get_submodule(path).weight.view(4, width) for layer in (0, 1)]
        expected = torch.cat([weight[units] for weight, units in zip(weights, groups, strict=True)])
        assert torch.equal(merged.get_submodule(path).weight.view(4, width), expected)


def unfused(bundle: Bundle) -> Bundle:
    """A Llama model with the weights of a Phi-3 model, split."""
    config = bundle.model.config
    twin = tiny_bundle("llama", layers=len(bundle.layers), rms_norm_eps=config.rms_norm_eps)
    state = bundle.model.state_dict()
    for name in list(state):
        if "qkv_proj" in name:
            heads, kv_heads = config.num_attention_heads * 4, config.num_key_value_heads * 4
            for part, rows in zip("qkv", state.pop(name).split([heads, kv_heads, kv_heads]), strict=True):
                state[name.replace("qkv", part)] = rows
        elif "gate_up_proj" in name:
            for part, rows in zip(("gate", "up"), state.pop(name).chunk(2), strict=True):
                state[name.replace("gate_up", part)] = rows
    twin.model.load_state_dict(state)
    return twin


def test_fused_weights_merge_as_their_parts_would() -> None:
    fused, tokens = tiny_bundle("phi3"), tiny_tokens()
    split = unfused(fused)
    results = [come.compress(bundle, tokens, target_layers=3) for bundle in (fused, split)]
    for ours, theirs in zip(*(result.plan.steps for result in results), strict=True):
        assert isinstance(ours, Concatenate)
        assert ours.model_dump(exclude={"ratio"}) == theirs.model_dump(exclude={"ratio"})
        assert ours.ratio == pytest.approx(theirs.ratio, rel=1e-5)  # one product instead of three rounds differently
    assert weights_hash(unfused(results[0].bundle).model) == weights_hash(results[1].bundle.model)


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
    pruned = apply_step(bundle, step)
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
    pruned = apply_step(bundle, step)
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
