"""After a measuring pass: which windows are merged next, and all that their steps may be decided on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from come.events import OnProgress
from come.measurement.hidden_state_cache import HiddenStateCache
from come.measurement.layer_runner import LayerRunner
from come.measurement.statistics import Statistics
from come.models import Bundle
from come.plan.plan import Plan
from come.pruning.merging import Choice, MakeStep, overall
from come.pruning.method import Task
from come.pruning.options import SelectionOptions
from come.pruning.scoring import Scorer
from come.pruning.unit_sensitivity import Units, by_fisher, by_magnitude
from come.pruning.window_choice import Chosen, Rules, by_distance, by_score, merged_ways, removal_ways, without_ways
from come.pruning.windows import Window
from come.transforms.compatible import mixable_windows

Part = Literal["measuring", "gradients", "scoring"]
# About how long the parts of a step take, as shares of its measuring.
LONG: dict[Part, float] = {"measuring": 1.0, "gradients": 3.0, "scoring": 2.0}


@dataclass(frozen=True)
class Scoring:
    """What windows are scored on, and as what.

    Attributes:
        tokens: int64 (sequences, tokens), of which nothing is measured.
        make_step: makes the step by which a window that is scored is merged.
    """

    tokens: Tensor
    make_step: MakeStep


class Chooser:
    """Chooses windows after each measuring pass of a run.

    Attributes:
        borders: hidden states of the model on the tokens that are measured.
    """

    def __init__(self, task: Task, options: SelectionOptions, scoring: Scoring | None, steps: int) -> None:
        """Make room for what is kept from pass to pass.

        Args:
            task: the model, and the tokens that are measured.
            options: how windows are chosen.
            scoring: where they are chosen by scores.
            steps: how many merges the run makes, for its progress.
        """
        self.task, self.options, self.steps = task, options, steps
        self._make_step = scoring.make_step if scoring is not None else None
        tokens = [task.tokens] if scoring is None else [task.tokens, scoring.tokens]
        budgets = shares_of(options.memory_budget, [len(each) for each in tokens])
        self.borders = HiddenStateCache.of(task.current, task.tokens, budgets[0])
        self._scorer: Scorer | None = None
        if scoring is not None:
            by: Literal["kl", "loss"] = "kl" if options.select == "kl" else "loss"
            self._scorer = Scorer(task.original, scoring.tokens, by, options.batch_size, budgets[1])

    def progress(self, part: Part, step: int) -> OnProgress:
        """Progress of a part of the step of that number, from 0, as progress of all steps."""
        parts: list[Part] = ["measuring"]
        if self._scorer is not None:
            parts.append("scoring")
        if self.options.sensitivity == "fisher":
            parts.insert(1 if self._merges_first else len(parts), "gradients")
        total = sum(LONG[each] for each in parts)
        before = sum(LONG[each] for each in parts[: parts.index(part)])
        return overall(self.task.on_progress, step, self.steps, (before / total, (before + LONG[part]) / total))

    def after_change(self, first: int) -> None:
        """Forget what was scored above a model's layer ``first``, which was changed."""
        if self._scorer is not None:
            self._scorer.after_change(first)

    def choose(
        self, bundle: Bundle, plan: Plan, statistics: Statistics, step: int, sizes: Sequence[int]
    ) -> tuple[list[Choice], Chosen]:
        """The windows to merge after a pass, lowest first, and how they came to be chosen.

        Args:
            bundle, plan: the model that was measured, and how it was made.
            statistics: what was measured.
            step: which merge of the run is the next, from 0.
            sizes: how many layers each window takes.
        """
        stands_for = [len(group) for group in plan.groups()]
        possible = {size: torch.tensor(mixable_windows(bundle, len(stands_for), size)) for size in set(sizes)}
        rules = Rules(sizes, possible, [count > 1 for count in stands_for], self.options.no_repeat)
        influence = statistics.block_influence().tolist()

        def choice_of(window: Window, units: Units) -> Choice:
            layers = range(window[0], window[1] + 1)
            of_layers = [units(layer) for layer in layers]
            return Choice(
                bundle=bundle,
                window=window,
                influence=[influence[layer] for layer in layers],
                kv_groups=[kv_groups for kv_groups, _ in of_layers],
                channels=[channels for _, channels in of_layers],
                stands_for=sum(stands_for[layer] for layer in layers),
                borders=self.borders,
            )

        scorer, make_step = self._scorer, self._make_step
        if scorer is None or make_step is None:
            chosen = by_distance(rules, statistics, self.options.sbi_tokens)
            units = self._units(bundle, statistics, step, chosen.windows[0][0])
            return [choice_of(window, units) for window in chosen.windows], chosen

        runner = LayerRunner(bundle)
        told = self.progress("scoring", step)
        words = f"Step {step + 1} of {self.steps}"
        if self._merges_first:
            units = self._units(bundle, statistics, step, 0)
            ways = merged_ways(scorer, runner, bundle, lambda window: make_step(choice_of(window, units)))
            chosen = by_score(rules, runner, ways, self.options.select, told, words)
        else:
            removed = without_ways if self.options.select == "window-loss" else removal_ways
            chosen = by_score(rules, runner, removed(scorer, runner), self.options.select, told, words)
            units = self._units(bundle, statistics, step, chosen.windows[0][0])
        return [choice_of(window, units) for window in chosen.windows], chosen

    @property
    def _merges_first(self) -> bool:
        """Whether windows are merged to be scored, so that units are chosen before windows are."""
        return self.options.select in ("kl", "loss")

    def _units(self, bundle: Bundle, statistics: Statistics, step: int, lowest: int) -> Units:
        """How much the units of the layers from ``lowest`` on matter."""
        if self.options.sensitivity == "magnitude":
            return by_magnitude(bundle, statistics)
        return by_fisher(
            bundle,
            self.task.tokens,
            lowest,
            borders=self.borders,
            batch_size=self.options.batch_size,
            on_progress=self.progress("gradients", step),
        )


def shares_of(budget: int | None, sequences: Sequence[int]) -> list[int | None]:
    """A budget of bytes, shared out by how many sequences each part has; None stays as it is."""
    return [None if budget is None else budget * each // sum(sequences) for each in sequences]
