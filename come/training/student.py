"""Copies of models and layers to train: the parameters that are trained are float32 copies, the others are shared."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from come.models import Bundle, Family
from come.models.depth import share


def trainable_copy(module: Any, trained: Callable[[str], bool]) -> tuple[Any, dict[str, nn.Parameter]]:
    """A copy of a module whose trained parameters are float32 copies, and the others float32 without gradients.

    Args:
        module: a model or a layer; it stays as it is.
        trained: whether a parameter is to be trained, by its name; one that is tied is if any of its names is.

    Returns:
        The copy, and its trained parameters, each by its first name.
    """
    names: dict[int, list[str]] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    copy = share(module)
    made: dict[int, nn.Parameter] = {}
    parameters: dict[str, nn.Parameter] = {}
    for each in copy.modules():
        for own_name, parameter in list(each._parameters.items()):
            if parameter is None:
                continue
            if id(parameter) not in made:
                wanted = any(trained(name) for name in names[id(parameter)])
                value = parameter.detach().to(torch.float32, copy=wanted)
                made[id(parameter)] = nn.Parameter(value, requires_grad=wanted)
                if wanted:
                    parameters[names[id(parameter)][0]] = made[id(parameter)]
            each._parameters[own_name] = made[id(parameter)]
    return copy, parameters


def trainable_bundle(bundle: Bundle, trained: Callable[[str], bool]) -> tuple[Bundle, dict[str, nn.Parameter]]:
    """A model in float32 of which some parameters are copies to be trained (see ``trainable_copy``)."""
    model, parameters = trainable_copy(bundle.model, trained)
    model.config.dtype = torch.float32
    copy = replace(bundle, model=model)
    for layer in copy.layers:
        keep_silenced(layer, bundle.family, parameters.values())
    return copy, parameters


def keep_silenced(layer: nn.Module, family: Family, trained: Collection[nn.Parameter]) -> None:
    """Keep units that were silenced silent: their columns of the output maps get no gradient, and so stay zero."""
    ours = {id(parameter) for parameter in trained}
    for path in (family.attention_output, family.ffn_output):
        module = layer.get_submodule(path)
        columns = (family.matrix(layer, path) != 0).any(0)
        if bool(columns.all()):
            continue
        alive = columns[:, None] if family.transposed else columns[None]
        if id(module.weight) in ours:
            _mask_gradient(module.weight, alive)  # type: ignore[arg-type]
        bias = getattr(module, "bias", None)
        if bias is not None and id(bias) in ours and not bool(columns.any()):
            _mask_gradient(bias, torch.zeros(1, dtype=torch.bool, device=columns.device))


def _mask_gradient(parameter: nn.Parameter, alive: Tensor) -> None:
    def clear(changed: Tensor) -> None:
        assert changed.grad is not None
        changed.grad.mul_(alive)

    parameter.register_post_accumulate_grad_hook(clear)


def layer_names(bundle: Bundle, layers: Collection[int]) -> set[str]:
    """The full names of all parameters of some layers."""
    return {
        f"{bundle.family.layers}.{index}.{name}"
        for index in layers
        for name, _ in bundle.layers[index].named_parameters()
    }


def embedding_names(bundle: Bundle) -> set[str]:
    """The full names of the embeddings' parameters, and of a head that is tied to them."""
    embeddings = {
        id(each) for path in bundle.family.embeddings for each in bundle.model.get_submodule(path).parameters()
    }
    return {name for name, each in bundle.model.named_parameters(remove_duplicate=False) if id(each) in embeddings}
