"""What methods that read gradients share: where a backward pass starts, and layers in float32 that it goes through."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from come.measurement.layer_runner import LayerRunner
from come.measurement.loss import sequence_losses
from come.models.depth import share
from come.models.offload import bring_in, weight_of


def gradient_of_the_head(runner: LayerRunner, hidden_states: Tensor, tokens: Tensor) -> Tensor:
    """The gradient of the sequences' losses, added up, by what leaves the last layer, float32 on the CPU."""
    gradients = []
    for states, row in zip(hidden_states, tokens, strict=True):  # logits are the memory peak: one sequence at a time
        with torch.enable_grad():
            given = states[None].detach().requires_grad_()
            loss = sequence_losses(runner, runner.norm(given), row[None]).sum()
        gradients.append(torch.autograd.grad(loss, given)[0].float().cpu())
    return torch.cat(gradients)


def in_float32(layer: nn.Module) -> nn.Module:
    """A copy of a layer over float32 weights, the same memory where they are float32 already; none takes a gradient."""
    copy = share(layer)
    bring_in(copy, filled=False)
    for path, module in layer.named_modules():
        for name in module._parameters:
            if (weight := weight_of(module, name)) is not None:
                setattr(copy.get_submodule(path), name, nn.Parameter(weight.detach().float(), requires_grad=False))
    return copy  # type: ignore[no-any-return]
