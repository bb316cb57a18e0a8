"""Which window of layers to merge next, and whether a choice by hand makes sense."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

from come.errors import ComeError

Window = tuple[int, int]


def window_size(span: int, layers: int, target_layers: int) -> int:
    """How many layers the next window takes: ``span``, or what is still to go plus one where that is less."""
    return min(span, layers - target_layers + 1)


def choose(skip_influence: Tensor, size: int, merged: Sequence[bool], no_repeat: bool) -> Window:
    """The window of lowest SBI, the first on ties.

    Args:
        skip_influence: SBI over windows of ``size`` layers, (layers - size + 1,).
        size: layers in the window.
        merged: for each layer, whether it is a merge already.
        no_repeat: leave out windows with a layer that is a merge already, as long as there are others.
    """
    allowed = torch.ones_like(skip_influence, dtype=torch.bool)
    if no_repeat:
        fresh = torch.tensor([not any(merged[first : first + size]) for first in range(len(skip_influence))])
        allowed = fresh if fresh.any() else allowed
    first = int(torch.where(allowed, skip_influence, torch.inf).argmin())
    return first, first + size - 1


def check_target(target_layers: int, layers: int) -> None:
    """Refuse a target that a model cannot be pruned to.

    Raises:
        ComeError: it is below 1 or above the layer count.
    """
    if not 1 <= target_layers <= layers:
        raise ComeError(
            f"A target of {target_layers} layers is out of range for a model of {layers} layers.",
            f"Give a number from 1 to {layers}.",
        )


def check_windows(windows: Sequence[Window], layers: int) -> list[Window]:
    """Windows given by hand, lowest first.

    Raises:
        ComeError: one is out of range, has fewer than two layers, or overlaps another.
    """
    for window in windows:
        if len(window) != 2 or not all(isinstance(end, int) for end in window):
            raise ComeError(f"{window} is not a window.", "Give the first and the last layer, such as (4, 5).")
    ordered = sorted((int(first), int(last)) for first, last in windows)
    for first, last in ordered:
        if not 0 <= first < last < layers:
            raise ComeError(
                f"The window {first}-{last} does not fit a model with layers 0 to {layers - 1}.",
                "A window has at least two layers, the first before the last.",
            )
    for (first, last), (next_first, next_last) in itertools.pairwise(ordered):
        if next_first <= last:
            raise ComeError(
                f"The windows {first}-{last} and {next_first}-{next_last} overlap.",
                "Give windows that share no layer.",
            )
    return ordered
