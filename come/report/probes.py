"""What a run's probe says: which layers each task is read from before and after pruning, and what it is worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import fmean, stdev
from typing import Any

from scipy.special import stdtrit

from come.evaluate.probed import Probe, mean_probe
from come.numbers import ranges
from come.report.card import Card, Cell, Row
from come.report.metrics import task_title
from come.runs import Run

MEAN = "mean of the tasks"
TITLE = "Which layers a task is read from"


@dataclass(frozen=True)
class Pair:
    """A task's probe of both models, or the mean of all tasks' (then its name is ``MEAN``).

    Attributes:
        shifts: of a mean, how much deeper each task is read after pruning, as a share of the depth.
    """

    name: str
    before: Probe
    after: Probe
    shifts: tuple[float, ...] = ()

    @property
    def reach(self) -> float | None:
        """Half the 95% interval of the mean shift, by its spread over the tasks; None of one task."""
        if len(self.shifts) < 2:
            return None
        return float(stdtrit(len(self.shifts) - 1, 0.975)) * stdev(self.shifts) / sqrt(len(self.shifts))

    @property
    def finding(self) -> str:
        """How deep the task is read, in one sentence, and whether what pruning did to that can be told from chance."""
        who = "The tasks are" if self.name == MEAN else f"“{self.name[:1].upper()}{self.name[1:]}” is"
        was, now = (f"{each.depth:.0%}" for each in (self.before, self.after))
        if was == now:
            return f"{who} read at {was} of the depth on average, before and after pruning"
        found = f"{who} read at {was} of the depth on average, after pruning at {now}"
        if self.reach is None:
            return f"{found}: one task is too few to tell these apart"
        return found if abs(fmean(self.shifts)) > self.reach else f"{found}: too few questions to tell these apart"

    @property
    def worth(self) -> str:
        """What all layers say beyond the last, in one sentence, and what that rests on."""
        before, after = (f"{_points(each.gain)} ± {100 * each.gain_stderr:.1f}" for each in (self.before, self.after))
        told = (
            f"All layers together against the last alone: {before} points before, {after} after. Learned on "
            f"{self.before.train} questions, judged on {self.before.held_out} others; ± is one standard error."
        )
        return f"{told} {self.shifted}".strip()

    @property
    def shifted(self) -> str:
        """How much deeper the tasks are read after pruning, in one sentence; "" of one task."""
        if self.reach is None:
            return ""
        by = f"{_points(fmean(self.shifts))} ± {100 * self.reach:.1f}"
        return f"Read {by} points of the depth deeper after pruning: a 95% interval, by {len(self.shifts)} tasks."

    @property
    def card(self) -> Card:
        """How many of the questions held out are answered rightly, before and after."""
        sides = (self.before, self.after)
        rows = (
            _row("Mix of all layers", [(each.accuracy, each.stderr) for each in sides]),
            _row("Last layer alone", [(each.last_accuracy, each.last_stderr) for each in sides]),
            Row("Guessing", tuple(Cell(f"{each.chance:.1%}") for each in sides)),
        )
        return Card(("Before", "After", "Change"), rows)


def pairs_of(results: Mapping[str, Any]) -> list[Pair]:
    """The tasks that both models of results.json were probed on; where there are several, their mean comes first."""
    before, after = ((results.get(side) or {}).get("probe") or {} for side in ("original", "pruned"))
    found = [
        Pair(task_title(task), Probe.from_results(before[task]), Probe.from_results(after[task]))
        for task in after
        if task in before
    ]
    if len(found) < 2:
        return found
    shifts = tuple(each.after.depth - each.before.depth for each in found)
    mean = Pair(MEAN, mean_probe([each.before for each in found]), mean_probe([each.after for each in found]), shifts)
    return [mean, *found]


def states_of(probe: Probe, groups: Sequence[Sequence[int]] = ()) -> list[str]:
    """What each weight is of, in words.

    Args:
        probe: of one model.
        groups: the original's layers that each of a pruned model's stands for; of others, nothing.
    """
    if len(groups) == len(probe.weights) - 1:
        return ["the embeddings", *(f"after the original's {ranges(group)}" for group in groups)]
    return ["the embeddings", *(f"after layer {layer}" for layer in range(len(probe.weights) - 1))]


def groups_of(run: Run) -> list[list[int]]:
    """The original's layers that each of a run's model stands for.

    Raises:
        ComeError: its plan is damaged.
    """
    plan = run.plan()
    return plan.groups() if plan else []


def _row(name: str, shares: Sequence[tuple[float, float]]) -> Row:
    cells = tuple(Cell(f"{share:.1%}", f"± {100 * stderr:.1f}") for share, stderr in shares)
    return Row(name, cells, Cell(f"{_points(shares[-1][0] - shares[0][0])} points"))


def _points(share: float) -> str:
    return f"{100 * share:+.1f}".replace("-", "−")
