"""Windows of layers: how long they are, what one costs, which to merge next, whether a choice by hand makes sense."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from come.errors import ComeError
from come.numbers import is_number
from come.transforms.compatible import Model, mixable

Window = tuple[int, int]
SEQUENCES_FOR_AN_ERROR = 3  # fewer say nothing of how sure a difference is


@dataclass(frozen=True)
class WindowCost:
    """What merging a window costs: KL(original || changed) on tokens that nothing is fitted on, in nats a token.

    Attributes:
        first, last: the window.
        parallel: its layers side by side instead, all of them whole (the *parallel error*).
        merged: the merge, as CoMe-Joint makes it.
        removal: all of its layers but one gone instead, nothing else changed; of a pair the cheaper of both.
        removal_refitted: the same with both output maps of the layer that stays moved as those of a merge are.
        stays: that layer.
        by_sequence: ``merged`` of each sequence that scores, of as many tokens each.
        seconds: how long it took to find out.
    """

    first: int
    last: int
    parallel: float
    merged: float
    removal: float
    removal_refitted: float
    stays: int
    by_sequence: tuple[float, ...] = ()
    seconds: float = 0.0

    @property
    def window(self) -> Window:
        """(first, last)."""
        return self.first, self.last

    @property
    def unit_error(self) -> float:
        """What the merge costs beyond the parallel error: its units are fewer, its maps moved; it may be below zero."""
        return self.merged - self.parallel

    def clearly_below(self, other: WindowCost) -> bool:
        """Whether its merge costs less than another's: by two standard errors over sequences, in either half of them.

        The second half of what is measured beside an analysis is of other kinds of text.
        """
        ours, theirs = torch.tensor(self.by_sequence), torch.tensor(other.by_sequence)
        if len(ours) != len(theirs) or len(ours) < SEQUENCES_FOR_AN_ERROR:
            return False
        saved = theirs - ours
        both = all(float(half.mean()) > 0 for half in saved.tensor_split(2))
        return both and float(saved.mean()) > 2 * float(saved.std()) / math.sqrt(len(saved))


def window_size(span: int, layers: int, target_layers: int) -> int:
    """How many layers the next window takes: ``span``, or what is still to go plus one where that is less."""
    return min(span, layers - target_layers + 1)


def window_sizes(layers: int, target_layers: int, span: int) -> list[int]:
    """How many layers each window takes, to the target."""
    sizes = []
    while layers > target_layers:
        sizes.append(window_size(span, layers, target_layers))
        layers -= sizes[-1] - 1
    return sizes


def merges_a_pass(layers: int, target_layers: int, span: int, passes: int | None) -> int:
    """How many windows are merged after one measuring pass.

    Raises:
        ComeError: there are more passes than merges, or none.
    """
    merges = len(window_sizes(layers, target_layers, span))
    if passes is None:
        return 1
    if not 1 <= passes <= merges:
        raise ComeError(
            f"{passes} measuring passes do not fit {merges} merges.", f"Give a number from 1 to {merges}, or none."
        )
    return math.ceil(merges / passes)


def merged_away(windows: Iterable[Window]) -> int:
    """How many layers fewer there are once windows are merged."""
    return sum(last - first for first, last in windows)


def choose(skip_influence: Tensor, size: int, merged: Sequence[bool], no_repeat: bool) -> Window:
    """The window of lowest SBI, the first on ties.

    Args:
        skip_influence: SBI over windows of ``size`` layers, (layers - size + 1,).
        size: layers in the window.
        merged: for each layer, whether it is a merge already.
        no_repeat: leave out windows with a layer that is a merge already, as long as there are others.
    """
    return choose_several({size: skip_influence}, [size], merged, no_repeat)[0]


def choose_several(
    skip_influence: Mapping[int, Tensor], sizes: Sequence[int], merged: Sequence[bool], no_repeat: bool
) -> list[Window]:
    """``choose_lowest`` by SBI.

    Args:
        skip_influence: by size of window, SBI over such windows, (layers - size + 1,); infinite where a window's
            layers cannot become one.
        sizes: how many layers each window takes, in the order of choosing.
        merged, no_repeat: as for ``choose``.
    """
    possible = {size: values.isfinite() for size, values in skip_influence.items()}
    return choose_lowest(lambda size, _: skip_influence[size], possible, sizes, merged, no_repeat)


def choose_lowest(
    cost: Callable[[int, Tensor], Tensor],
    possible: Mapping[int, Tensor],
    sizes: Sequence[int],
    merged: Sequence[bool],
    no_repeat: bool,
) -> list[Window]:
    """Disjoint windows, each of lowest cost among those left when it is chosen; returned lowest layer first.

    Fewer than asked for where no more fit; always at least one.

    Args:
        cost: given a size and which windows of that size are in question, (layers - size + 1,), what each of these
            costs; what it says of others does not count.
        possible: by size of window, whether a window's layers can become one.
        sizes: how many layers each window takes, in the order of choosing.
        merged, no_repeat: as for ``choose``.
    """
    taken = [False] * len(merged)
    windows: list[Window] = []
    for size in sizes:
        free = _untouched(taken, size) & possible[size]
        if not free.any():
            break
        fresh = free & _untouched(merged, size)
        allowed = fresh if no_repeat and fresh.any() else free
        first = int(torch.where(allowed, cost(size, allowed), torch.inf).argmin())
        taken[first : first + size] = [True] * size
        windows.append((first, first + size - 1))
    return sorted(windows)


def _untouched(marked: Sequence[bool], size: int) -> Tensor:
    """For each window of ``size`` layers, whether none of them is marked."""
    return torch.tensor([not any(marked[first : first + size]) for first in range(len(marked) - size + 1)])


def check_target(target_layers: int, layers: int) -> None:
    """Refuse a target that a model cannot be pruned to.

    Raises:
        ComeError: it is no whole number, below 1 or above the layer count.
    """
    if not is_number(target_layers, whole=True) or not 1 <= target_layers <= layers:
        raise ComeError(
            f"A target of {str(target_layers)[:40]} layers is out of range for a model of {layers} layers.",
            f"Give a number from 1 to {layers}.",
        )


def check_dropped(dropped: Sequence[int], windows: Sequence[Window], layers: int) -> list[int]:
    """Layers to take out, given by hand beside windows; ascending, each once.

    Raises:
        ComeError: one is out of range or in a window, or no layer would be left.
    """
    if isinstance(dropped, str) or not isinstance(dropped, Sequence):
        raise ComeError(f"{dropped!r} is not a list of layers.", "Give the layers to drop, such as [9, 12].")
    for layer in dropped:
        if not isinstance(layer, int):
            raise ComeError(f"{layer!r} is not the number of a layer.", "Give the layers to drop, such as [9, 12].")
        if not 0 <= layer < layers:
            raise ComeError(f"There is no layer {layer} in a model with layers 0 to {layers - 1}.", "Drop another one.")
        if any(first <= layer <= last for first, last in windows):
            raise ComeError(
                f"Layer {layer} cannot be dropped and merged at once.", "Leave it out of the window, or keep it."
            )
    ordered = sorted(set(dropped))
    if len(ordered) == layers:
        raise ComeError("No layer would be left.", "Keep at least one.")
    return ordered


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


def besides_dearest(costs: Tensor, window: Window) -> float:
    """What the layers of a window but the dearest cost on average; costs by layer, (layers,), infinite if unknown."""
    return float(costs[window[0] : window[1] + 1].sort().values[:-1].mean())


def windows_by_cost(model: Model, costs: Tensor, smallest: int, largest: int) -> list[Window]:
    """The windows that can be merged, by what all but their dearest layer cost.

    Args:
        model: the model, its facts or its config.
        costs: of each layer's removal, (layers,), or its block influence; infinite where it is not known.
        smallest, largest: layers in a window.
    """
    found: list[tuple[float, Window]] = []
    for size in range(smallest, largest + 1):
        for first in range(len(costs) - size + 1):
            cost = besides_dearest(costs, (first, first + size - 1))
            if math.isfinite(cost) and mixable(model, first, first + size - 1) is None:
                found.append((cost, (first, first + size - 1)))
    return [window for _, window in sorted(found)]


def dearest(costs: Tensor, window: Window) -> int:
    """The layer of a window that costs most, by what each layer does, (layers,)."""
    return window[0] + int(costs[window[0] : window[1] + 1].argmax())
