"""Changing how many layers a model has. The only place that does."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from come.models.bundle import Bundle
from come.models.offload import hook_stores


def share(module: Any) -> Any:
    """A copy of a module, or of a whole model, with modules and config of its own over the same weight tensors."""
    return _copy(module, _weights(module))


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
    return replace(bundle, model=model, plan=None)


def attention_kind(config: Any, layer: int) -> str:
    """How a layer attends, by the config: "full_attention" unless the config says otherwise."""
    kinds = getattr(config, "layer_types", None)
    return str(kinds[layer]) if kinds else "full_attention"


def _share_without(bundle: Bundle, layers: nn.ModuleList) -> Any:
    memo = _weights(bundle.model)
    memo[id(layers)] = nn.ModuleList()
    return _copy(bundle.model, memo)


def _placed(layer: nn.Module, index: int, config: Any) -> nn.Module:
    """A copy of a layer, over the same weights, that knows its place in a model and shares the model's config."""
    memo = _weights(layer)
    memo |= {id(module.config): config for module in layer.modules() if hasattr(module, "config")}
    placed: nn.Module = _copy(layer, memo)
    for module in placed.modules():
        if hasattr(module, "layer_idx"):
            setattr(module, "layer_idx", index)  # noqa: B010 - Module types its attributes as tensors
    return placed


def _weights(module: nn.Module) -> dict[int, Any]:
    """What a copy of a module takes over instead of copying it, for ``copy.deepcopy``."""
    return {id(each): each for each in (*module.parameters(), *module.buffers(), *hook_stores(module))}


def _copy(module: Any, memo: dict[int, Any]) -> Any:
    """``copy.deepcopy`` of a module in a third of the time: most of what it holds are plain values and empty dicts."""
    if id(module) in memo:
        return memo[id(module)]
    if not isinstance(module, nn.Module) or hasattr(module, "__deepcopy__"):
        return copy.deepcopy(module, memo)
    copied = memo[id(module)] = type(module).__new__(type(module))
    for name, value in vars(module).items():
        if name == "_modules":
            mine: Any = {key: _copy(part, memo) for key, part in value.items()}
        elif value is None or type(value) in (bool, int, float, str):
            mine = value
        elif type(value) in (dict, OrderedDict) and not value:
            mine = type(value)()
        else:
            mine = copy.deepcopy(value, memo)
        copied.__dict__[name] = mine
    return copied


def _resize(config: Any, old: int, origins: Sequence[int]) -> None:
    """Have everything in a config that has one entry a layer, or counts layers, follow the depth."""
    depth = len(origins)
    for name, value in list(vars(config).items()):
        if "layer" in name and isinstance(value, list | tuple) and len(value) == old:
            setattr(config, name, type(value)(value[origin] for origin in origins))
        elif name.endswith(("layers", "n_layer")) and type(value) is int and value == old:
            setattr(config, name, depth)
    config.num_hidden_layers = depth
    if hasattr(config, "max_window_layers"):
        config.max_window_layers = _layers_below_windows([attention_kind(config, layer) for layer in range(depth)])
    for name, entries, usual in _EVERY:
        every = _period([entry == usual for entry in getattr(config, entries, None) or ()])
        if every is not None and hasattr(config, name):
            setattr(config, name, every)


# Entries that make every so manieth layer another one: the list that says the same layer by layer, and its usual entry.
_EVERY = (
    ("sliding_window_pattern", "layer_types", "sliding_attention"),
    ("_sliding_window_pattern", "layer_types", "sliding_attention"),
    ("no_rope_layer_interval", "no_rope_layers", 1),
)


def _layers_below_windows(kinds: list[str]) -> int:
    """How many layers lie below the first with a window; all, where such a count cannot say which have one."""
    below = kinds.index("sliding_attention") if "sliding_attention" in kinds else len(kinds)
    return below if "full_attention" not in kinds[below:] else len(kinds)


def _period(usual: list[bool]) -> int | None:
    """n, where every nth layer and no other is unusual; None where there is none, or no layer is told of."""
    every = usual.index(False) + 1 if False in usual else len(usual) + 1
    return every if usual and usual == [(layer + 1) % every != 0 for layer in range(len(usual))] else None
