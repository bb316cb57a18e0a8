"""Building one decoder layer out of the kept pieces of several, and taking a plan's steps."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from come.errors import ComeError
from come.merge.plan import Concatenate, Remove
from come.models import Bundle
from come.models.depth import attention_kind, share, with_layers


def take_step(bundle: Bundle, step: Concatenate | Remove) -> Bundle:
    """The model after one step of a plan; unchanged weights are shared with ``bundle``, which is left as it was."""
    layers = list(bundle.layers)
    if isinstance(step, Remove):
        stay = [layer for layer in range(len(layers)) if layer not in step.layers]
        return with_layers(bundle, [layers[layer] for layer in stay], stay)
    first, last = step.window
    merged, origin = concatenate(bundle, step)
    return with_layers(
        bundle,
        [*layers[:first], merged, *layers[last + 1 :]],
        [*range(first), origin, *range(last + 1, len(layers))],
    )


@torch.no_grad()
def concatenate(bundle: Bundle, step: Concatenate) -> tuple[nn.Module, int]:
    """The layer that a window becomes, and the layer whose entry in the config it takes over (method, steps 4-5).

    Raises:
        ComeError: the plan keeps units that the model does not have.
    """
    family, (first, last) = bundle.family, step.window
    window = list(bundle.layers)[first : last + 1]
    kv_heads = _kv_heads(bundle)
    channels: int = getattr(window[0].get_submodule(family.ffn_output), "weight").shape[1]  # noqa: B009
    _check_units(step, kv_heads, channels)
    for offset, (groups, units) in enumerate(zip(step.kv_groups, step.channels, strict=True)):
        if len(groups) == kv_heads and len(units) == channels:
            return window[offset], first + offset  # all of one layer: that layer as it is

    # Where some layers of the window attend to everything and others do not, the new one attends to everything.
    kinds = [attention_kind(bundle.model.config, layer) for layer in range(first, last + 1)]
    template = kinds.index("full_attention") if "full_attention" in kinds else 0
    new = share(window[template])

    def put(path: str, name: str, value: Tensor) -> None:
        old = getattr(new.get_submodule(path), name)
        value = value.to(old.dtype)
        assert value.shape == old.shape, f"{path}.{name}: {tuple(value.shape)} for {tuple(old.shape)}"
        setattr(new.get_submodule(path), name, nn.Parameter(value, requires_grad=old.requires_grad))

    def parts(path: str, name: str) -> list[Tensor]:
        tensors = [getattr(layer.get_submodule(path), name, None) for layer in window]
        return [tensor for tensor in tensors if tensor is not None]

    maps_by_units: list[tuple[Sequence[str], str, list[list[int]], int]] = [
        ((family.query, family.key, family.value), family.attention_output, step.kv_groups, kv_heads),
        (family.ffn_inputs, family.ffn_output, step.channels, channels),
    ]
    for inputs, output, kept, count in maps_by_units:
        for path in inputs:
            for name in ("weight", "bias"):
                if tensors := parts(path, name):
                    put(path, name, _gather(tensors, kept, count, dim=0))
        put(output, "weight", _gather(parts(output, "weight"), kept, count, dim=1))
        if biases := parts(output, "bias"):
            put(output, "bias", _weighted(biases, step.ratio))
    for path in family.norms:
        for name in ("weight", "bias"):
            if tensors := parts(path, name):
                put(path, name, torch.stack([tensor.float() for tensor in tensors]).mean(0))
    for path in family.head_norms:
        put(path, "weight", _weighted(parts(path, "weight"), step.ratio))
    return new, first + template


def _gather(tensors: Sequence[Tensor], kept: Sequence[Sequence[int]], units: int, dim: int) -> Tensor:
    """The kept units of each layer along ``dim``, one layer after the other; a unit may be several rows."""
    pieces = []
    for tensor, indices in zip(tensors, kept, strict=True):
        block = tensor.shape[dim] // units
        rows = (torch.tensor(indices, dtype=torch.long)[:, None] * block + torch.arange(block)).flatten()
        pieces.append(tensor.index_select(dim, rows.to(tensor.device)).to(tensors[0].device))
    return torch.cat(pieces, dim)


def _weighted(tensors: Sequence[Tensor], ratio: Sequence[float]) -> Tensor:
    return sum(share * tensor.float().to(tensors[0].device) for share, tensor in zip(ratio, tensors, strict=True))  # type: ignore[return-value]


def _kv_heads(bundle: Bundle) -> int:
    config = bundle.model.config
    return int(getattr(config, "num_key_value_heads", None) or config.num_attention_heads)


def _check_units(step: Concatenate, kv_heads: int, channels: int) -> None:
    for name, kept, units in (
        ("KV groups", step.kv_groups, kv_heads),
        ("FFN channels", step.channels, channels),
    ):
        if sum(map(len, kept)) != units or any(indices and indices[-1] >= units for indices in kept):
            raise ComeError(
                f"The plan keeps {sum(map(len, kept))} {name} where a layer of this model has {units}.",
                "Use the plan with the model it was made for.",
            )
