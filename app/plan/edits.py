"""Edits of a draft: presets, windows moved, dropped and added by hand, ratios. Drafts in, drafts out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from app.state import foreseen
from app.state.choice import Draft, by_hand
from come.measurement.measurement import Measurement
from come.models import Facts
from come.pruning.forecast import Forecast
from come.pruning.registry import PAPER, fits_windows
from come.pruning.windows import WindowCost


@dataclass(frozen=True)
class Preset:
    """A plan in one click: a `share` of the parameters, automatic, or so many `pairs` as windows by hand."""

    label: str
    help: str
    share: float | None = None
    pairs: int | None = None


_BY = "that CoMe would begin with; with CoMe-Joint, the cheapest of the list below, once costs are measured"
PRESETS = (
    Preset("10%", "Remove at least 10% of the parameters, chosen automatically.", share=0.1),
    Preset("20%", "Remove at least 20% of the parameters, chosen automatically.", share=0.2),
    Preset("30%", "Remove at least 30% of the parameters, chosen automatically.", share=0.3),
    Preset("One pair", f"Merge the pair of layers {_BY}.", pairs=1),
    Preset("Three pairs", f"Merge the three pairs {_BY}.", pairs=3),
)


def apply(
    preset: Preset, draft: Draft, measured: Measurement | None, facts: Facts, costs: Sequence[WindowCost] = ()
) -> Draft:
    """The plan of a preset, with the method's options kept; `costs` is what merging windows was measured to cost.

    Raises:
        ComeError: the model is too small for it.
    """
    if preset.share is not None:
        facts.layers_for_sparsity(preset.share)
        return replace(draft, target_layers=None, sparsity=preset.share, windows=None, ratios=None, dropped=())
    assert preset.pairs is not None and measured is not None
    if fits_windows(draft.method) and (cheapest := _cheapest_pairs(preset.pairs, costs)):
        return by_hand(draft, cheapest)
    found = foreseen.forecast(Draft(PAPER, target_layers=facts.layers - preset.pairs), measured, facts)
    assert found is not None
    return by_hand(draft, chosen(found))


def _cheapest_pairs(count: int, costs: Sequence[WindowCost]) -> list[tuple[int, int]] | None:
    """So many pairs that share no layer, each the cheapest measured that is left, lowest first; None of too few."""
    found: list[tuple[int, int]] = []
    for each in sorted(costs, key=lambda cost: cost.merged):
        apart = all(each.last < first or last < each.first for first, last in found)
        if each.last == each.first + 1 and apart and len(found) < count:
            found.append(each.window)
    return sorted(found) if len(found) == count else None


def chosen(found: Forecast) -> list[tuple[int, int]]:
    """The windows of a forecast, (first, last)."""
    return [(window.first, window.last) for window in found.windows]


def next_window(draft: Draft, facts: Facts, costs: Sequence[WindowCost] = ()) -> tuple[int, int] | None:
    """A pair of neighbours that the plan leaves as they are; None without any.

    The one whose merge was measured to cost least; where none was, the first from the middle on.
    """
    layers = range(facts.layers)
    # A link's windows may reach anywhere: only what lies in the model is counted.
    taken = {*draft.dropped}.union(*(layers[max(first, 0) : max(last + 1, 0)] for first, last in draft.windows or []))
    cheapest = [cost.window for cost in sorted(costs, key=lambda cost: cost.merged) if cost.last == cost.first + 1]
    for first, last in cheapest:
        if first not in taken and last not in taken:
            return first, last
    middle = facts.layers // 2
    for first in [*range(middle, facts.layers - 1), *range(middle)]:
        if first not in taken and first + 1 not in taken:
            return first, first + 1
    return None


def reach(end: int, facts: Facts) -> tuple[int, int]:
    """How far an end of a window may be set: within the model, but for one that a link put outside of it.

    That one is shown where it is, and can only be moved towards the model.
    """
    return min(0, end), max(facts.layers - 1, end)


def with_window(draft: Draft, place: int, first: int, last: int) -> Draft:
    """The plan with one window moved; its ratio goes back to equal shares if it has another length now."""
    chosen = list(draft.windows or [])
    ratios = list(draft.ratios) if draft.ratios is not None else None
    chosen[place] = (first, last)
    if ratios is not None and len(ratios[place]) != last - first + 1:
        ratios[place] = equal(last - first + 1)
    return replace(draft, windows=chosen, ratios=ratios)


def without_window(draft: Draft, place: int) -> Draft:
    """The plan without one of its windows."""
    return _with_only(draft, [i for i in range(len(draft.windows or [])) if i != place])


def with_dropped(draft: Draft, layers: Sequence[int]) -> Draft:
    """The plan that takes these layers out as well; windows that hold one of them give way."""
    return replace(kept_whole(draft, layers), dropped=tuple(sorted({*draft.dropped, *layers})))


def kept_whole(draft: Draft, layers: Sequence[int]) -> Draft:
    """The plan that leaves these layers as they are: neither dropped nor in a window."""
    apart = [i for i, (first, last) in enumerate(draft.windows or []) if not any(first <= n <= last for n in layers)]
    return replace(_with_only(draft, apart), dropped=tuple(layer for layer in draft.dropped if layer not in layers))


def moved(draft: Draft, place: int, by: int, facts: Facts) -> Draft | None:
    """The plan with a window so many layers further up, its ratio kept; None where that is not free."""
    chosen = list(draft.windows or [])
    first, last = (end + by for end in chosen[place])
    others = [window for i, window in enumerate(chosen) if i != place]
    if not 0 <= first <= last < facts.layers or any(a <= last and first <= b for a, b in others):
        return None
    if any(first <= layer <= last for layer in draft.dropped):
        return None
    chosen[place] = (first, last)
    return replace(draft, windows=chosen)


def _with_only(draft: Draft, places: Sequence[int]) -> Draft:
    """The plan with its windows at these places of the list only."""
    ratios = None if draft.ratios is None else [draft.ratios[i] for i in places]
    return replace(draft, windows=[(draft.windows or [])[i] for i in places], ratios=ratios)


def equal(layers: int) -> tuple[float, ...]:
    """The same share for each layer; one of a window that is the wrong way round gets all."""
    return tuple(1 / max(layers, 1) for _ in range(max(layers, 1)))


def cuts(ratio: Sequence[float]) -> list[int]:
    """Where a ratio cuts a bar of 100: (0.2, 0.3, 0.5) -> [20, 50]."""
    found, total = [], 0.0
    for share in ratio[:-1]:
        total += share
        found.append(min(round(100 * total), 100))  # of a link, they may sum to more
    return found


def from_cuts(places: Sequence[int]) -> tuple[float, ...]:
    """The ratio of cuts in a bar of 100: [20, 50] -> (0.2, 0.3, 0.5)."""
    edges = [0, *sorted(places), 100]
    return tuple((b - a) / 100 for a, b in pairwise(edges))
