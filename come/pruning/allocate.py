"""What a merged layer keeps of each layer: the ratio, the units it comes to, which those are, and so the step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import torch
from torch import Tensor

from come.errors import ComeError
from come.numbers import is_number
from come.plan.steps import Concatenate
from come.pruning.windows import Window


def ratio_from_influence(influence: Sequence[float], exponent: float, floor: float, stands_for: int) -> list[float]:
    """The share of each layer of a window (method, step 2): proportional to (BI_l / sum BI) ** exponent.

    Args:
        influence: the block influence of each layer of the window.
        exponent: above 1 favours the most influential layer, 0 makes equal shares.
        floor: the largest share is at least ``floor ** (1 / (stands_for - 1))``; 0 turns this off.
        stands_for: how many original layers the window stands for.

    Returns:
        Shares that sum to 1, one a layer.
    """
    total = sum(influence)
    if total <= 0:
        return [1 / len(influence)] * len(influence)
    powers = [(value / total) ** exponent for value in influence]
    if not any(powers):  # an exponent of thousands, at which all of them are less than a float can tell from 0
        powers = [float(value == max(influence)) for value in influence]
    shares = [power / sum(powers) for power in powers]
    least = floor ** (1 / (stands_for - 1))
    largest = shares.index(max(shares))
    if shares[largest] >= least:
        return shares
    others = 1 - shares[largest]
    return [least if i == largest else share * (1 - least) / others for i, share in enumerate(shares)]


def pair_ratio(steps: int, of: int) -> tuple[Fraction, Fraction]:
    """The ratio of a pair whose first layer gets ``steps`` of ``of`` equal parts.

    Exact: as floating-point numbers, 0.2 of five units are fewer than one where 0.2 is 1 - 0.8.
    """
    return Fraction(steps, of), Fraction(of - steps, of)


def allocate(units: int, ratio: Sequence[float | Fraction]) -> list[int]:
    """How many of ``units`` each layer of a window gets: floor(units * share), the largest share taking the rest."""
    counts = [math.floor(units * share) for share in ratio]
    largest = list(ratio).index(max(ratio))
    counts[largest] += units - sum(counts)
    return counts


def most_sensitive(sensitivity: Tensor, count: int) -> list[int]:
    """The indices of the ``count`` most sensitive units, (units,), in their own order; the first wins a tie."""
    ranked = torch.sort(sensitivity, descending=True, stable=True).indices
    return sorted(ranked[:count].tolist())


def concatenation(
    window: Window, ratio: Sequence[float | Fraction], kv_groups: Sequence[Tensor], channels: Sequence[Tensor]
) -> Concatenate:
    """The step that merges a window: the units that the ratio gives each layer, the most sensitive first.

    Args:
        window: (first, last), in the numbering of the step.
        ratio: the share of each layer.
        kv_groups: for each layer of the window, the sensitivity of its KV groups, (kv_heads,).
        channels: for each layer of the window, the sensitivity of its FFN channels, (channels,).
    """

    def keep(sensitivity: Sequence[Tensor]) -> list[list[int]]:
        counts = allocate(len(sensitivity[0]), ratio)
        return [most_sensitive(units, count) for units, count in zip(sensitivity, counts, strict=True)]

    shares = [float(share) for share in ratio]
    return Concatenate(window=window, ratio=shares, kv_groups=keep(kv_groups), channels=keep(channels))


def check_ratio(ratio: Sequence[float], layers: int) -> None:
    """Refuse a ratio given by hand that cannot be one.

    Raises:
        ComeError: it has not one share a layer, a share is negative or no number, or they do not sum to 1.
    """
    if not all(map(is_number, ratio)):
        raise ComeError(
            "A share of the ratio is no finite number.", "Give one share a layer, none negative, that sum to 1."
        )
    shown = ", ".join(f"{share:g}" for share in ratio)
    if len(ratio) != layers:
        raise ComeError(
            f"The ratio ({shown}) has {len(ratio)} shares for a window of {layers} layers.",
            "Give one share a layer.",
        )
    if any(share < 0 for share in ratio) or abs(sum(ratio) - 1) > 1e-6:
        raise ComeError(
            f"The ratio ({shown}) does not sum to 1.", "Give one share a layer, none negative, that sum to 1."
        )
