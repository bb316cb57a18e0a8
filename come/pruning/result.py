"""What pruning gives back."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from come.models import Bundle
from come.plan.plan import Plan


@dataclass(frozen=True)
class StepRecord:
    """One step of a method, as it was decided.

    Attributes:
        window: (first, last), inclusive, in the numbering of that step.
        ratio: the share of each layer of the window; empty for a removal.
        block_influence: BI of every layer, as measured before the step.
        skip_influence: SBI of every window, as measured before the step.
        seconds: how long the step took, measuring included.
        measured: the window in the numbering of what was measured, from which merges before it may be missing.
        refit: the error on held-out tokens before and after the refit, as shares of the target's own; None where
            there was none.
        scores: what every window of its size would have cost, before the step; None for one that was not in question.
            Empty where the window was not chosen by a score.
        scored_by: "kl", "loss" and so on, where it was (``come.pruning.window_choice``).
    """

    window: tuple[int, int]
    ratio: tuple[float, ...] = ()
    block_influence: tuple[float, ...] = ()
    skip_influence: tuple[float, ...] = ()
    seconds: float = 0.0
    refit: tuple[float, float] | None = None
    measured: tuple[int, int] | None = None
    scores: tuple[float | None, ...] = ()
    scored_by: str = ""

    @property
    def chosen_skip_influence(self) -> float | None:
        """SBI of its own window; None where windows of that size were not measured."""
        first, last = self.measured or self.window
        of_this_size = len(self.block_influence) == len(self.skip_influence) + last - first
        return self.skip_influence[first] if of_this_size and first < len(self.skip_influence) else None

    @property
    def chosen_score(self) -> float | None:
        """The score of its own window; None where windows were not scored."""
        return self.scores[(self.measured or self.window)[0]] if self.scores else None

    def to_dict(self) -> dict[str, Any]:
        """The record as JSON-ready values."""
        return asdict(self)


@dataclass(frozen=True)
class Result:
    """A pruned model, the plan that rebuilds it, and the steps that led there.

    Attributes:
        history: the steps that were taken now; with ``whole`` all of the plan, those of an interrupted run included.
    """

    bundle: Bundle
    plan: Plan
    history: list[StepRecord] = field(default_factory=list)
    whole: bool = False
