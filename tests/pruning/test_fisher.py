"""Fisher masks: gradients by autograd through the whole model, the search and the exchange by hand, tuning by lstsq."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import come
from come.models import Bundle
from come.models.bundle import weights_hash
from come.plan.steps import Mask, Replace
from come.pruning.gradients import mask_gradients
from come.pruning.mask_search import search
from come.pruning.mask_tuning import solve
from come.pruning.methods.fisher import rearranged
from come.transforms.rebuild import apply_step
from tests.tiny import CASES, tiny_bundle, tiny_tokens

TOKENS = tiny_tokens(6, 16)


def whole_model_gradients(bundle: Bundle, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients of one sequence's loss, by hooks on all layers at once."""
    family, shape, layers = bundle.family, bundle.shape, len(bundle.layers)
    masks = [torch.ones(layers, units, requires_grad=True) for units in (shape.kv_heads, shape.channels)]
    handles = []
    for path, mask in zip((family.attention_output, family.ffn_output), masks, strict=True):
        for layer in range(layers):

            def multiply(_module: Any, args: Any, mask: Tensor = mask, layer: int = layer) -> Any:
                each = mask[layer].repeat_interleave(args[0].shape[-1] // mask.shape[1])
                return args[0] * each, *args[1:]

            handles.append(bundle.layers[layer].get_submodule(path).register_forward_pre_hook(multiply))
    logits = bundle.model(tokens[None], use_cache=False).logits[0, :-1]
    loss = torch.nn.functional.cross_entropy(logits.float(), tokens[1:])
    for handle in handles:
        handle.remove()
    return tuple(torch.autograd.grad(loss, masks))  # type: ignore[return-value]


@pytest.mark.parametrize("family", CASES)
def test_the_gradients_are_those_of_the_whole_model(family: str) -> None:
    bundle = tiny_bundle(family)
    before = weights_hash(bundle.model)
    kv_groups, channels = mask_gradients(bundle, TOKENS, batch_size=4)
    for sequence in (0, 5):
        expected = whole_model_gradients(bundle, TOKENS[sequence])
        torch.testing.assert_close(kv_groups[sequence], expected[0], rtol=1e-3, atol=1e-6)
        torch.testing.assert_close(channels[sequence], expected[1], rtol=1e-3, atol=1e-6)
    assert weights_hash(bundle.model) == before
    assert all(parameter.grad is None for parameter in bundle.model.parameters())
    assert not any(module._forward_pre_hooks for module in bundle.model.modules())


def test_the_search_by_hand() -> None:
    # Two layers; a KV group has 10 parameters, a channel 4; an FFN without any channel loses its bias of 3 too.
    kv_groups = torch.tensor([[50.0, 1.0], [80.0, 90.0]])  # per parameter 5, 0.1, 8, 9
    channels = torch.tensor([[4.0, 8.0, 60.0], [2.0, 3.0, 0.4]])  # per parameter 1, 2, 15, 0.5, 0.75, 0.1
    importance, one, whole = [kv_groups, channels], [10, 4], [20, 15]
    assert search(importance, one, whole, 0) == [{}, {}]
    # The group and the channel of 0.1 come first, in that order; 14 is enough for 11 to 14.
    assert search(importance, one, whole, 14) == [{0: [1]}, {1: [2]}]
    # 18 would need the channel of 0.5, 22 that of 0.75: then layer 1 has no channel left and its bias goes: 25.
    assert search(importance, one, whole, 18) == [{0: [1]}, {1: [0, 2]}]
    assert search(importance, one, whole, 25) == [{0: [1]}, {1: [0, 1, 2]}]
    # 26 to 29 need the channel of 1 too (29); 30 the one of 2 (33).
    assert search(importance, one, whole, 29) == [{0: [1]}, {0: [0], 1: [0, 1, 2]}]
    # 34 takes the group of 5 (43); 9 too much, so that the channels of 2 and of 1 come back, one after the other.
    assert search(importance, one, whole, 34) == [{0: [0, 1]}, {1: [0, 1, 2]}]


def test_units_that_cancel_are_silenced_together() -> None:
    gradients = torch.tensor([[1.0, -1.0, 0.5, 3.0]])
    assert rearranged(gradients, [0, 2]) == [0, 1]
    assert rearranged(gradients, []) == []
    assert rearranged(gradients, [0, 1, 2, 3]) == [0, 1, 2, 3]


def test_the_exchange_never_makes_it_worse() -> None:
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        gradients = torch.randn(5, 12, generator=generator)
        start = gradients.square().sum(0).argsort()[:4].tolist()
        found = rearranged(gradients, start)
        assert len(set(found)) == 4
        before, after = (gradients[:, units].sum(1).square().sum() for units in (start, found))
        assert after <= before + 1e-5


@pytest.mark.parametrize(("units", "silenced"), [(8, [1, 6]), (4, [3])])
def test_scales_are_those_of_least_squares(units: int, silenced: list[int]) -> None:
    generator = torch.Generator().manual_seed(3)
    weight, theirs = torch.randn(5, 8, generator=generator), torch.randn(40, 8, generator=generator)
    ours = theirs + 0.2 * torch.randn(40, 8, generator=generator)
    kept = [unit for unit in range(units) if unit not in silenced]
    size = 8 // units
    columns = [
        (ours[:, unit * size : (unit + 1) * size] @ weight[:, unit * size : (unit + 1) * size].T).flatten()
        for unit in kept
    ]
    design, target = torch.stack(columns, 1).double(), (theirs @ weight.T).flatten().double()
    strength = 0.01 * design.square().sum(0).mean()
    stacked = torch.cat([design, strength.sqrt() * torch.eye(len(kept), dtype=torch.double)])
    wanted = torch.cat([target, strength.sqrt() * torch.ones(len(kept), dtype=torch.double)])
    expected = torch.linalg.lstsq(stacked, wanted[:, None]).solution[:, 0]
    scales = solve(weight, ours.T @ ours, ours.T @ theirs, units, torch.tensor(kept), 0.01)
    assert scales is not None
    torch.testing.assert_close(scales.view(units, size)[kept][:, 0].double(), expected, rtol=1e-4, atol=1e-4)
    assert all(scales.view(units, size)[unit].eq(1).all() for unit in silenced)


def test_scales_that_make_no_sense_are_not_taken() -> None:
    weight, own = torch.eye(2), torch.eye(2) * 1e-3
    assert solve(weight, own, torch.eye(2), 2, torch.tensor([0, 1]), 1e-6) is None, "a thousandfold"
    assert solve(weight, torch.zeros(2, 2), torch.zeros(2, 2), 2, torch.tensor([0]), 0.1) is None
    assert solve(weight, own, own, 2, torch.tensor([], dtype=torch.long), 0.1) is None


def outputs(bundle: Bundle, layer: int, path: str) -> Tensor:
    found: list[Tensor] = []
    handle = bundle.layers[layer].get_submodule(path).register_forward_hook(lambda _m, _a, out: found.append(out))
    with torch.inference_mode():
        bundle.model(TOKENS, use_cache=False)
    handle.remove()
    return found[0].flatten(0, -2)


@pytest.mark.parametrize("family", ["llama", "gpt2", "opt", "falcon", "gemma3_text", "glm4", "cohere"])
def test_tuning_brings_the_first_masked_map_nearer(family: str) -> None:
    bundle = tiny_bundle(family)
    result = come.compress(bundle, TOKENS, "fisher", target_layers=4, batch_size=4)
    mask, tuning = result.plan.steps
    assert isinstance(mask, Mask) and isinstance(tuning, Replace)
    masked = apply_step(bundle, mask)
    layer = min((*mask.kv_groups, *mask.channels))
    path = bundle.family.attention_output if layer in mask.kv_groups else bundle.family.ffn_output
    original, before, after = (outputs(each, layer, path) for each in (bundle, masked, result.bundle))
    assert (after - original).norm() < (before - original).norm()
    silenced = mask.kv_groups.get(layer) or mask.channels[layer]
    weight = bundle.family.matrix(result.bundle.layers[layer], path)
    units = bundle.shape.kv_heads if layer in mask.kv_groups else bundle.shape.channels
    assert not weight.detach().unflatten(1, (units, -1))[:, silenced].any(), "what was silenced stays so"


def test_stages_can_be_left_out() -> None:
    bundle = tiny_bundle()
    plain = come.compress(bundle, TOKENS, "fisher", target_layers=4, rearrange=False, tune=False).plan
    exchanged = come.compress(bundle, TOKENS, "fisher", target_layers=4, tune=False).plan
    assert [step.kind for step in plain.steps] == [step.kind for step in exchanged.steps] == ["mask"]
    a, b = plain.steps[0], exchanged.steps[0]
    assert isinstance(a, Mask) and isinstance(b, Mask)
    assert a != b and a.parameters == b.parameters
    assert {layer: len(units) for layer, units in a.channels.items()} == {
        layer: len(units) for layer, units in b.channels.items()
    }
