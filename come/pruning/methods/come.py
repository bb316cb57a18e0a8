"""CoMe: concatenation-based merging, layer by layer (Wang et al. 2025, arXiv 2510.15304)."""

from __future__ import annotations

from dataclasses import dataclass

from come.errors import ComeError
from come.plan.steps import Concatenate
from come.pruning.allocate import ratio_from_influence
from come.pruning.by_hand import by_hand
from come.pruning.choice import Choice, SelectionOptions
from come.pruning.draft import decide
from come.pruning.forecast import Forecast, Known, merging
from come.pruning.progressive import progressive
from come.pruning.registry import Task, register
from come.pruning.result import Result


@dataclass(frozen=True)
class ComeOptions(SelectionOptions):
    """How CoMe chooses windows (``SelectionOptions``) and ratios.

    Attributes:
        exponent: how far the ratio follows block influence; 0 makes equal shares.
        floor: a lower bound of the largest share, by the number of original layers; 0 turns it off.
        ratios: for windows by hand, one ratio a window; None for automatic ones.
        passes: over how many measuring passes the merges are spread: 1 takes everything from one pass. By
            default there is a pass before every merge.
        drop: with windows by hand, original layers that are taken out after the merges.
    """

    exponent: float = 1.0
    floor: float = 0.0
    ratios: list[tuple[float, ...] | None] | None = None
    passes: int | None = None
    drop: list[int] | None = None

    def __post_init__(self) -> None:
        """Refuse values that make no sense for any model."""
        super().__post_init__()
        if not 0 <= self.floor <= 1:
            raise ComeError(f"A floor of {self.floor:g} makes no sense.", "Give a share from 0 (off) to 1.")
        if self.exponent < 0:
            raise ComeError(f"An exponent of {self.exponent:g} makes no sense.", "Give 0 (equal shares) or more.")
        if self.windows is None and self.ratios is not None:
            raise ComeError("Ratios go with windows.", "Give windows as well, one ratio each.")
        if self.windows is None and self.drop is not None:
            raise ComeError("Dropped layers go with windows by hand.", "Give windows as well, [] for none.")
        if self.passes is not None and (self.passes < 1 or self.windows is not None):
            raise ComeError(
                "The number of measuring passes makes no sense here.",
                "Give 1 or more, and none with windows by hand: they take one pass.",
            )


def forecast(known: Known, options: ComeOptions) -> Forecast | None:
    """The windows by hand, or those that one measuring pass would choose."""
    doubt = "the run measures again after each merge, so later windows may differ"
    return merging(
        known,
        options,
        doubt if options.windows is None else "",
        removed=options.drop or (),
        ratios=options.ratios,
        exponent=options.exponent,
        floor=options.floor,
    )


@register(
    "come",
    title="CoMe",
    paper="Wang et al. 2025, arXiv 2510.15304",
    summary="Merge adjacent layers into one by concatenating the most sensitive channels of each, step by step.",
    options=ComeOptions,
    needs=("forward",),
    stepwise=True,
    cost="One pass over the calibration tokens, then one through the layers from the last merge on for each more.",
    forecast=forecast,
)
def come(task: Task, options: ComeOptions) -> Result:
    """Merge windows of layers; a layer's share of the merged one follows its block influence."""

    def step(choice: Choice) -> Concatenate:
        ratio = choice.ratio
        if ratio is None:
            ratio = ratio_from_influence(choice.influence, options.exponent, options.floor, choice.stands_for)
        return decide(choice.window, ratio, choice.kv_groups, choice.channels)

    if options.windows is not None:
        return by_hand(task, options, step, options.ratios, options.drop or ())
    return progressive(task, options, step, options.passes)
