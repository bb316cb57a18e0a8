"""Norms folded into the maps that they feed: behind plain norms, maps of different layers read the same states."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from come.models import Bundle, Family
from come.models.depth import share
from come.models.family import path_of
from come.models.offload import weight_of
from come.plan.steps import Concatenate


def unfolded_norms(bundle: Bundle, layer: int) -> list[str]:
    """The norms in front of a layer's sub-layers that cannot be folded into the maps that they feed."""
    module, family = bundle.layers[layer], bundle.family
    return sorted(set(_norms(family, module)) - set(folded_norms(family, module).values()))


def note_of_folding(bundle: Bundle, step: Concatenate) -> str | None:
    """What a reader of the plan should know of a step that folds norms; None if nothing."""
    stay = unfolded_norms(bundle, step.window[0]) if step.fold else []
    if not stay:
        return None
    return (
        f"{', '.join(stay)} of layers {step.window[0]} to {step.window[1]} (numbering of their step) cannot be folded "
        "into the maps that they feed and are averaged."
    )


def folded_norms(family: Family, layer: nn.Module) -> dict[str, str]:
    """By map, the norm that goes into it: one without a bias, or with all maps that it feeds having one."""

    def biased(path: str) -> bool:
        return getattr(layer.get_submodule(path), "bias", None) is not None

    fed = _norms(family, layer)
    return {path: norm for norm, maps in fed.items() if not biased(norm) or all(map(biased, maps)) for path in maps}


def with_norm(
    maps: Mapping[str, Sequence[Tensor]], norms: Mapping[str, Sequence[Tensor]], family: Family
) -> dict[str, list[Tensor]]:
    """A map's weights and biases, one a layer, float32, that do on plain normed states what they did after its norm.

    Args:
        maps, norms: "weight" and "bias", the tensors of each layer; none where the family's variant has none.
        family: whose maps they are.
    """
    weights, biases = [], []
    for at, weight in enumerate(maps["weight"]):
        gains = (norms["weight"][at].float() + family.norm_offset).to(weight.device)
        matrix = weight.float()
        weights.append(matrix * (gains[:, None] if family.transposed else gains))
        if maps["bias"] and norms["bias"]:
            shift = norms["bias"][at].float().to(weight.device)
            biases.append(maps["bias"][at].float() + (shift @ matrix if family.transposed else matrix @ shift))
    return {"weight": weights, "bias": biases or list(maps["bias"])}


def plain_value(name: str, family: Family) -> float:
    """What every entry of a plain norm's weight or bias is."""
    return 1 - family.norm_offset if name == "weight" else 0.0


@torch.no_grad()
def plain_norm(family: Family, norm: nn.Module) -> nn.Module:
    """A copy of a norm that scales and shifts by nothing."""
    copy: nn.Module = share(norm)
    for name, value in list(norm.named_parameters(recurse=False)):
        _put(copy, name, torch.full_like(value, plain_value(name, family)), value)
    return copy


@torch.no_grad()
def reading(family: Family, layer: nn.Module, through: Mapping[str, Tensor]) -> nn.Module:
    """A copy of a layer with its norms folded, some maps of which read what a matrix makes of the states.

    Args:
        family: whose layer it is.
        layer: as it is; its other weights are shared.
        through: by path of a map, (hidden_size, hidden_size): it reads ``states @ matrix`` in the place of states.
    """
    copy: nn.Module = share(layer)
    folded = folded_norms(family, layer)
    for path in {*folded, *through}:
        maps = _tensors(layer, path)
        if path in folded:
            maps = with_norm(maps, _tensors(layer, folded[path]), family)
        if path in through:
            (weight,), matrix = maps["weight"], through[path]
            weight = weight.float()
            maps["weight"] = [matrix @ weight if family.transposed else weight @ matrix.T]
        for name, values in maps.items():
            if values:
                _put(copy.get_submodule(path), name, values[0], getattr(layer.get_submodule(path), name))
    for path in set(folded.values()):
        *place, own = path.split(".")
        setattr(copy.get_submodule(".".join(place)), own, plain_norm(family, layer.get_submodule(path)))
    return copy


def input_names(family: Family, layer: nn.Module) -> list[str]:
    """The parameters of the maps that a layer's norms feed, and of these norms, where they can be folded."""
    folded = folded_norms(family, layer)
    paths = [path_of(entry) for entry in (*family.attention_inputs, *family.ffn_inputs)]
    return [f"{path}.{name}" for path in dict.fromkeys((*paths, *folded.values())) for name in _named(layer, path)]


def part_at(layer: nn.Module, path: str) -> nn.Module | None:
    """The module at a path of a layer; None where the family's variant has none."""
    try:
        return layer.get_submodule(path)
    except AttributeError:
        return None


def _named(layer: nn.Module, path: str) -> list[str]:
    return [name for name, _ in layer.get_submodule(path).named_parameters(recurse=False)]


def _tensors(layer: nn.Module, path: str) -> dict[str, list[Tensor]]:
    """The weight and the bias at a path; none where there is none."""
    found = {name: weight_of(layer.get_submodule(path), name) for name in ("weight", "bias")}
    return {name: [] if tensor is None else [tensor] for name, tensor in found.items()}


def _norms(family: Family, layer: nn.Module) -> dict[str, list[str]]:
    """The norms in front of a layer's sub-layers, by path, each with the maps that it feeds."""
    fed: dict[str, list[str]] = {}
    for norms, entries in ((family.attention_norms, family.attention_inputs), (family.ffn_norms, family.ffn_inputs)):
        norm = next((path for path in norms if part_at(layer, path) is not None), None)
        if norm is not None:
            fed.setdefault(norm, []).extend(map(path_of, entries))
    return fed


def _put(module: nn.Module, name: str, value: Tensor, like: Tensor) -> None:
    setattr(module, name, nn.Parameter(value.to(like.device, like.dtype).contiguous(), requires_grad=False))
