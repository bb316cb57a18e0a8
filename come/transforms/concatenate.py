"""Building one decoder layer out of the kept pieces of several."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from come.errors import ComeError
from come.models import Bundle, Fused
from come.models.depth import attention_kind, share
from come.models.family import path_of, unit_rows
from come.models.offload import bring_in, weight_of
from come.plan.steps import Concatenate
from come.transforms.compatible import mixable
from come.transforms.folding import folded_norms, part_at, plain_value, with_norm


@torch.no_grad()
def concatenate(bundle: Bundle, step: Concatenate) -> tuple[nn.Module, int]:
    """The layer that a window becomes, and the layer whose entry in the config it takes over (method, steps 4-5).

    Raises:
        ComeError: the plan keeps units that the model does not have, or mixes layers that do not mix.
    """
    family, shape, (first, last) = bundle.family, bundle.shape, step.window
    window = list(bundle.layers)[first : last + 1]
    _check_units(step, shape.kv_heads, shape.channels)
    for offset, (groups, units) in enumerate(zip(step.kv_groups, step.channels, strict=True)):
        if len(groups) == shape.kv_heads and len(units) == shape.channels:
            return window[offset], first + offset  # all of one layer: that layer as it is
    if reason := mixable(bundle, first, last):
        raise ComeError(reason, "Choose windows of layers of one kind.")

    # Where some layers of the window attend to everything and others do not, the new one attends to everything.
    kinds = [attention_kind(bundle.model.config, layer) for layer in range(first, last + 1)]
    template = kinds.index("full_attention") if "full_attention" in kinds else 0
    new = share(window[template])
    bring_in(new, filled=False)

    def parts(path: str, name: str) -> list[Tensor]:
        """A tensor of every layer of the window; none where the family's variant has none."""
        modules = [part_at(layer, path) for layer in window]
        tensors = [weight_of(module, name) for module in modules if module is not None]
        return [tensor for tensor in tensors if tensor is not None]

    def both(path: str) -> dict[str, list[Tensor]]:
        return {name: parts(path, name) for name in ("weight", "bias")}

    def put(path: str, name: str, value: Tensor) -> None:
        old = getattr(new.get_submodule(path), name)
        value = value.to(old.dtype)
        assert value.shape == old.shape, f"{path}.{name}: {tuple(value.shape)} for {tuple(old.shape)}"
        setattr(new.get_submodule(path), name, nn.Parameter(value, requires_grad=old.requires_grad))

    folded = folded_norms(family, new) if step.fold else {}

    def put_rows(entry: str | Fused, kept: list[list[int]], units: int) -> None:
        """The kept units' rows; a weight's lie along its second dimension where it is stored transposed."""
        path = path_of(entry)
        maps = both(path)
        if path in folded:
            maps = with_norm(maps, both(folded[path]), family)
        for name, tensors in maps.items():
            if tensors:
                dim = 1 if family.transposed and tensors[0].ndim == 2 else 0
                tables = unit_rows(entry, tensors[0].shape[dim], units, shape.heads // shape.kv_heads)
                put(path, name, _gather(tensors, kept, tables, dim))

    def put_columns(path: str, kept: list[list[int]], units: int) -> None:
        """The kept units' columns; the bias, which no unit owns, is weighted."""
        weights, dim = parts(path, "weight"), 0 if family.transposed else 1
        put(path, "weight", _gather(weights, kept, unit_rows(path, weights[0].shape[dim], units), dim))
        if biases := parts(path, "bias"):
            put(path, "bias", _weighted(biases, step.ratio))

    for entry in (*family.attention_inputs, *family.norms_by_head):
        put_rows(entry, step.kv_groups, shape.kv_heads)
    put_columns(family.attention_output, step.kv_groups, shape.kv_heads)
    for entry in family.ffn_inputs:
        put_rows(entry, step.channels, shape.channels)
    put_columns(family.ffn_output, step.channels, shape.channels)
    for path in family.averaged_norms:
        for name, tensors in both(path).items():
            if tensors and path in folded.values():
                put(path, name, torch.full_like(tensors[0], plain_value(name, family)))
            elif tensors:
                put(path, name, torch.stack([tensor.float().to(tensors[0].device) for tensor in tensors]).mean(0))
    for path in family.head_norms:
        put(path, "weight", _weighted(parts(path, "weight"), step.ratio))
    return new, first + template


def _gather(tensors: Sequence[Tensor], kept: Sequence[Sequence[int]], tables: Sequence[Tensor], dim: int) -> Tensor:
    """The kept units of each layer along ``dim``, one layer after the other within each stretch of rows.

    Args:
        tensors: one a layer.
        kept: for each layer, the indices of its kept units.
        tables: for each stretch of rows, which belong to which unit, (units, rows of a unit).
        dim: along which the rows lie.
    """
    pieces = []
    for table in tables:
        for tensor, indices in zip(tensors, kept, strict=True):
            rows = table[torch.tensor(indices, dtype=torch.long)].flatten()
            pieces.append(tensor.index_select(dim, rows.to(tensor.device)).to(tensors[0].device))
    return torch.cat(pieces, dim)


def _weighted(tensors: Sequence[Tensor], ratio: Sequence[float]) -> Tensor:
    return sum(share * tensor.float().to(tensors[0].device) for share, tensor in zip(ratio, tensors, strict=True))  # type: ignore[return-value]


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
