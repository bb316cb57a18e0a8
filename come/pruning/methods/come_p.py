"""CoMe-P: CoMe with the ratio of each pair searched for (the paper's posterior variant, arXiv 2510.15304)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from pydantic import Field, model_validator

from come.errors import ComeError
from come.events import emit
from come.measurement.layer_runner import LayerRunner, check_finite
from come.measurement.suffix import losses_from
from come.plan.steps import Concatenate
from come.pruning.allocate import allocate, concatenation, pair_ratio, ratio_from_influence
from come.pruning.by_hand import by_hand
from come.pruning.chooser import Scoring
from come.pruning.forecast import Forecast, Known, merging, selection_doubts
from come.pruning.merging import Choice
from come.pruning.method import Task
from come.pruning.options import SelectionOptions
from come.pruning.progressive import PUBLISHED, progressive
from come.pruning.registry import register
from come.pruning.result import Result
from come.pruning.schedule import Calibration, Schedule, merging_schedule
from come.pruning.window_choice import parted
from come.transforms.concatenate import concatenate

MOST_CANDIDATES = 9  # of the coarse-to-fine search
MOST_PLATEAUS = 4


class ComePOptions(SelectionOptions):
    """How CoMe-P chooses windows (``SelectionOptions``; pairs only) and searches ratios."""

    granularity: int = Field(20, ge=1, description="G: the ratios tried are 0, 1/G, 2/G and so on up to 1.")
    search: Literal["grid", "coarse-to-fine"] = Field(
        "grid", description="Grid tries every ratio; coarse-to-fine at most nine of them."
    )

    @model_validator(mode="after")
    def _pairs(self) -> ComePOptions:
        if self.span != 2 or any(last - first != 1 for first, last in self.windows or ()):
            raise ComeError("CoMe-P merges pairs of layers only.", "Use the method come for longer windows.")
        return self


def forecast(known: Known, options: ComePOptions) -> Forecast | None:
    """CoMe's windows, with ratios by block influence."""
    doubt = "the run measures again after each merge and searches each ratio, which here follows block influence"
    return merging(known, options, selection_doubts(options, doubt))


def work(known: Known, options: ComePOptions, tokens: Calibration) -> Schedule:
    """CoMe's, and for each merge the candidates that differ."""
    tried = min(options.granularity, known.model.intermediate_size) + 1
    if options.search != "grid":
        tried = min(tried, MOST_CANDIDATES)
    return merging_schedule(known, options, tokens, tried=tried)


@register(
    "come-p",
    title="CoMe-P",
    paper="Wang et al. 2025, arXiv 2510.15304",
    summary="CoMe with each pair's ratio searched for: every candidate is merged and scored by the calibration loss.",
    kind="merge",
    options=ComePOptions,
    needs=("forward", "logits"),
    stepwise=True,
    cost="CoMe's passes, and for each merge every candidate ratio: the layers from the pair on and the head.",
    forecast=forecast,
    work=work,
    portfolio={"search": "coarse-to-fine"},
    presets={"published": {"sbi_tokens": "all", "granularity": 20, **PUBLISHED}},
)
def come_p(task: Task, options: ComePOptions) -> Result:
    """Merge pairs of layers, each by the ratio of lowest calibration loss; 0 and 1 are plain removals."""
    measured, scored = parted(task, options)

    def by_influence(choice: Choice) -> Concatenate:
        ratio = ratio_from_influence(choice.influence, 1.0, 0.0, choice.stands_for)
        return concatenation(choice.window, ratio, choice.kv_groups, choice.channels)

    def step(choice: Choice) -> Concatenate:
        score = Scorer(measured, options, choice)
        if options.search == "grid":
            best = grid(options.granularity, score)
        else:
            best = coarse_to_fine(options.granularity, score, score.plateaus())
        check_finite(torch.tensor(score(best)), score.runner)
        return score.candidate(best)

    if options.windows is not None:
        return by_hand(task, options, step)
    scoring = None if scored is None else Scoring(scored, by_influence)
    return progressive(measured, options, step, scoring=scoring)


