"""Multiplying the hidden states between two layers by a factor, folded into the weights of the layers above."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from come.models import Bundle
from come.models.depth import share
from come.models.family import path_of
from come.models.offload import bring_in, weight_of
from come.plan.steps import Scale


@torch.no_grad()
def scale(bundle: Bundle, step: Scale) -> dict[int, nn.Module]:
    """The layers that a ``Scale`` changes, by number; what they do not change is shared with the bundle's.

    A layer's share in the hidden states is divided by the factor where it is written last: in the output maps with
    their biases, or in the gains of the norms after them. What enters the layer is as much smaller; where no norm
    takes that back (OLMo 2), the weights that read it are multiplied by the factor.
    """
    family = bundle.family
    written = [family.post_norm(path) or path for path in (family.attention_output, family.ffn_output)]
    read = (
        [] if family.attention_norms else {path_of(entry) for entry in (*family.attention_inputs, *family.ffn_inputs)}
    )
    changed: dict[int, nn.Module] = {}
    for layer in range(step.layer, len(bundle.layers)):
        before = bundle.layers[layer]
        changed[layer] = share(before)
        for path in (*written, *read):
            module, old = changed[layer].get_submodule(path), before.get_submodule(path)
            bring_in(module)
            if path in read:
                _put(module, old, "weight", step.factor)
            else:
                of_a_map = path in (family.attention_output, family.ffn_output)
                offset = 0.0 if of_a_map else family.norm_offset
                _put(module, old, "weight", 1 / step.factor, offset)
                _put(module, old, "bias", 1 / step.factor)
    return changed


def _put(module: nn.Module, old: nn.Module, name: str, factor: float, offset: float = 0.0) -> None:
    """Put (old + offset) times the factor, less the offset, in the place of a parameter, where there is one."""
    value: Tensor | None = weight_of(old, name)
    if value is not None:
        new = (value.double() if value.device.type != "mps" else value.float()).add(offset).mul(factor).sub(offset)
        setattr(module, name, nn.Parameter(new.to(value.dtype), requires_grad=getattr(module, name).requires_grad))
