"""The straightforward way to do what CoMe does: the whole model with its head, all hidden states, full cosine matrices.

It shares the choice and the merge with the library, so that only the measuring differs.
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor

from come.measurement.calibrate import batches
from come.models import Bundle
from come.plan.steps import Concatenate
from come.pruning.allocate import concatenation, ratio_from_influence
from come.pruning.windows import choose
from come.transforms.rebuild import apply_step


def straightforward(bundle: Bundle, tokens: Tensor, target_layers: int, batch_size: int) -> list[Concatenate]:
    """The steps of CoMe in pairs, everything measured anew on the whole model before each."""
    steps: list[Concatenate] = []
    stands_for = [1] * len(bundle.layers)
    while len(bundle.layers) > target_layers:
        influence, skip, channels, kv_groups = everything(bundle, tokens, batch_size)
        first, last = choose(skip, 2, [count > 1 for count in stands_for], True)
        pair = slice(first, last + 1)
        ratio = ratio_from_influence(influence[pair].tolist(), 1.0, 0.0, sum(stands_for[pair]))
        steps.append(concatenation((first, last), ratio, list(kv_groups[pair]), list(channels[pair])))
        bundle = apply_step(bundle, steps[-1])
        stands_for[pair] = [sum(stands_for[pair])]
    return steps


@torch.inference_mode()
def everything(bundle: Bundle, tokens: Tensor, batch_size: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """BI (layers,), SBI over pairs (layers - 1,), sensitivity of FFN channels and of KV groups (layers, ...)."""
    family, layers = bundle.family, list(bundle.layers)
    paths = (family.ffn_output, family.attention_output)
    sums: dict[tuple[int, str], Tensor] = {}
    handles = []
    for at, layer in enumerate(layers):
        for path in paths:

            def see(_module: object, args: tuple[Tensor, ...], key: tuple[int, str] = (at, path)) -> None:
                sums[key] = sums.get(key, torch.zeros(())) + args[0].float().abs().flatten(0, -2).sum(0)

            handles.append(layer.get_submodule(path).register_forward_pre_hook(see))
    influence, skip = torch.zeros(len(layers)), torch.zeros(len(layers) - 1)
    for batch in batches(tokens, batch_size):
        states = bundle.model(batch.tokens, output_hidden_states=True, use_cache=False).hidden_states
        influence += torch.stack([(1 - cosines(a, b)).sum() for a, b in itertools.pairwise(states)])
        skip += torch.stack(
            [(cosines(a, b).arccos() / math.pi).sum() for a, b in zip(states, states[2:], strict=False)]
        )
    for handle in handles:
        handle.remove()
    sensitivity = {
        path: torch.stack(
            [
                sums[at, path] / tokens.numel() * layer.get_submodule(path).weight.float().abs().sum(0)
                for at, layer in enumerate(layers)
            ]
        )
        for path in paths
    }
    kv_groups = sensitivity[family.attention_output].unflatten(1, (bundle.shape.kv_heads, -1)).mean(2)
    return influence / tokens.numel(), skip / tokens.numel(), sensitivity[family.ffn_output], kv_groups


def cosines(a: Tensor, b: Tensor) -> Tensor:
    """The cosine of each token's states, read off a (tokens x tokens) matrix a sequence, (sequences, tokens)."""
    a, b = torch.nn.functional.normalize(a.float(), dim=-1), torch.nn.functional.normalize(b.float(), dim=-1)
    return torch.bmm(a, b.transpose(1, 2)).diagonal(dim1=1, dim2=2).clamp(0, 1)