def grid(granularity: int, loss: Callable[[int], float]) -> int:
    """The number of grid steps, 0 to ``granularity``, of lowest loss; the first on ties."""
    return min(range(granularity + 1), key=loss)


def coarse_to_fine(granularity: int, loss: Callable[[int], float], plateaus: Sequence[range] = ()) -> int:
    """Nearly the same in at most ``MOST_CANDIDATES`` looks: spread over the grid, then ever closer to the best.

    The loss jumps where a KV group goes from one layer to the other, and is smooth between. So the first looks are in
    the middle of each plateau between such jumps, if they are few enough, and at both ends (plain removals).

    Args:
        granularity: the ratios are 0, 1 / granularity, ..., 1.
        loss: of a number of grid steps.
        plateaus: the stretches of grid steps that share out the KV groups alike; they cover all of them.
    """
    seen: dict[int, float] = {}

    def look(at: int) -> None:
        if 0 <= at <= granularity and at not in seen and len(seen) < MOST_CANDIDATES:
            seen[at] = loss(at)

    middles = [(each[0] + each[-1]) // 2 for each in plateaus if len(each) > 1]
    if not 2 <= len(middles) <= MOST_PLATEAUS:
        middles = [round(granularity * quarter / 4) for quarter in (1, 2, 3)]
    for at in (0, granularity, *middles):
        look(at)
    reach = max(1, (granularity + 5) // 10)  # a quarter of the longer plateaus
    while True:
        best = min(sorted(seen), key=seen.__getitem__)
        look(best - reach)
        look(best + reach)
        if reach == 1:
            return min(sorted(seen), key=seen.__getitem__)
        reach = max(1, reach // 2)


class Scorer:
    """The calibration loss of merging a pair by a ratio; only the layers from the pair on and the head are run.

    Called with a number of grid steps. Candidates that keep the same units are scored once.
    """

    def __init__(self, task: Task, options: ComePOptions, choice: Choice) -> None:
        self.task, self.options, self.choice = task, options, choice
        self.runner = LayerRunner(choice.bundle)
        self.losses: dict[str, float] = {}

    def candidate(self, steps: int) -> Concatenate:
        """The merge that gives the first layer of the pair ``steps`` grid steps of the whole."""
        ratio, choice = pair_ratio(steps, self.options.granularity), self.choice
        return concatenation(choice.window, ratio, choice.kv_groups, choice.channels)

    def plateaus(self) -> list[range]:
        """The stretches of grid steps that share out the KV groups alike."""
        granularity, groups = self.options.granularity, len(self.choice.kv_groups[0])
        shares = [allocate(groups, pair_ratio(steps, granularity)) for steps in range(granularity + 1)]
        starts = [step for step in range(granularity + 1) if step == 0 or shares[step] != shares[step - 1]]
        return [range(start, end) for start, end in itertools.pairwise([*starts, granularity + 1])]

    def __call__(self, steps: int) -> float:
        """The mean loss over the calibration tokens."""
        step = self.candidate(steps)
        units = step.model_dump_json(include={"kv_groups", "channels"})
        if units not in self.losses:
            self.losses[units] = self._loss(step)
            message = f"Ratio {step.ratio[0]:.2f} : {step.ratio[1]:.2f}, loss {self.losses[units]:.4f}"
            emit(self.task.on_progress, "search", steps, self.options.granularity, message)
        return self.losses[units]

    def _loss(self, step: Concatenate) -> float:
        (first, last), choice = step.window, self.choice
        merged, origin = concatenate(choice.bundle, step)
        layers = [origin, *range(last + 1, len(self.runner))]
        losses = losses_from(
            self.runner,
            self.task.tokens,
            first,
            layers,
            {origin: merged},
            borders=choice.borders,
            batch_size=self.options.batch_size,
        )
        mean = float(losses.mean())
        return mean if math.isfinite(mean) else math.inf  # a candidate that overflows is never the best
