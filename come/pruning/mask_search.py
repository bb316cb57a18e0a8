"""Which units to silence for a budget, by their Fisher information (Kwon et al. 2022, arXiv 2204.09656)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from come.plan.steps import Units
from come.pruning.sub_layer_latency import Line


def search(importance: list[Tensor], one: list[int], whole: list[int], to_remove: int) -> list[Units]:
    """The units of least importance per parameter whose removal saves what is wanted, and no unit more.

    Args:
        importance: of KV groups, (layers, kv_heads), and of FFN channels, (layers, channels).
        one: how many parameters one KV group and one FFN channel have.
        whole: how many all of a layer's have: more than their sum, where the output map has a bias.
        to_remove: how many parameters to save at least.

    Returns:
        by layer, the KV groups, and the FFN channels.
    """
    units = [
        (kind, layer, unit)
        for kind, each in enumerate(importance)
        for layer in range(each.shape[0])
        for unit in range(each.shape[1])
    ]
    worth = torch.cat([each.flatten() / size for each, size in zip(importance, one, strict=True)])
    order = [units[at] for at in worth.sort(stable=True).indices.tolist()]
    silenced: list[list[set[int]]] = [[set() for _ in each] for each in importance]
    counts = [each.shape[1] for each in importance]
    bias = [whole[kind] - one[kind] * counts[kind] for kind in (0, 1)]
    saved, taken = 0, 0
    while saved < to_remove and taken < len(order):
        kind, layer, unit = order[taken]
        silenced[kind][layer].add(unit)
        saved += one[kind] + bias[kind] * (len(silenced[kind][layer]) == counts[kind])
        taken += 1
    for kind, layer, unit in reversed(order[:taken]):
        if saved - min(one) < to_remove:
            break
        least = saved - one[kind] - bias[kind] * (len(silenced[kind][layer]) == counts[kind])
        if least >= to_remove:
            silenced[kind][layer].remove(unit)
            saved = least
    return [{layer: sorted(gone) for layer, gone in enumerate(kind) if gone} for kind in silenced]


@dataclass(frozen=True)
class _Kept:
    """What one kind of sub-layers may keep where some of them are silenced whole; units by flat numbers.

    Attributes:
        base: the units of those that stay up to the threshold of the latency, which come at a constant cost.
        rest: all their other units, most important first.
        importance: the sum over ``base``, and over 0, 1, 2, ... of ``rest`` more, (rest + 1,) float64.
        fixed: seconds of ``base``.
    """

    base: Tensor
    rest: Tensor
    importance: Tensor
    fixed: float

    def kept(self, more: int) -> Tensor:
        """``base`` and so many units more."""
        return torch.cat([self.base, self.rest[:more]])


def search_latency(importance: list[Tensor], lines: list[Line], budget: float) -> list[Units]:
    """The units to silence so that those kept matter most within a latency: the paper's Algorithm 2.

    In each attention and FFN that stays, the most important units up to the threshold come at a constant cost. Those
    sub-layers go whole whose such units matter least, and every count of them is tried, but for all; then every count
    of other KV groups, the most important of all layers first, and as many FFN channels as the rest of the time allows.

    Args:
        importance: of KV groups, (layers, kv_heads), and of FFN channels, (layers, channels).
        lines: what an attention and an FFN take by their units.
        budget: seconds of all sub-layers together.

    Returns:
        by layer, the KV groups, and the FFN channels.
    """
    groups, most = list(_choices(importance[0].double(), lines[0])), -math.inf
    best: tuple[Tensor, Tensor] | None = None
    for ffn in _choices(importance[1].double(), lines[1]):
        for attention in groups:
            # What is left for channels with 0, 1, 2, ... more groups; a rounding error is no reason to have one less.
            counts = torch.arange(len(attention.rest) + 1, dtype=torch.float64)
            left = budget * (1 + 1e-12) - attention.fixed - ffn.fixed - lines[0].slope * counts
            left = left[left >= 0]
            if not len(left):
                continue
            room = torch.full(left.shape, len(ffn.rest))
            if lines[1].slope > 0:
                room = (left / lines[1].slope + 1e-9).clamp(max=len(ffn.rest)).floor().long()
            kept = attention.importance[: len(left)] + ffn.importance[room]
            if float(kept.max()) > most:
                more = int(kept.argmax())
                most, best = float(kept[more]), (attention.kept(more), ffn.kept(int(room[more])))
    assert best is not None, "a budget has room for the constant cost of one layer"
    return [_silenced(kept, each) for kept, each in zip(best, importance, strict=True)]


def _choices(importance: Tensor, line: Line) -> Iterator[_Kept]:
    """What may be kept with no sub-layer silenced whole, with one, ..., with all but one."""
    layers, units = importance.shape
    values, order = importance.sort(dim=1, descending=True, stable=True)
    flat = order + units * torch.arange(layers)[:, None]
    base = values[:, : line.threshold].sum(1)
    least_first = base.sort(stable=True).indices
    for gone in range(layers):
        stay = least_first[gone:].sort().values
        rest = values[stay, line.threshold :].flatten().sort(descending=True, stable=True)
        yield _Kept(
            base=flat[stay, : line.threshold].flatten(),
            rest=flat[stay, line.threshold :].flatten()[rest.indices],
            importance=base[stay].sum() + torch.cat([rest.values.new_zeros(1), rest.values.cumsum(0)]),
            fixed=len(stay) * line.constant,
        )


def _silenced(kept: Tensor, importance: Tensor) -> Units:
    """By layer, the units that are not kept, of which the flat numbers are given."""
    silent = torch.ones(importance.numel(), dtype=torch.bool)
    silent[kept] = False
    by_layer = enumerate(silent.view_as(importance))
    return {layer: row.nonzero()[:, 0].tolist() for layer, row in by_layer if bool(row.any())}
