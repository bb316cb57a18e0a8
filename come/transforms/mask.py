"""Silencing units of layers, as methods do whose layers would otherwise have different shapes."""

from __future__ import annotations

import torch
from torch import nn

from come.errors import ComeError
from come.models import Bundle
from come.models.depth import share
from come.models.family import path_of, unit_rows
from come.models.offload import bring_in, weight_of
from come.plan.steps import Mask, Units


def mask(bundle: Bundle, kv_groups: Units, channels: Units) -> Mask:
    """The step that silences units of a model, with what taking them out would save."""
    step = Mask(kv_groups=kv_groups, channels=channels, parameters=0)
    _check(bundle, step)
    layers = list(bundle.layers)
    saved = sum(
        parameters_of_units(bundle, layers[layer], attention, len(silenced))
        for attention, units in ((True, kv_groups), (False, channels))
        for layer, silenced in units.items()
    )
    return step.model_copy(update={"parameters": saved})


def parameters_of_units(bundle: Bundle, layer: nn.Module, attention: bool, count: int) -> int:
    """How many parameters ``count`` KV groups (``attention``) or FFN channels of a layer have.

    All of them take the output's bias with them; norms stay.
    """
    family, shape = bundle.family, bundle.shape
    inputs = family.attention_inputs if attention else family.ffn_inputs
    output = family.attention_output if attention else family.ffn_output
    units = shape.kv_heads if attention else shape.channels
    found = 0
    for path in {*map(path_of, inputs), output}:
        for name, parameter in layer.get_submodule(path).named_parameters(recurse=False):
            if path == output and name == "bias":
                found += parameter.numel() if count == units else 0
            else:
                found += parameter.numel() // units * count
    return found


@torch.no_grad()
def silence(bundle: Bundle, step: Mask) -> dict[int, nn.Module]:
    """The layers that a mask changes, by number, with output maps of their own; the rest is shared, or stays elsewhere.

    Raises:
        ComeError: the mask names units that the model does not have.
    """
    _check(bundle, step)
    family, shape = bundle.family, bundle.shape
    changed: dict[int, nn.Module] = {}
    for path, units, all_units in (
        (family.attention_output, step.kv_groups, shape.kv_heads),
        (family.ffn_output, step.channels, shape.channels),
    ):
        for layer, silenced in units.items():
            if layer not in changed:
                changed[layer] = share(bundle.layers[layer])
            module, before = changed[layer].get_submodule(path), bundle.layers[layer].get_submodule(path)
            bring_in(module)
            weight = weight_of(before, "weight")
            assert weight is not None
            dim = 0 if family.transposed else 1
            columns = unit_rows(path, weight.shape[dim], all_units)[0][silenced].flatten().to(weight.device)
            _put(module, "weight", weight.index_fill(dim, columns, 0))
            bias = weight_of(before, "bias")
            if bias is not None and len(silenced) == all_units:
                _put(module, "bias", torch.zeros_like(bias))
    return changed


def _put(module: nn.Module, name: str, value: torch.Tensor) -> None:
    old = getattr(module, name)
    setattr(module, name, nn.Parameter(value.to(old.device), requires_grad=old.requires_grad))


def _check(bundle: Bundle, step: Mask) -> None:
    shape = bundle.shape
    for name, units, known in (
        ("KV group", step.kv_groups, shape.kv_heads),
        ("FFN channel", step.channels, shape.channels),
    ):
        for layer, silenced in units.items():
            if layer >= len(bundle.layers) or (silenced and silenced[-1] >= known):
                raise ComeError(
                    f"The plan silences {name} {silenced[-1]} of layer {layer}, which this model does not have.",
                    "Use the plan with the model it was made for.",
                )
