"""What a method would do, told before it runs: from one measurement of the original, or from nothing at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from come.measurement.measurement import Measurement
from come.models import Facts
from come.pruning.draft import DraftWindow, draft, most_sensitive_of
from come.pruning.options import SelectionOptions, WindowOptions
from come.pruning.windows import besides_dearest
from come.transforms.compatible import mixable


@dataclass(frozen=True)
class Known:
    """What is known before a run.

    Attributes:
        model: what kind of model it is; no weights are needed.
        target_layers: how many layers to leave.
        measurement: of the original model, where there is one.
    """

    model: Facts
    target_layers: int
    measurement: Measurement | None = None

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
        fitted: whether the windows' units are chosen together and maps are moved, as CoMe-Joint does; what is told here
            of the units that stay is then a guess by their sensitivity.
    """

    windows: list[DraftWindow] = field(default_factory=list)
    removed: list[int] = field(default_factory=list)
    doubt: str = ""
    fitted: bool = False


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


def fitting(known: Known, sizes: Sequence[int], doubt: str) -> Forecast | None:
    """What a method that fits windows would do: those of least block influence in sum, but for one layer's.

    Args:
        known: what is known.
        sizes: how many layers each merge takes.
        doubt: why the run may decide otherwise.
    """
    if not sizes:
        return Forecast(fitted=True)
    if (measurement := known.measurement) is None:
        return None
    found: list[DraftWindow] = []
    taken: set[int] = set()
    for size in sorted(sizes, reverse=True):
        windows = [
            (first, first + size - 1)
            for first in range(known.layers - size + 1)
            if not taken & set(range(first, first + size)) and mixable(known.model, first, first + size - 1) is None
        ]
        if not windows:
            return None
        window = min(windows, key=lambda each: besides_dearest(measurement.block_influence, each))
        taken |= set(range(window[0], window[1] + 1))
        found.append(most_sensitive_of(measurement, *window))
    return Forecast(sorted(found, key=lambda each: each.first), fitted=True, doubt=doubt)


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
