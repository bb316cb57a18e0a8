"""Which windows are merged next: by their skip block influence, or by what the change of the model costs on tokens.

- "kl", "loss": each window is merged, and the model scored by its divergence from the original or by its loss.
- "removal-loss": the loss with all layers of a window gone but one, whichever costs least.
- "window-loss": the loss with all of them gone.

Scores are of tokens that nothing else is decided on. All that is run for a candidate is the layers from its change on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from come.events import OnProgress, emit
from come.measurement.layer_runner import LayerRunner, check_finite
from come.measurement.statistics import Statistics
from come.models import Bundle
from come.plan.steps import Concatenate
from come.pruning.method import Task
from come.pruning.options import SelectionOptions
from come.pruning.scoring import Scorer
from come.pruning.windows import Window, choose_lowest, choose_several
from come.transforms.concatenate import concatenate

NAMES = {"kl": "KL", "loss": "loss", "removal-loss": "loss with one of its layers", "window-loss": "loss without it"}


@dataclass(frozen=True)
class Rules:
    """Which windows may be chosen.

    Attributes:
        sizes: how many layers each takes, in the order of choosing.
        possible: by size, whether the layers of each such window can become one, (layers - size + 1,).
        merged: for each layer, whether it is a merge already.
        no_repeat: leave those alone, as long as there are others.
    """

    sizes: Sequence[int]
    possible: Mapping[int, Tensor]
    merged: Sequence[bool]
    no_repeat: bool

    def lowest(self, cost: Callable[[int, Tensor], Tensor]) -> list[Window]:
        """The windows of lowest cost, as ``choose_lowest``."""
        return choose_lowest(cost, self.possible, self.sizes, self.merged, self.no_repeat)


@dataclass(frozen=True)
class Chosen:
    """Windows that were chosen from one look at a model.

    Attributes:
        windows: (first, last), lowest layer first.
        halves: what each half of the text alone would have chosen.
        scores: by size of window, the score of each such window, None where it was not in question; empty for SBI.
    """

    windows: list[Window]
    halves: tuple[list[Window], list[Window]]
    scores: dict[int, tuple[float | None, ...]] = field(default_factory=dict)

    def note(self, step: int) -> list[str]:
        """That it was too close to call, if it was: halves of the text chose otherwise."""
        if all(half == self.windows for half in self.halves):
            return []
        text = "the scoring text" if self.scores else "the text"
        return [
            f"Step {step}: too close to call. All of {text} chose {_named(self.windows)}, its first half "
            f"{_named(self.halves[0])}, its second half {_named(self.halves[1])} (numbering of this step)."
        ]


def _named(windows: Sequence[Window]) -> str:
    return ", ".join(f"{first}-{last}" for first, last in windows)


def by_distance(rules: Rules, statistics: Statistics, sbi_tokens: str) -> Chosen:
    """Windows by their skip block influence."""

    def pick(seen: Statistics) -> list[Window]:
        distances = {
            size: seen.skip_influence(size, sbi_tokens).where(possible, torch.inf)
            for size, possible in rules.possible.items()
        }
        return choose_several(distances, rules.sizes, rules.merged, rules.no_repeat)

    return Chosen(pick(statistics), (pick(statistics.half(0)), pick(statistics.half(1))))


Ways = Callable[[Window], Tensor]
"""Scores the ways to do without a window's layers but one, (ways, sequences); a merge is a single way."""


def by_score(rules: Rules, runner: LayerRunner, ways: Ways, by: str, on_progress: OnProgress, message: str) -> Chosen:
    """Windows by their cheapest way; the windows in question are scored once, whatever is then chosen by.

    Args:
        rules: which windows may be chosen.
        runner: the model as it is.
        ways: scores a window.
        by: one of ``NAMES``, for the words.
        on_progress: told of each window.
        message: what progress begins with.

    Raises:
        ComeError: the model overflows whichever window is chosen.
    """
    known: dict[Window, Tensor] = {}

    def score(window: Window) -> Tensor:
        if window not in known:
            found = ways(window)
            known[window] = found.where(found.isfinite(), torch.inf)  # what overflows is never the best
        return known[window]

    def pick(part: slice) -> list[Window]:
        def costs(size: int, allowed: Tensor) -> Tensor:
            values = torch.full(allowed.shape, torch.inf)
            asked = allowed.nonzero().flatten().tolist()
            for number, first in enumerate(asked, start=1):
                window = first, first + size - 1
                is_new = window not in known
                values[first] = score(window)[:, part].mean(1).min()
                if is_new:
                    words = f"{message}: window {first}-{window[1]}, {NAMES[by]} {float(values[first]):.4f}"
                    emit(on_progress, "compress", number, len(asked), words)
            check_finite(values[asked].min(), runner)
            return values

        return rules.lowest(costs)

    windows = pick(slice(None))
    sequences = next(iter(known.values())).shape[1]
    halves = windows, windows
    if sequences > 1:
        halves = pick(slice(sequences // 2)), pick(slice(sequences // 2, None))
    scores = {
        size: tuple(_mean(known.get((first, first + size - 1))) for first in range(len(possible)))
        for size, possible in rules.possible.items()
    }
    return Chosen(windows, halves, scores)


def _mean(ways: Tensor | None) -> float | None:
    """The score of a window by its cheapest way; None where it has none, or overflows."""
    if ways is None:
        return None
    found = ways.mean(1).min()
    return float(found) if bool(found.isfinite()) else None


def merged_ways(scorer: Scorer, runner: LayerRunner, bundle: Bundle, make: Callable[[Window], Concatenate]) -> Ways:
    """Scores the model with a window merged into one layer, made by ``make``."""

    def ways(window: Window) -> Tensor:
        (first, last), (module, origin) = window, concatenate(bundle, make(window))
        layers = [origin, *range(last + 1, len(runner))]
        return scorer.by_sequence(runner, first, layers, {origin: module})[None]

    return ways


def removal_ways(scorer: Scorer, runner: LayerRunner) -> Ways:
    """Scores the model with each layer of a window as the only one that stays of it."""
    known: dict[tuple[int, ...], Tensor] = {}

    def without(gone: tuple[int, ...]) -> Tensor:
        if gone not in known:
            layers = [layer for layer in range(gone[0], len(runner)) if layer not in gone]
            known[gone] = scorer.by_sequence(runner, gone[0], layers)
        return known[gone]

    def ways(window: Window) -> Tensor:
        layers = range(window[0], window[1] + 1)
        return torch.stack([without(tuple(layer for layer in layers if layer != kept)) for kept in reversed(layers)])

    return ways


def without_ways(scorer: Scorer, runner: LayerRunner) -> Ways:
    """Scores the model without any layer of a window."""

    def ways(window: Window) -> Tensor:
        first, last = window
        return scorer.by_sequence(runner, first, range(last + 1, len(runner)))[None]

    return ways


def parted(task: Task, options: SelectionOptions) -> tuple[Task, Tensor | None]:
    """The task with the calibration sequences that are measured, and those that windows are scored on, if they are."""
    scored = options.scoring_sequences(len(task.tokens))
    if not scored:
        return task, None
    options.check_sequences(len(task.tokens))
    return replace(task, tokens=task.tokens[:-scored]), task.tokens[-scored:]
