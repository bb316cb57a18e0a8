"""Changing how many layers a model has. The only place that does."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from torch import nn

from come.models.bundle import Bundle
from come.models.offload import hook_stores


def share(module: Any) -> Any:
    """A copy of a module, or of a whole model, with modules and config of its own over the same weight tensors."""
    return copy.deepcopy(module, memo=_memo(module))


def with_layers(bundle: Bundle, layers: Sequence[nn.Module], origins: Sequence[int]) -> Bundle:
    """The same model with other decoder layers; weights that stay are shared, the bundle given is left as it was.

    Each layer of the new model is a module of its own, because it needs its own ``layer_idx`` for the KV cache.

    Args:
        bundle: the model to start from.
        layers: the decoder layers of the new model, in order.
        origins: for each, the layer of ``bundle`` whose entry in the config's per-layer lists it takes over.
    """
    # Copying without the old layers: the new ones are put in below.
    old_layers = bundle.layers
    model = _share_without(bundle, old_layers)
    new_layers = nn.ModuleList(_placed(layer, index, model.config) for index, layer in enumerate(layers))
    model.set_submodule(bundle.family.layers, new_layers)
    _resize(model.config, len(old_layers), origins)
    return Bundle(model, bundle.tokenizer, bundle.family, bundle.source, bundle.revision)


def attention_kind(config: Any, layer: int) -> str:
    """How a layer attends, by the config: "full_attention" unless the config says otherwise."""
    kinds = getattr(config, "layer_types", None)
    return str(kinds[layer]) if kinds else "full_attention"


def _share_without(bundle: Bundle, layers: nn.ModuleList) -> Any:
    memo = _memo(bundle.model)
    memo[id(layers)] = nn.ModuleList()
    return copy.deepcopy(bundle.model, memo=memo)


def _placed(layer: nn.Module, index: int, config: Any) -> nn.Module:
    """A copy of a layer, over the same weights, that knows its place in a model and shares the model's config."""
    memo = _memo(layer)
    memo |= {id(module.config): config for module in layer.modules() if hasattr(module, "config")}
    placed = copy.deepcopy(layer, memo=memo)
    for module in placed.modules():
        if hasattr(module, "layer_idx"):
            setattr(module, "layer_idx", index)  # noqa: B010 - Module types its attributes as tensors
    return placed


def _memo(module: nn.Module) -> dict[int, Any]:
    """What ``copy.deepcopy`` takes for parts of a module: the weights themselves, and new dicts for empty ones.

    A module has ten dicts of hooks, nearly all empty; copying these one by one is most of a copy's time.
    """
    weights = (*module.parameters(), *module.buffers(), *hook_stores(module))
    dicts = (part for each in module.modules() for part in vars(each).values() if type(part) in (dict, OrderedDict))
    return {id(each): each for each in weights} | {id(part): type(part)() for part in dicts if not part}


def _resize(config: Any, old: int, origins: Sequence[int]) -> None:
    """Shorten everything in a config that has one entry a layer."""
    for name, value in list(vars(config).items()):
        if "layer" in name and isinstance(value, list | tuple) and len(value) == old:
            setattr(config, name, type(value)(value[origin] for origin in origins))
    config.num_hidden_layers = len(origins)
