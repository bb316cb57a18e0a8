"""What a method would do, told before it runs: from one measurement of the original, or from nothing at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from come.measurement.measurement import Measurement
from come.models import Facts
from come.pruning.draft import DraftWindow, draft
from come.pruning.options import SelectionOptions, WindowOptions


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
    """

    windows: list[DraftWindow] = field(default_factory=list)
    removed: list[int] = field(default_factory=list)
    doubt: str = ""


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
