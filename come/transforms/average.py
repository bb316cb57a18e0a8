"""One layer out of several by a weighted sum of their parameters: what CoMe is compared with."""

from __future__ import annotations

import torch
from torch import nn

from come.errors import ComeError
from come.models import Bundle
from come.models.depth import attention_kind, share
from come.models.offload import bring_in, weight_of
from come.plan.steps import Average


@torch.no_grad()
def average(bundle: Bundle, step: Average) -> nn.Module:
    """The layer that a window becomes, in float32 and then back in the weights' dtype; it takes the first's place.

    Raises:
        ComeError: the layers of the window are of different kinds.
    """
    first, last = step.window
    window = list(bundle.layers)[first : last + 1]
    kinds = {attention_kind(bundle.model.config, layer) for layer in range(first, last + 1)}
    if len(kinds) > 1:
        raise ComeError(
            f"Layers {first} to {last} attend in different ways ({' and '.join(sorted(kinds))}); averaging mixes them.",
            "Choose windows of layers of one kind.",
        )
    new: nn.Module = share(window[0])
    bring_in(new, filled=step.rest == "first")
    maps = {*bundle.family.attention_paths, *bundle.family.ffn_paths}
    for path, module in new.named_modules():
        for name, old in list(module.named_parameters(recurse=False)):
            if step.rest == "first" and not (path in maps and name == "weight"):
                continue
            found = [weight_of(layer.get_submodule(path), name) for layer in window]
            tensors = [tensor for tensor in found if tensor is not None and tensor.shape == old.shape]
            if len(tensors) < len(window):
                raise ComeError(f"Layers {first} to {last} have parts of different shapes.", "Choose other windows.")
            value = torch.zeros_like(old, dtype=torch.float32)
            for weight, tensor in zip(step.weights, tensors, strict=True):
                value += weight * tensor.float().to(old.device)
            setattr(module, name, nn.Parameter(value.to(old.dtype), requires_grad=old.requires_grad))
    return new
