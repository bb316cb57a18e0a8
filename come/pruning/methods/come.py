"""CoMe: concatenation-based merging, layer by layer (Wang et al. 2025, arXiv 2510.15304)."""

from __future__ import annotations

from typing import Any

from pydantic import Field, model_validator

from come.errors import ComeError
from come.plan.steps import Concatenate
from come.pruning.allocate import check_ratio, concatenation, ratio_from_influence
from come.pruning.by_hand import by_hand
from come.pruning.chooser import Scoring
from come.pruning.forecast import Forecast, Known, merging, selection_doubts
from come.pruning.merging import Choice
from come.pruning.method import Task
from come.pruning.options import ByHandOptions, SelectionOptions
from come.pruning.progressive import PUBLISHED, progressive
from come.pruning.registry import register
from come.pruning.result import Result
from come.pruning.schedule import Calibration, Schedule, merging_schedule
from come.pruning.window_choice import parted
from come.pruning.windows import merges_a_pass


class ComeOptions(ByHandOptions, SelectionOptions):
    """How CoMe chooses windows (``SelectionOptions``) and ratios."""

    exponent: float = Field(
        1.0,
        ge=0,
        description="p: the share of a layer is proportional to its BI to the power p. 0 shares equally.",
    )
    floor: float = Field(
        0.0,
        ge=0,
        le=1,
        description="The largest share is at least floor^(1/(k-1)), k the original layers of a window. 0 is off.",
    )
    ratios: list[tuple[float, ...] | None] | None = Field(
        None, description="For windows by hand, one ratio a window; none for automatic ones."
    )
    passes: int | None = Field(
        None,
        ge=1,
        description="Over how many measuring passes the merges are spread; empty for a pass before every merge.",
    )

    @model_validator(mode="after")
    def _go_with_windows(self) -> ComeOptions:
        if self.windows is None and self.ratios is not None:
            raise ComeError("Ratios go with windows.", "Give windows as well, one ratio each.")
        if self.windows is not None and self.passes is not None:
            raise ComeError(
                "The number of measuring passes makes no sense here.",
                "Give 1 or more, and none with windows by hand: they take one pass.",
            )
        return self

    @property
    def one_by_one(self) -> bool:
        """Fewer passes take several windows from one."""
        return super().one_by_one and self.passes is None

    def target(self, model: Any, layers: int) -> int:
        """What windows by hand and dropped layers leave; refuses ratios that do not fit, too."""
        left, windows = super().target(model, layers), self.windows or []
        if self.ratios is not None:
            if len(self.ratios) != len(windows):
                raise ComeError(
                    f"There are {len(self.ratios)} ratios for {len(windows)} windows.",
                    "Give one ratio a window, or none at all.",
                )
            for (first, last), ratio in zip(windows, self.ratios, strict=True):
                if ratio is not None:
                    check_ratio(ratio, last - first + 1)
        return left

    def check(self, model: Any, layers: int, target: int) -> None:
        """Refuse more measuring passes than merges, too."""
        super().check(model, layers, target)
        merges_a_pass(layers, target, self.span, self.passes)


def forecast(known: Known, options: ComeOptions) -> Forecast | None:
    """The windows by hand, or those that one measuring pass would choose."""
    doubt = "the run measures again after each merge, so later windows may differ"
    return merging(
        known,
        options,
        selection_doubts(options, doubt if options.windows is None else ""),
        removed=options.drop or (),
        ratios=options.ratios,
        exponent=options.exponent,
        floor=options.floor,
    )


def work(known: Known, options: ComeOptions, tokens: Calibration) -> Schedule:
    """The passes and the merges."""
    return merging_schedule(known, options, tokens, passes=options.passes)


@register(
    "come",
    title="CoMe",
    paper="Wang et al. 2025, arXiv 2510.15304",
    summary="Merge adjacent layers into one by concatenating the most sensitive channels of each, step by step.",
    kind="merge",
    options=ComeOptions,
    needs=("forward",),
    stepwise=True,
    cost="One pass over the calibration tokens, then one through the layers from the last merge on for each more.",
    forecast=forecast,
    work=work,
    portfolio={},
    presets={"published": {"sbi_tokens": "last", "exponent": 1.0, "floor": 0.0, **PUBLISHED}},
)
def come(task: Task, options: ComeOptions) -> Result:
    """Merge windows of layers; a layer's share of the merged one follows its block influence."""

    def step(choice: Choice) -> Concatenate:
        ratio = choice.ratio
        if ratio is None:
            ratio = ratio_from_influence(choice.influence, options.exponent, options.floor, choice.stands_for)
        return concatenation(choice.window, ratio, choice.kv_groups, choice.channels)

    if options.windows is not None:
        return by_hand(task, options, step, options.ratios, options.drop or ())
    measured, scored = parted(task, options)
    return progressive(measured, options, step, options.passes, None if scored is None else Scoring(scored, step))
