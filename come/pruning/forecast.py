"""What a method would do, told before it runs: from one measurement of the original, or from nothing at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from come.measurement.measurement import Measurement
from come.models import Facts
from come.pruning.draft import DraftWindow, draft, fitted_window
from come.pruning.options import SelectionOptions, WindowOptions
from come.pruning.windows import Window, WindowCost, windows_by_cost


@dataclass(frozen=True)
class Known:
    """What is known before a run.

    Attributes:
        model: what kind of model it is; no weights are needed.
        target_layers: how many layers to leave.
        measurement: of the original model, where there is one.
        costs: what merging windows of it costs, as far as that was measured.
    """

    model: Facts
    target_layers: int
    measurement: Measurement | None = None
    costs: Sequence[WindowCost] = ()

    @property
    def layers(self) -> int:
        """How many layers the original has."""
        return self.model.layers

    @property
    def surplus(self) -> int:
        """How many layers are to go."""
        return self.layers - self.target_layers


@dataclass(frozen=True)
class Forecast:
    """What would become of the original's layers.

    Attributes:
        windows: those that would be merged, and what each merged layer would keep.
        removed: those that would go whole, ascending.
        doubt: why a run on the same tokens may decide otherwise, as half a sentence; empty where it will not.
        fitted: whether the windows' channels are chosen together and maps are moved, as CoMe-Joint does; what is told
            here of the channels that stay is then a guess by their sensitivity.
        by: what the windows were chosen by, where a run tries several: "influence", or the "cost" that was measured.
    """

    windows: list[DraftWindow] = field(default_factory=list)
    removed: list[int] = field(default_factory=list)
    doubt: str = ""
    fitted: bool = False
    by: Literal["", "influence", "cost"] = ""


def doubts(last_state: str, measurement: Measurement, *others: str) -> str:
    """A forecast's doubt: that the run takes another last state than the measurement did, if so, and others."""
    other = f"the run takes the {last_state} last state, this measurement the {measurement.last_state} one"
    return "; ".join([each for each in others if each] + [other] * (last_state != measurement.last_state))


def selection_doubts(options: SelectionOptions, doubt: str) -> str:
    """A doubt, and what the run decides by that one measuring pass does not tell."""
    others = []
    if options.scores:
        others.append("the run chooses windows by what each costs, this by their skip block influence")
    if options.sensitivity == "fisher":
        others.append("the run keeps units by Fisher information, this by activations and weights")
    return "; ".join([doubt] * bool(doubt) + others)


def fitting(known: Known, sizes: Sequence[int], doubt: str, tried: int) -> Forecast | None:
    """What a method that fits windows would do.

    By block influence, it merges the windows where that is least in sum, but for one layer's. Once all windows that the
    run would try are among those whose cost was measured, it goes by that (``cheapest_measured``).

    Args:
        known: what is known.
        sizes: how many layers each merge takes.
        doubt: why a run may decide otherwise; where costs decide, there is none of that kind.
        tried: how many windows a run tries, those of least such sums.
    """
    if not sizes:
        return Forecast(fitted=True)
    if (measurement := known.measurement) is None:
        return None
    costs = {(each.first, each.last): each for each in known.costs}
    by: set[Literal["influence", "cost"]] = set()
    found: list[DraftWindow] = []
    taken: set[int] = set()
    for size in sorted(sizes, reverse=True):
        likely = windows_by_cost(known.model, measurement.block_influence, size, size)
        windows = [each for each in likely if not taken & set(range(each[0], each[1] + 1))]
        if not windows:
            return None
        window = cheapest_measured(costs, windows, tried)
        by.add("influence" if window is None else "cost")
        window = window or windows[0]
        taken |= set(range(window[0], window[1] + 1))
        found.append(fitted_window(measurement, *window))
    found.sort(key=lambda each: each.first)
    if by == {"cost"}:
        return Forecast(found, fitted=True, doubt=UNITS, by="cost")
    return Forecast(found, fitted=True, doubt=f"{doubt}; {UNITS}", by="influence")


UNITS = "which channels are kept is solved for in the run, not told by their sensitivity"


def cheapest_measured(costs: Mapping[Window, WindowCost], windows: Sequence[Window], tried: int) -> Window | None:
    """The window whose merge was measured to cost least, where it is clear; else the cheapest that a run would try.

    What is the cheapest of many by little on few tokens need not be so on others.

    Args:
        costs: what was measured.
        windows: those in question, the likeliest first.
        tried: how many of them a run would try; these have to be among what was measured.

    Returns:
        None where they are not all, or where to remove layers was cheaper still: a run finds that itself.
    """
    if not all(window in costs for window in windows[:tried]):
        return None

    def merged(cost: WindowCost) -> float:
        return cost.merged

    found = [costs[window] for window in windows if window in costs]
    usual = min(found[:tried], key=merged)
    best = min((cost for cost in found if cost.clearly_below(usual)), key=merged, default=usual)
    return best.window if best.merged <= min(each.removal_refitted for each in found) else None


def named(known: Known, windows: Sequence[Window], removed: Sequence[int], doubt: str) -> Forecast | None:
    """What a method that fits windows does with those that are named, and with layers that go beside them."""
    gone = sorted(removed)
    if not windows:
        return Forecast(removed=gone, fitted=True)
    if (measurement := known.measurement) is None:
        return None
    found = [fitted_window(measurement, first, last) for first, last in sorted(windows)]
    return Forecast(found, gone, doubt, fitted=True)


def merging(
    known: Known,
    options: WindowOptions,
    doubt: str,
    *,
    removed: Sequence[int] = (),
    ratios: Sequence[Sequence[float] | None] | None = None,
    exponent: float = 1.0,
    floor: float = 0.0,
) -> Forecast | None:
    """What a method that merges windows would do: ``draft``, and layers that are taken out beside it."""
    gone, windows = sorted(removed), options.windows
    if windows == [] or not known.surplus:
        return Forecast(removed=gone)
    if known.measurement is None:
        return None
    found = draft(
        known.measurement,
        known.target_layers if windows is None else None,
        windows=None if windows is None else [(first, last) for first, last in windows],
        ratios=ratios,
        span=options.span,
        exponent=exponent,
        floor=floor,
        no_repeat=options.no_repeat,
        model=known.model,
    )
    return Forecast(found, gone, doubts(options.last_state, known.measurement, doubt))
