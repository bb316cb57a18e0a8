"""What LaCo and SLM share: merging by summed differences, judged by the last hidden state, down to a target.

Both take a window of layers l, ..., l + n for one layer with the parameters
theta_l + sum_k (theta_(l+k) - theta_l), k = 1, ..., n, as long as the cosine of the last hidden state to the original
model's stays over a threshold. Their published programs subtract the sum so far instead of theta_l, so that the sum
telescopes: what is left are the linear maps of the window's last layer between the norms of its first. That is
``formula="published"``.

Neither aims at a layer count. Here the threshold is the largest of a series that reaches the target, and the window
that would go past it is shortened.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from come.errors import ComeError
from come.events import emit
from come.measurement.calibrate import batches
from come.measurement.hidden_state_cache import HiddenStateCache
from come.measurement.layer_runner import LayerRunner
from come.measurement.suffix import each_border
from come.models import Bundle
from come.plan.steps import Average
from come.pruning.common import averageable, take_averages
from come.pruning.forecast import Known
from come.pruning.method import Task
from come.pruning.options import FewTokensOptions
from come.pruning.result import Result
from come.pruning.schedule import Calibration, Schedule
from come.pruning.windows import Window
from come.transforms.average import average
from come.transforms.rebuild import apply_step

SERIES = tuple(round(0.95 - 0.05 * i, 2) for i in range(20))
"""The thresholds that are tried, from the top: 0.95, 0.90, ..., 0.00. After them, everything is accepted."""

Windows = tuple[Window, ...]
Score = Callable[[Windows, Window], float | None]
"""The similarity once a window is merged too after some others were; None where its layers cannot be averaged."""
Search = Callable[[float, Score], Windows]
"""The windows that a threshold leads to, each (first, last) in the numbering of its step."""


class CollapseOptions(FewTokensOptions):
    """How a merge is judged, and on which tokens (the papers take 5 to 10 sequences)."""

    formula: Literal["paper", "published"] = Field(
        "paper",
        description="What a window becomes: its first layer and the differences of the others to it (paper), or what "
        "the published program makes of it, whose sum telescopes: the linear maps of the last layer between the norms "
        "of the first.",
    )
    threshold: float | Literal["auto"] = Field(
        "auto",
        description="The cosine that must be exceeded. Where it does not reach the target, the next lower one of 0.95, "
        "0.90, ..., 0.00 that does is taken, and at last every merge; auto starts at 0.95.",
    )
    similarity: Literal["sequence", "all", "last"] = Field(
        "sequence",
        description="How the last hidden states of two models are compared: the cosine of a sequence's states put end "
        "to end (the published programs'), the mean over all tokens, or over the last of each sequence.",
    )

    @model_validator(mode="after")
    def _a_cosine(self) -> CollapseOptions:
        if self.threshold != "auto" and not -1 <= self.threshold < 1:
            raise ComeError(f"A threshold of {self.threshold:g} is no cosine.", "Give -1 to below 1, or 'auto'.")
        return self


def work(known: Known, options: CollapseOptions, tokens: Calibration) -> Schedule:
    """Each layer is tried at each of a few thresholds, over half of the layers."""
    layers = known.layers
    return Schedule(
        [float(layers)],
        known.surplus,
        candidates=[(3 * layers, layers / 2)],
        candidate_tokens=options.count(tokens.n_tokens),
        guessed=True,
    )


def summed_differences(window: Window, formula: str = "paper") -> Average:
    """What a window becomes, as weights of its layers.

    Of theta_l + sum_k (theta_(l+k) - theta_l) they are (1 - n, 1, ..., 1); of the published programs, for the linear
    maps alone, (0, ..., 0, 1).
    """
    more = window[1] - window[0]
    if formula == "published":
        return Average(window=window, weights=[*[0.0] * more, 1.0], rest="first")
    return Average(window=window, weights=[1.0 - more, *[1.0] * more])


def collapse(task: Task, options: CollapseOptions, search: Search) -> Result:
    """Merge the windows that the largest threshold leads to by which ``search`` reaches the target."""
    if len(task.current.layers) == task.target_layers:
        return Result(task.current, task.plan)
    began = time.perf_counter()
    windows, note = reach(task, options, search)
    if not task.plan.steps:  # a plan that was interrupted has the note already
        task = dataclasses.replace(task, plan=task.plan.with_note(note))
    steps = [summed_differences(window, options.formula) for window in windows]
    return take_averages(task, steps, time.perf_counter() - began)


def reach(task: Task, options: CollapseOptions, search: Search) -> tuple[Windows, str]:
    """The windows that reach the target, and what to note of the threshold that led to them."""
    layers, target = len(task.original.layers), task.target_layers
    given = options.threshold if options.threshold != "auto" else None
    thresholds = [*SERIES, -math.inf]
    if given is not None:
        thresholds = [given, *(threshold for threshold in thresholds if threshold < given)]
    similarity = Similarity(task.original, options.few(task.tokens), options)
    left = []
    for number, threshold in enumerate(thresholds):

        def score(taken: Windows, window: Window, number: int = number, threshold: float = threshold) -> float | None:
            found = similarity(taken, window)
            if found is not None:
                name = "No threshold" if threshold == -math.inf else f"Threshold {threshold:.2f}"
                message = f"{name}: layers {window[0]} to {window[1]} as one, cosine {found:.3f}"
                emit(task.on_progress, "compress", 900 * number // len(thresholds), 1000, message)
            return found

        windows = search(threshold, score)
        left.append(layers - sum(last - first for first, last in windows))
        if left[-1] == target:
            break
    assert left[-1] == target, f"{left[-1]} layers, {target} wanted"
    return windows, _note(given, threshold, left[0], target)


def _note(given: float | None, used: float, left: int, target: int) -> str:
    if used == given:
        return f"Threshold {used:.2f}, as given."
    found = "no threshold down to 0 reaches" if used == -math.inf else f"{used:.2f} is the largest that reaches"
    ending = "; every merge was accepted." if used == -math.inf else "."
    if given is None:
        return f"Of the thresholds 0.95, 0.90, ..., 0.00, {found} {target} layers{ending}"
    return (
        f"The threshold {given:.2f} leaves {left} layers. "
        f"Of the lower ones in 0.95, 0.90, ..., 0.00, {found} {target}{ending}"
    )


class Similarity:
    """The cosine of a merged model's last hidden state to the original's; what was scored once is remembered.

    Hidden states at the original's layer borders are kept, so that only the layers from the lowest merge on are run.
    """

    def __init__(self, original: Bundle, tokens: Tensor, options: CollapseOptions) -> None:
        self.tokens, self.options = tokens, options
        self.borders = HiddenStateCache.of(original, tokens)
        self.found: dict[tuple[Windows, Window], float] = {}
        # The model after each of the windows that were taken last.
        self.path: list[tuple[Windows, Bundle, LayerRunner]] = [((), original, LayerRunner(original))]
        self.last_states = self._last_states_of_the_original()

    def __call__(self, taken: Windows, window: Window) -> float | None:
        """The similarity with ``window`` merged too, after those that were taken; None where it cannot be."""
        bundle, runner = self._after(taken)
        if not averageable(bundle, *window):
            return None
        if (taken, window) not in self.found:
            lowest = min(first for first, _ in (*taken, window))
            merged = average(bundle, summed_differences(window, self.options.formula))
            self.found[taken, window] = self._similarity(runner, window, merged, lowest)
        return self.found[taken, window]

    def _after(self, taken: Windows) -> tuple[Bundle, LayerRunner]:
        while self.path[-1][0] != taken[: len(self.path) - 1]:
            self.path.pop()
        for count in range(len(self.path), len(taken) + 1):
            step = summed_differences(taken[count - 1], self.options.formula)
            bundle = apply_step(self.path[-1][1], step)
            self.path.append((taken[:count], bundle, LayerRunner(bundle)))
        return self.path[-1][1:]

    @torch.inference_mode()
    def _last_states_of_the_original(self) -> list[Tensor]:
        runner = self.path[0][2]
        found = []
        for batch in batches(self.tokens, self.options.batch_size):
            for border, hidden_states in each_border(runner, batch, self.borders):
                if border == len(runner):
                    found.append(runner.norm(hidden_states).float().cpu())
        return found

    @torch.inference_mode()
    def _similarity(self, runner: LayerRunner, window: Window, merged: nn.Module, lowest: int) -> float:
        """The mean over sequences, of a model that is the original below layer ``lowest``."""
        (first, last), found = window, []
        for batch in batches(self.tokens, self.options.batch_size):
            hidden_states = runner.enter(batch.tokens)
            at, kept = self.borders.nearest(batch.index, lowest)
            hidden_states = kept.to(hidden_states.device) if kept is not None else hidden_states
            for layer in [*range(at, first + 1), *range(last + 1, len(runner))]:
                hidden_states = runner.run(layer, hidden_states, merged if layer == first else None)
            last_states = runner.norm(hidden_states).float().cpu()
            found.append(cosines(self.last_states[batch.index], last_states, self.options.similarity))
        mean = float(torch.cat(found).mean())
        return -1.0 if math.isnan(mean) else mean  # a merge that overflows is as unlike as can be


def cosines(a: Tensor, b: Tensor, of: str) -> Tensor:
    """The cosine of each pair of sequences' states, (sequences, tokens, hidden_size) -> (sequences,)."""
    if of == "sequence":
        return torch.cosine_similarity(a.flatten(1), b.flatten(1), dim=-1)
    by_token = torch.cosine_similarity(a, b, dim=-1)
    return by_token[:, -1] if of == "last" else by_token.mean(1)
