"""Putting weights in the place of a model's own: what a refit or a training came to."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from torch import Tensor, nn

from come.errors import ComeError
from come.models import Bundle
from come.models.depth import share
from come.models.offload import is_offloaded


def replace_weights(bundle: Bundle, tensors: Mapping[str, Tensor]) -> Bundle:
    """The same model with other values for some parameters; the rest is shared, the bundle given is left as it was.

    Args:
        bundle: the model.
        tensors: by parameter name; one that is tied to others replaces them all.

    Raises:
        ComeError: the model has no such parameter, or one of another shape.
    """
    if is_offloaded(bundle.model):
        raise ComeError(
            "Weights cannot be put in place in a model that lies partly outside of memory.",
            "Rebuild it where it fits in memory.",
        )
    model = share(bundle.model)
    homes: dict[int, list[tuple[nn.Module, str]]] = {}
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            homes.setdefault(id(parameter), []).append((module, name))
    known = dict(model.named_parameters(remove_duplicate=False))
    for name, value in tensors.items():
        old = known.get(name)
        if old is None or old.shape != value.shape:
            raise ComeError(
                f"The plan has weights for {name}, which this model does not have in that shape.",
                "Use the plan with the model it was made for.",
            )
        new = nn.Parameter(value.to(old.device, old.dtype), requires_grad=old.requires_grad)
        for module, own in homes[id(old)]:
            setattr(module, own, new)
    return dataclasses.replace(bundle, model=model, plan=None)
